"""The verb `tabulate`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import rich_click as click

from diswot.budget import Budget
from diswot.cli.flags import OF_A_RUN, flags_of, running, words
from diswot.cli.request import Request
from diswot.config import TabulateConfig
from diswot.report.terminal import show_table

if TYPE_CHECKING:
    from diswot.tabulation.recipe import TabulatePlan


@click.command()
@words("[KEY=VALUE]...")
@flags_of(TabulateConfig)
@running("from", "device", "workers", "executor", "patience", *OF_A_RUN)
def tabulate(words: tuple[str, ...], searches: tuple[str, ...], **flags: Any) -> None:
    """Train networks of a space by a short recipe, and leave a table of their accuracies that `diswot study` reads.

    The networks are spread at random over the budget; with --from, a part of them are candidates of searches, from their first random ones
    to their last generations, where a ranking is exploited. Several are trained side by side under one teacher. A share is trained with a
    second seed, which shows how far the recipe can be trusted, and a share by the labels alone. The table grows in runs/NAME/table.csv.

    [bold]diswot tabulate --params 0.05M..0.4M --flops 30M --data images.npz --teacher-weights resnet56.th[/]

    [bold]diswot tabulate --space mylab:MobileSpace --flops 100M --networks 100 --from runs/A --from runs/B --data images[/]

    [bold]diswot tabulate --resume runs/NAME[/]   then   [bold]diswot study runs/NAME/table.csv --space s1[/]
    """
    request = Request("tabulate", TabulateConfig, words, {**flags, "from": searches or None})
    request.refuse_subjects()
    config = request.config()
    Budget.parse(config.limits())  # a mistake here is told before torch is loaded

    def plan() -> TabulatePlan:
        from diswot.tabulation.recipe import plan_tabulation

        return plan_tabulation(config, searches)

    outcome = request.carry_out(plan, lambda: ["tabulate", config.space])
    from diswot.cli import output

    result = outcome.result
    if flags["as_json"]:
        click.echo(json.dumps({**result.summary(), "folder": str(result.folder)}))
        return
    show_table(output.tabulate_table(result))
    for line in output.tabulate_remarks(result):
        click.echo(line)
