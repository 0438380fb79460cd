"""docs/parts and docs/reference/commands.md, from what the code declares: every proxy, ranking, loss and option.

    python scripts/write_part_pages.py            # writes them anew; a test holds that they are up to date

Sources and traps are in scripts/parts.yaml; costs are in docs/parts/*.csv, which scripts/benchmark_proxies.py and
scripts/benchmark_losses.py write.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import rich_click as click
import yaml

from diswot.cli.app import cli
from diswot.losses import LOSSES, Loss
from diswot.proxies import PROXIES, RANKINGS, Proxy

ROOT = Path(__file__).resolve().parents[1]
PARTS = ROOT / "docs" / "parts"
BY_SCRIPT = "<!-- Written by scripts/write_part_pages.py: change the code, scripts/parts.yaml or this script, and run it. -->"

PROXIES_HEAD = """# Every proxy and ranking

{note}

A proxy is a score of an untrained network, higher is better; a ranking puts several together. `--proxy` takes the name of either, several
with commas between, `loss:NAME` for a distillation loss between candidate and teacher, or [one of your own](../extending/proxy.md). What
the formulas of the paper's metrics are: [metrics](../guide/metrics.md). How far each can be trusted: [the science](../results/README.md).

## Rankings

`rank` adds up ranks, `log` their logarithms, `sum` the raw scores. *Seeds x images* is what is taken where nothing else is asked for.

"""
PROXIES_MIDDLE = """
## Proxies

*Cost* is the time of the score over that of one forward and backward pass of the same network on the same 16 images: a single network of
NAS-Bench-201 on one thread, by its own clock, the faster of two turns, on a busy machine, so read it as an order of size. It is measured
as `scripts/benchmark_proxies.py` does it, which takes more networks. A proxy alone pays for all its passes; proxies that are scored
together share them ([together](../results/studies.md#cost)). `te_ntk` grows with the number of images (31 at 64). Batch norm runs on
the batch's statistics where nothing else is said.

"""
LOSSES_HEAD = """# Every loss

{note}

`--loss` takes a name, a name with options, or a sum: `dkd(beta=2) + 0.5*rkd`. Conventions, and where papers and their code differ:
[losses](../guide/losses.md). Options that are not given have the values below. *Adds* is the time of the loss and its gradients, as a
share of a whole step of `kd`: ResNet-56 teaches ResNet-20, 64 images of 32 pixels, 100 classes, one thread
(`scripts/benchmark_losses.py`). *Weights* are those of layers of
the loss's own between these two networks; they are left out of the student.

"""
LOSSES_FOOT = """
The weights are the papers'. What a weight does depends on the data more than on the length of the training
([measured](../results/distillation.md#weights-and-the-length-of-the-training)), so try `--sweep`. DOT (`--dot-delta`, Zhao et al., ICCV
2023) is no loss but an optimiser.
"""
FIELDS = {
    "weight": "the classifier's weight",
    "preacts": "maps before the ReLU",
    "features": "the last map",
    "indices": "",
    "norms": "",
    "token_logits": "a token's logits",
}


def main() -> None:
    for path, text in pages().items():
        path.write_text(text)


def pages() -> dict[Path, str]:
    """The text of every page by its path."""
    notes = yaml.safe_load((ROOT / "scripts" / "parts.yaml").read_text())
    for kind, known in (("proxies", PROXIES), ("rankings", RANKINGS), ("losses", LOSSES)):
        if odd := set(known) ^ set(notes[kind]):
            raise SystemExit(f"scripts/parts.yaml: {kind}: not in both it and the code: {', '.join(sorted(odd))}")
    return {
        PARTS / "proxies.md": proxies_page(notes),
        PARTS / "losses.md": losses_page(notes["losses"]),
        ROOT / "docs" / "reference" / "commands.md": commands_page(),
    }


def proxies_page(notes: Mapping[str, Mapping[str, tuple[str, str]]]) -> str:
    costs = figures("proxy_costs.csv")
    rankings = [
        [code(name), ranking.describe(), notes["rankings"][name][0], f"{ranking.seeds} x {ranking.batch_size}", notes["rankings"][name][1]]
        for name, ranking in RANKINGS.items()
    ]
    proxies = [
        [
            code(name),
            proxy.summary,
            notes["proxies"][name][0],
            looks_at(proxy),
            shape(proxy),
            costs.get(name, {}).get("times", ""),
            notes["proxies"][name][1],
        ]
        for name, proxy in PROXIES.items()
    ]
    return (
        PROXIES_HEAD.format(note=BY_SCRIPT)
        + wide(["ranking", "formula", "source", "seeds x images", "traps"], rankings)
        + PROXIES_MIDDLE
        + wide(["proxy", "what it is", "source", "looks at", "seeds x images", "cost", "traps"], proxies)
    )


def looks_at(proxy: Proxy) -> str:
    """What a proxy is computed on, in words."""
    described = proxy.describe().removeprefix(proxy.summary).strip(" ()")
    return described or "the count alone"


def shape(proxy: Proxy) -> str:
    return f"{proxy.seeds} x {proxy.batch_size}" if proxy.runs_network and proxy.input != "-" else ""


def losses_page(notes: Mapping[str, tuple[str, str]]) -> str:
    costs = figures("loss_costs.csv")
    rows = []
    for name, loss in LOSSES.items():
        cost, (source, traps) = costs[name], notes[name]
        own = f"; {int(cost['own_weights']):,} weights" if int(cost["own_weights"]) else ""
        rows.append(
            [
                code(name),
                re.sub(r" \([^()]*\)$", "", loss.summary),
                source,
                reads(loss),
                options(loss),
                f"{cost['percent_of_a_kd_step']} %{own}",
                traps,
            ]
        )
    head = ["loss", "what is matched", "source", "looks at", "options", "adds", "traps"]
    return LOSSES_HEAD.format(note=BY_SCRIPT) + wide(head, rows) + LOSSES_FOOT


def reads(loss: type[Loss]) -> str:
    """What a loss looks at, and of whom."""
    seen = [FIELDS.get(need, need) for need in sorted(loss.needs | loss.student_needs)]
    whole = ["the whole batch"] if loss.needs_whole_batch else []
    by = {"Alone": "", "Peers": "; of peers", "PreviousStep": "; of its own last step"}.get(loss.scheme.__name__, "")
    return ", ".join(filter(None, [*seen, *whole])) + by


def options(loss: type[Loss]) -> str:
    return ", ".join(
        code(f"{field.name}={field.default}") for field in dataclasses.fields(loss) if field.init and field.default is not None
    )


def commands_page() -> str:
    """Every command with its help and options."""
    lines = [
        "# The commands",
        "",
        BY_SCRIPT,
        "",
        "`diswot VERB --help` says the same. Options go into a YAML file too, with underscores: `--config file.yaml key=value`.",
        "",
    ]
    with click.Context(cli) as context:
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            assert command is not None
            lines += command_section(name, command)
    return "\n".join(lines)


def command_section(name: str, command: click.Command) -> Iterator[str]:
    """A heading, the help and the table of options of a command."""
    arguments = " ".join(
        parameter.make_metavar(click.Context(command)) for parameter in command.params if isinstance(parameter, click.Argument)
    )
    paragraphs = [(" ".join(paragraph.split()), "[bold]" in paragraph) for paragraph in (command.help or "").split("\n\n")]
    yield from (f"## diswot {name}", "", f"`diswot {name} {arguments}`".replace(" `", "`"), "")
    yield from (line for text, example in paragraphs if text and not example for line in (plain(text), ""))
    if examples := [plain(text) for text, example in paragraphs if example]:
        yield from ("```text", *examples, "```", "")
    rows = [
        [code(", ".join([*option.opts, *option.secondary_opts])), plain(option.help or "")]
        for option in command.params
        if isinstance(option, click.Option)
    ]
    if rows:
        yield table(["option", ""], rows)


def plain(text: str) -> str:
    """Text without the marks that colour it in a terminal."""
    return text.replace("[bold]", "").replace("[/]", "").replace("\\[", "[").replace("[", "\\[")


def figures(name: str) -> dict[str, dict[str, str]]:
    """The rows of a CSV of docs/parts by their first column."""
    with (PARTS / name).open(newline="") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines) + "\n"


def wide(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table of many columns, in the style of the site for these."""
    return f'<div class="parts" markdown>\n\n{table(head, rows)}\n</div>\n'


def cell(text: Any) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    main()
