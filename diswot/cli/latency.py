"""The verb `latency`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from diswot.cli.flags import running
from diswot.cli.images import image_spec, is_named, sizes
from diswot.errors import ConfigError, brief_repr
from diswot.progress.terminal import progress_shown

if TYPE_CHECKING:
    from rich.table import Table

    from diswot.architecture import Architecture
    from diswot.latency.measure import Measurement
    from diswot.latency.recipe import TablePlan
    from diswot.latency.runtimes import Setup
    from diswot.latency.table import LatencyTable

_OF_TABLES = ("params", "flops", "units", "networks", "export")


@click.command()
@click.argument("architectures", nargs=-1, metavar="[ARCHITECTURE]...")
@click.option("--runtime", default="torch", help="torch, onnx (ONNX Runtime), or compile (torch.compile) \\[torch]")
@click.option("--threads", type=int, default=1, help="threads of a network on a CPU \\[1]")
@click.option("--batch-size", type=int, default=1, help="images in a forward pass \\[1]")
@sizes
@click.option("--space", help="the space of --table; or allow an architecture of your own space: its module:name")
@click.option("--table", help="measure the blocks of --space into this CSV, or go on with it; `search --latency-table` reads it")
@click.option("--params", help="of a table: the parameters of the networks whose blocks are measured: 1M, or 0.05M..1M \\[any]")
@click.option("--flops", help="of a table: their FLOPs \\[any]")
@click.option("--units", type=int, help="of a table: the most blocks that are measured; others are filled in \\[200]")
@click.option("--networks", type=int, help="of a table: whole networks that are measured, to correct the sums \\[16]")
@click.option("--export", help="of a table: measure nothing, leave ONNX files here, and a program that measures them on a device")
@running("device", "quiet", "json")
def latency(architectures: tuple[str, ...], table: str | None, space: str | None, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Measure the latency of networks, or a table from which a search reads it.

    The time of a forward pass in milliseconds: median, 10th and 90th percentile. Networks are run in turn, so that a machine that slows
    down slows all of them.

    [bold]diswot latency arch.json resnet20 resnet56[/]

    [bold]diswot latency arch.json --runtime onnx --threads 2[/]

    [bold]diswot latency --space s1 --params 0.05M..1M --table cpu.csv[/]   then: diswot search --latency 5ms --latency-table cpu.csv

    [bold]diswot latency --space s1 --params 0.05M..1M --table pixel.csv --export blocks[/]   for a device without torch
    """
    with progress_shown(quiet) as reporter:
        reporter.within("loading torch")
        from diswot.devices import choose_device
        from diswot.latency.runtimes import Setup

    exports = flags["export"] is not None
    runtime = "onnx" if exports else flags["runtime"]
    device = "cpu" if exports or (runtime == "onnx" and flags["device"] == "auto") else choose_device(flags["device"])
    setup = Setup(device, runtime, flags["threads"], flags["batch_size"])
    if table is not None:
        _refuse(not space, f"--table {table} needs the space that it is of: --space s1")
        _refuse(bool(architectures), f"--table {table} is of a space, not of {' '.join(map(brief_repr, architectures))}: leave it out")
        with progress_shown(quiet) as reporter:
            _table(_plan(str(space), setup, flags), Path(table), flags["export"], reporter, as_json)
        return
    given = next((name for name in _OF_TABLES if flags[name] is not None), None)
    _refuse(given is not None, f"--{given} is of a table: add --table FILE.csv")
    _refuse(not architectures, "no architecture was given: name an arch.json or a network such as resnet20, or --table FILE.csv")
    with progress_shown(quiet) as reporter:
        reporter.within("building and measuring")
        _networks(architectures, setup, space, flags, as_json)


def _refuse(fault: bool, message: str) -> None:
    if fault:
        raise ConfigError(message)


def _networks(names: tuple[str, ...], setup: Setup, own: str | None, flags: dict[str, Any], as_json: bool) -> None:
    """Measure networks and print their times."""
    from diswot.budget import check_buildable, cost_of
    from diswot.cli.output import conditions_json, timing_json
    from diswot.errors import ArchitectureError, first_line
    from diswot.latency.measure import measure_networks
    from diswot.models.named import read_architecture
    from diswot.report.terminal import show_table
    from diswot.space import load_space

    archs, models, shapes, costs = [], [], [], []
    for name in names:
        arch, provenance = read_architecture(name, own)
        space = load_space(arch.space, trusted=is_named(own, arch.space))
        space.check(arch)
        spec = image_spec(space, provenance, flags["num_classes"], flags["input_size"])
        cost = cost_of(space, arch, spec)
        check_buildable(arch, cost)
        archs.append(arch)
        costs.append(cost)
        shapes.append(spec.shape)
        models.append(space.build(arch, spec.num_classes, spec.in_chans))
    try:
        found = measure_networks(models, shapes, setup)
    except RuntimeError as error:
        raise ArchitectureError(f"{' '.join(names)} cannot be run on {shapes[0][1]}x{shapes[0][2]} images: {first_line(error)}") from None
    if as_json:
        rows = [
            {
                "name": name,
                "space": arch.space,
                "choices": arch.choices,
                "params": cost.params,
                "flops": cost.flops,
                **timing_json(found, index),
            }
            for index, (name, arch, cost) in enumerate(zip(names, archs, costs, strict=True))
        ]
        how = {"device": setup.device, "runtime": setup.runtime, "batch_size": setup.batch_size, **conditions_json(found, setup)}
        click.echo(json.dumps({**how, "networks": rows}))
        return
    show_table(_timing_table(names, archs, costs, found, setup))
    if warning := found.warning(setup):
        click.echo(f"warning: {warning}", err=True)


def _timing_table(names: tuple[str, ...], archs: list[Architecture], costs: list[Any], found: Measurement, setup: Setup) -> Table:
    from diswot.cli.output import short_name
    from diswot.latency.measure import describe_load
    from diswot.report.terminal import plain_table
    from diswot.report.text import millions

    title = "; ".join(filter(None, (f"milliseconds for a forward pass: {setup}", describe_load(found.load))))
    table = plain_table(title, ["network", "params", "FLOPs", "median", "10 %", "90 %", "repeats"], left=1)
    for name, arch, cost, timing in zip(names, archs, costs, found.timings, strict=True):
        shown = name if name.endswith(".json") else short_name(arch)
        times = [f"{value:.4g}" for value in (timing.median, timing.p10, timing.p90)]
        table.add_row(shown, millions(cost.params), millions(cost.flops), *times, str(timing.repeats))
    return table


def _plan(name: str, setup: Setup, flags: dict[str, Any]) -> TablePlan:
    from diswot.latency.recipe import TablePlan
    from diswot.space import load_space

    space = load_space(name, trusted=True)
    chosen = {name: flags[name] for name in ("units", "networks") if flags[name] is not None}
    limits = {name: flags[name] for name in ("params", "flops")}
    return TablePlan(space, image_spec(space, {}, flags["num_classes"], flags["input_size"]), setup, limits, **chosen)


def _table(plan: TablePlan, path: Path, folder: str | None, reporter: Any, as_json: bool) -> None:
    """Measure or export a table and print what it is worth."""
    from diswot.latency.recipe import SCRIPT, export_table, measure_table

    if folder is not None:
        export_table(plan, path, Path(folder), reporter)
        if as_json:
            click.echo(json.dumps({"table": str(path), "export": folder, "rows": len(plan.rows)}))
        else:
            click.echo(f"{path}: {len(plan.rows)} rows without times; on the device: python {folder}/{SCRIPT} {path}")
        return
    table, warning = measure_table(plan, path, reporter)
    if as_json:
        click.echo(json.dumps({**_table_json(table, plan), "warning": warning or None}))
        return
    for line in _table_lines(table, plan):
        click.echo(line)
    if warning:
        click.echo(f"warning: {warning}", err=True)


def _table_json(table: LatencyTable, plan: TablePlan) -> dict[str, Any]:
    import dataclasses

    quality = dataclasses.asdict(table.quality(plan.space))
    errors = {f"{name}_error": value if math.isfinite(value) else None for name, value in quality.items()}
    return {"table": str(table.path), **dataclasses.asdict(table.setup), **errors}


def _table_lines(table: LatencyTable, plan: TablePlan) -> list[str]:
    quality, setup = table.quality(plan.space), table.setup
    errors = {"of a block that is filled in": quality.units, "of a whole network": quality.networks}
    known = [f"{error:.1%} {what}" for what, error in errors.items() if math.isfinite(error)]
    return [
        f"{table.path}: {setup.units} blocks and {setup.networks} networks of {setup.space}, {setup}",
        *([f"median error: {', '.join(known)} (each held out)"] if known else []),
        f"next: diswot search --space {setup.space} --latency 5ms --latency-table {table.path}",
    ]
