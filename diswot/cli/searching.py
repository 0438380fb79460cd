"""The verbs `search` and `score`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from diswot import runs
from diswot.budget import UNLIMITED, Budget
from diswot.cli.flags import OF_A_RUN, flags_of, own_space, running, words
from diswot.cli.request import Request
from diswot.config import ScoreConfig, SearchConfig
from diswot.errors import ConfigError
from diswot.report.terminal import screen_width, show_table

if TYPE_CHECKING:
    from diswot.scoring.recipe import ScorePlan
    from diswot.searching.recipe import SearchPlan


@click.command()
@flags_of(SearchConfig)
@running("device", "workers", "executor", "patience", "cache", *OF_A_RUN, "out")
@words("[KEY=VALUE]...")
def search(words: tuple[str, ...], out: str, **flags: Any) -> None:
    """Search a space for the student that should distil best within a budget.

    Candidates are scored at random initialisation: by how much they can hold, and how well features and gradients tell images apart in
    them (--proxy diswot: by how alike they are to the teacher). Nothing is trained. The run is kept in runs/NAME and survives being
    killed; the winner is also left as ./arch.json.

    [bold]diswot search --teacher resnet56 --params 1M[/]

    [bold]diswot search --teacher resnet34 --space s2 --params 0.5M..1M --flops 100M --data images.npz[/]

    [bold]diswot search --resume runs/NAME[/]
    """
    request = Request("search", SearchConfig, words, flags)
    request.refuse_subjects()
    if not out or Path(out).is_dir() or not Path(out).parent.is_dir():
        fault = "it is a folder" if Path(out).is_dir() else f"there is no folder {Path(out).parent}"
        raise ConfigError(f"--out {out}: {fault}; name a file, as arch.json")
    config = request.config()
    config.check()
    Budget.parse(config.limits())  # a mistake here is told before torch is loaded
    budget = next((limit for limit in config.limits().values() if limit not in (None, UNLIMITED)), None)

    def plan() -> SearchPlan:
        from diswot.searching.recipe import SearchPlan

        return SearchPlan(config)

    outcome = request.carry_out(plan, lambda: [config.teacher, budget])
    from diswot.cli import output
    from diswot.searching.next_step import needed_flags

    result, folder = outcome.result, outcome.folder
    aside = runs.back_up_file(Path(out))
    runs.write_atomic(Path(out), result.arch_json())
    if flags["as_json"]:
        click.echo(json.dumps({**result.summary(), "folder": str(folder)}))
        return
    if result.front:
        show_table(output.front_table(result))
    show_table(output.search_table(result))
    for remark in result.remarks():
        click.echo(remark)
    moved = f" (the earlier one is now {aside})" if aside else ""
    flags_needed = needed_flags(SearchConfig(**result.provenance["search"]), result.provenance["data"]["input_size"])
    click.echo(f"{out}: the winner{moved}; the run is in {folder}\nnext: diswot distill {out}{flags_needed}")
    click.echo(f"or, was it worth it?   diswot compare {folder}/{'front' if result.front else 'finalists/*.json'}{flags_needed}")


@click.command()
@words("ARCHITECTURE... [KEY=VALUE]...")
@flags_of(ScoreConfig)
@running("device", "workers", "executor", "patience", "cache", "quiet", "json", "config", "name", "runs", "resume", "allow")
@own_space
def score(words: tuple[str, ...], space: str | None, **flags: Any) -> None:
    """Score given architectures: arch.json files, NAS-Bench-201 strings, names of hand-made networks.

    With --name the scores are kept in runs/NAME, and a run that was cut off is resumed.

    [bold]diswot score arch.json resnet20 --proxy diswot,params,flops[/]
    """
    needed = "no architecture was given: name an arch.json, a NAS-Bench-201 string or a network such as resnet20"
    request = Request("score", ScoreConfig, words, flags, needed)

    def plan() -> ScorePlan:
        from diswot.models.named import read_architecture
        from diswot.scoring.recipe import ScorePlan

        archs = tuple(read_architecture(text, space)[0] for text in request.subjects)
        return ScorePlan(request.config(), archs, space)

    rows = request.carry_out(plan, lambda: ["score"], keep=False).result
    from diswot.cli import output

    if flags["as_json"]:
        click.echo(json.dumps(output.score_json(rows)))
    else:
        names = request.subjects or [output.short_name(row.arch) for row in rows]
        for table in output.score_tables(rows, names, screen_width()):
            show_table(table)
