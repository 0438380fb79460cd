"""The command line: one verb per command. torch is imported inside the verbs, so that help answers at once."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import sys
import threading
import time
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import rich_click as click
from click.exceptions import Exit

from diswot.config import resolve, to_dict
from diswot.errors import ConfigError, DataError, DiswotError, RunError, shown
from diswot.options import CompareConfig, DistillConfig, ScoreConfig, SearchConfig, StudyConfig, TrainConfig

F = TypeVar("F", bound=Callable[..., Any])
_VERBS = {
    "search": SearchConfig,
    "distill": DistillConfig,
    "train": TrainConfig,
    "compare": CompareConfig,
    "score": ScoreConfig,
    "study": StudyConfig,
}
_NOT_OPTIONS = ("device", "quiet", "as_json", "runs_folder", "resume", "tensorboard")
_RUNNING = ("device", "workers", "quiet", "json", "config", "name", "runs", "resume", "out")

click.rich_click.STYLE_HELPTEXT_FIRST_LINE = "bold"
click.rich_click.STYLE_HELPTEXT = ""
click.rich_click.MAX_WIDTH = 120
click.rich_click.TEXT_MARKUP = "rich"


def _groups(config: type) -> Any:
    """The panels of a verb's help, in the order of the fields, a configuration's own before those that it shares with others."""
    inherited = {field.name for base in config.__mro__[1:] if dataclasses.is_dataclass(base) for field in dataclasses.fields(base)}
    panels: dict[str, list[str]] = {}
    for field in sorted(dataclasses.fields(config), key=lambda field: field.name in inherited):
        panels.setdefault(field.metadata["group"], []).append(_flag(field.name))
    order = ["What to find", "What to train", "What to study", "Images", "Scoring", "Search", "Recipe", "Augmentation", "Speed", "Figures"]
    named: list[dict[str, Any]] = [{"name": name, "options": panels[name]} for name in order if name in panels]
    return [*named, {"name": "Running", "options": [_flag(name) for name in (*_RUNNING, "scores_of", "tensorboard")]}]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


click.rich_click.OPTION_GROUPS = {f"diswot {verb}": _groups(config) for verb, config in _VERBS.items()}


def options_of(config: type) -> Callable[[F], F]:
    """A flag for each field of a configuration, with the field's words; a flag that is not given stays None."""
    hints = typing.get_type_hints(config)

    def decorate(function: F) -> F:
        for field in reversed(dataclasses.fields(config)):
            declared, kind = _flag(field.name), _click_type(hints[field.name])
            shown = "" if field.default is None or field.default is False else f" \\[{_default(field.default)}]"
            text = field.metadata["help"].replace("[", "\\[") + shown
            if kind is bool:
                declared += f"/--no-{declared[2:]}"
                function = click.option(declared, field.name, default=None, help=text)(function)
            else:
                function = click.option(declared, field.name, type=kind, default=None, help=text)(function)
        return function

    return decorate


def _default(value: Any) -> str:
    return "yes" if value is True else str(value)


def _click_type(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    return click.Choice(typing.get_args(hint)) if typing.get_origin(hint) is Literal else hint


def running(*names: str) -> Callable[[F], F]:
    """The flags that say how a command runs and that its outcome does not depend on."""
    known: dict[str, Callable[[F], F]] = {
        "device": click.option("--device", default="auto", help="auto, cpu, cuda or mps \\[auto]"),
        "workers": click.option("--workers", type=int, default=0, help="processes on a CPU \\[one a core]; the outcome is the same"),
        "quiet": click.option("--quiet", is_flag=True, help="show no progress"),
        "json": click.option("--json", "as_json", is_flag=True, help="print the result as JSON, and nothing else, on stdout"),
        "config": click.option("--config", "config_file", help="a YAML file of these options; later key=value words and flags win"),
        "name": click.option("--name", help="name of the run's folder \\[made from the options and the time]"),
        "runs": click.option("--runs", "runs_folder", default="runs", help="where runs are kept \\[runs]"),
        "resume": click.option("--resume", help="go on with the run in this folder"),
        "tensorboard": click.option("--tensorboard", is_flag=True, help="write TensorBoard's files into the run's folder too"),
        "out": click.option("--out", default="arch.json", help="where the winner is left; an earlier file is kept beside it \\[arch.json]"),
    }

    def decorate(function: F) -> F:
        for name in reversed(names):
            function = known[name](function)
        return function

    return decorate


words = click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="diswot")
@click.pass_context
def cli(context: click.Context) -> None:
    """Find the student network that will distil best for a teacher and a budget, without training any candidate.

    [bold]diswot search --teacher resnet56 --params 1M[/]   scores a thousand networks, leaves the best in arch.json

    [bold]diswot distill arch.json --data cifar100 --download[/]   trains it under the teacher
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@options_of(SearchConfig)
@running(*_RUNNING)
@words
def search(
    words: tuple[str, ...],
    device: str,
    workers: int,
    quiet: bool,
    as_json: bool,
    config_file: str | None,
    name: str | None,
    runs_folder: str,
    resume: str | None,
    out: str,
    **flags: Any,
) -> None:
    """Search a space for the student that should distil best within a budget.

    Candidates are scored at random initialisation: by how much they can hold, how signals and gradients pass through them, and how alike
    they are to the teacher (--proxy diswot: by the teacher alone). Nothing is trained. The run is kept in runs/NAME and survives being
    killed; the winner is also left as ./arch.json.

    [bold]diswot search --teacher resnet56 --params 1M[/]

    [bold]diswot search --teacher resnet34 --space s2 --params 0.5M..1M --flops 100M --data images.npz[/]

    [bold]diswot search --resume runs/NAME[/]
    """
    if resume is not None:
        _refuse_changes(words, config_file, {**flags, "name": name})
    if not out or Path(out).is_dir() or not Path(out).parent.is_dir():
        fault = "it is a folder" if Path(out).is_dir() else f"there is no folder {Path(out).parent}"
        raise ConfigError(f"--out {out}: {fault}; name a file, as arch.json")
    config = None if resume is not None else resolve(SearchConfig, config_file, words, flags)
    from diswot import runs
    from diswot.devices import choose_device
    from diswot.recipes.search import resume_config, run_search
    from diswot.report import console

    if config is None:
        assert resume is not None
        run, stored = runs.RunDir.open(Path(resume), "search")
        config = resume_config(stored)
    else:
        config.check()
        folder = Path(runs_folder) / (name or _run_name(config.teacher, config.params or config.flops or config.depth or config.latency))
        run = runs.RunDir.create(folder, "search", to_dict(config), runs.environment(choose_device(device)))
    progress = console.reporter("candidate", quiet)
    with run, _kept(run.path, "search"), runs.disk_errors(run.path):
        try:
            result = run_search(config, run, device=device, workers=workers, reporter=progress)
        finally:
            progress.stop()
        aside = runs.keep_earlier(Path(out))
        runs.write_atomic(Path(out), result.arch_json())
    if as_json:
        click.echo(json.dumps({**console.search_json(result), "folder": str(run.path)}))
        return
    console.show_table(console.search_table(result))
    if remark := console.search_remark(result):
        click.echo(remark)
    moved = f" (the earlier one is now {aside})" if aside else ""
    click.echo(f"{out}: the winner{moved}; the run is in {run.path}\nnext: diswot distill {out}")


@cli.command()
@options_of(DistillConfig)
@running("device", "quiet", "json", "config", "name", "runs", "resume", "tensorboard")
@click.argument("words", nargs=-1, metavar="[ARCH.JSON]... [KEY=VALUE]...")
def distill(words: tuple[str, ...], config_file: str | None, **flags: Any) -> None:
    """Train a student under its teacher; the student is left alone in runs/NAME/student.

    ARCH.JSON is what a search left, or the name of a hand-made network such as resnet20; several are trained side by side, or, with a
    loss of peers, among themselves. Where the teacher has no weights it is trained first, by the same recipe, and kept.

    [bold]diswot distill arch.json --data cifar100 --download[/]

    [bold]diswot distill arch.json resnet20 --loss "dkd(beta=2)" --data images.npz --teacher-weights resnet56.th --epochs 60[/]

    [bold]diswot distill resnet20 --teacher resnet110 --assistants resnet56,resnet32[/]

    [bold]diswot distill --resume runs/NAME[/]
    """
    needed = "distill needs the arch.json that `diswot search` left, or the name of a network such as resnet20"
    subjects, words = _subjects(words, flags["resume"], config_file, flags, needed)
    _run_training("distill", subjects, lambda: resolve(DistillConfig, config_file, words, _options(DistillConfig, flags)), flags)


@cli.command()
@options_of(TrainConfig)
@running("device", "quiet", "json", "config", "name", "runs", "resume", "tensorboard")
@click.argument("words", nargs=-1, metavar="[ARCH.JSON]... [KEY=VALUE]...")
def train(words: tuple[str, ...], config_file: str | None, **flags: Any) -> None:
    """Train a network by the labels alone, as a teacher or a baseline is made; it is left in runs/NAME/student.

    [bold]diswot train resnet56 --data cifar100 --download[/]

    [bold]diswot distill arch.json --teacher resnet56 --teacher-weights runs/NAME/student/model.safetensors[/]

    [bold]diswot train --resume runs/NAME[/]
    """
    needed = "train needs the name of a network such as resnet56, or an arch.json"
    subjects, words = _subjects(words, flags["resume"], config_file, flags, needed)

    def config() -> DistillConfig:
        return DistillConfig(**to_dict(resolve(TrainConfig, config_file, words, _options(TrainConfig, flags))), loss="none")

    _run_training("train", subjects, config, flags)


def _options(config: type, flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that are fields of a configuration."""
    return {field.name: flags[field.name] for field in dataclasses.fields(config)}


def _run_training(verb: str, subjects: list[str], make_config: Callable[[], DistillConfig], flags: dict[str, Any]) -> None:
    """A new training, or one that is resumed, to its end; then what it gave."""
    config = None if flags["resume"] is not None else make_config()
    from diswot import api, runs
    from diswot.recipes.scoring import read_architecture
    from diswot.report import console

    if config is None:
        run = api.resume_distill(verb, Path(flags["resume"]), flags["device"])
    else:
        folder = Path(flags["runs_folder"]) / (flags["name"] or _run_name(verb, *subjects[:1], config.loss if verb == "distill" else None))
        run = api.begin_distill(verb, folder, config, [read_architecture(subject) for subject in subjects], flags["device"])
    progress = console.reporter("epoch", flags["quiet"] or not run.parallel.main)
    with _kept(run.run.path, verb), runs.disk_errors(run.run.path):
        try:
            result = run(progress, flags["tensorboard"])
        finally:
            progress.stop()
    if not run.parallel.main:
        return
    if flags["as_json"]:
        click.echo(json.dumps(console.distill_json(result)))
        return
    console.show_table(console.distill_table(result))
    teacher = f"; {result.taught_by}, which taught, {result.teacher}" if result.teacher else ""
    for student in result.students:
        name = "" if len(result.students) == 1 else f"{student.name}: "
        click.echo(f"{name}{result.measured_on} accuracy after the last epoch {student.accuracy}{teacher}")
        click.echo(f"it is in {student.folder}; load it with diswot.load_student")


@cli.command()
@options_of(CompareConfig)
@running("device", "quiet", "json", "config", "name", "runs", "resume")
@click.argument("words", nargs=-1, metavar="[ARCH.JSON]... [KEY=VALUE]...")
def compare(words: tuple[str, ...], config_file: str | None, **flags: Any) -> None:
    """Train several students by the same recipe, on the same seeds, under one teacher: was the search worth it?

    [bold]diswot compare arch.json other.json resnet20 --data cifar100 --seeds 3[/]

    [bold]diswot compare --resume runs/NAME[/]
    """
    needed = "compare needs two students at least: diswot compare arch.json resnet20"
    subjects, words = _subjects(words, flags["resume"], config_file, flags, needed)
    config = None if flags["resume"] is not None else resolve(CompareConfig, config_file, words, _options(CompareConfig, flags))
    from diswot import api, runs
    from diswot.recipes.scoring import read_architecture
    from diswot.report import console

    if config is None:
        run = api.resume_compare(Path(flags["resume"]), flags["device"])
    else:
        folder = Path(flags["runs_folder"]) / (flags["name"] or _run_name("compare", *subjects[:1]))
        run = api.begin_compare(folder, config, [read_architecture(subject) for subject in subjects], flags["device"])
    progress = console.reporter("epoch", flags["quiet"])
    with _kept(run.run.path, "compare"), runs.disk_errors(run.run.path):
        try:
            found = run(progress)
        finally:
            progress.stop()
    if flags["as_json"]:
        click.echo(json.dumps(console.compare_json(found)))
        return
    console.show_table(console.compare_table(found))
    if found.teacher:
        click.echo(f"the teacher: {', '.join(f'{value:.2f}' for value in found.teacher)} %")
    click.echo(f"the trained students are in {found.folder}/seed-*/students")


@cli.command()
@click.argument("student", metavar="STUDENT")
@click.option("--data", required=True, help="images: see `diswot list data`")
@click.option("--split", type=click.Choice(["test", "train"]), help="which of them \\[test, where there is one]")
@click.option("--weights", help="of a network that is named: a file, or pretrained (timm's)")
@click.option("--norm", help="of a network that is named: data, imagenet, half, or m,m,m/s,s,s \\[data]")
@click.option("--data-dir", help="where named data sets lie")
@click.option("--input-size", type=int, help="side that files are decoded to, of a network that is named")
@click.option("--crop-share", type=float, help="share of the shorter side of an image file, of a network that is named \\[1]")
@click.option("--space", help="allows a student of a space that is your own module")
@running("device", "json")
def evaluate(student: str, data: str, as_json: bool, device: str, **options: Any) -> None:
    """Measure a trained network: top-1 and top-5 accuracy.

    STUDENT is the folder that `distill` or `train` left, or, with --weights, the name of a network.

    [bold]diswot evaluate runs/NAME/student --data images.npz[/]

    [bold]diswot evaluate resnet56_pad --weights resnet56.th --norm imagenet --data cifar10[/]
    """
    from diswot.devices import choose_device
    from diswot.recipes.deploy import run_evaluate
    from diswot.report import console

    found = run_evaluate(student, data, device=choose_device(device), **options)
    if as_json:
        click.echo(json.dumps(console.evaluate_json(found)))
        return
    top5 = "" if math.isnan(found.accuracy.top5) else f", top-5 {found.accuracy.top5:.2f} %"
    click.echo(f"{found.split} images of {found.data}: top-1 {found.accuracy}{top5}")


@cli.command()
@click.argument("student", metavar="STUDENT")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", type=click.IntRange(min=1), default=5, help="classes to name \\[5]")
@click.option("--space", help="allows a student of a space that is your own module")
@running("device", "json")
def predict(student: str, images: tuple[str, ...], top: int, space: str | None, device: str, as_json: bool) -> None:
    """Name the likeliest classes of image files.

    [bold]diswot predict runs/NAME/student cat.png dog.jpg[/]
    """
    from diswot.devices import choose_device
    from diswot.recipes.deploy import run_predict, student_model

    found = run_predict(student_model(student, space), images, choose_device(device), top)
    if as_json:
        click.echo(json.dumps([{"image": one.image, "classes": [{"name": n, "share": p} for n, p in one.classes]} for one in found]))
        return
    for one in found:
        click.echo(f"{one.image}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in one.classes))


@cli.command()
@click.argument("student", metavar="STUDENT")
@click.argument("target", metavar="TARGET")
@click.option("--space", help="allows a student of a space that is your own module")
def export(student: str, target: str, space: str | None) -> None:
    """Write a student for others: NAME.onnx, NAME.pt2 (torch.export), or a folder with safetensors that timm loads.

    What is written is run and compared with torch before it is kept.

    [bold]diswot export runs/NAME/student student.onnx[/]
    """
    from diswot.recipes.deploy import run_export, student_model

    try:
        written = run_export(student_model(student, space), Path(target))
    except OSError as error:
        raise ConfigError(f"{shown(target)}: {error.strerror}") from None
    click.echo(f"{written.path}: {written.kind}, its outputs differ from torch's by {written.difference:.1g} of the largest")
    if written.kind == "timm":
        click.echo(f'import diswot.models.student; timm.create_model("local-dir:{written.path}", pretrained=True)')


@cli.command()
@click.argument("architectures", nargs=-1, required=True, metavar="ARCHITECTURE...")
@options_of(ScoreConfig)
@running("device", "workers", "json", "config")
@click.option("--space", help="allows architectures of a space that is your own module")
def score(
    architectures: tuple[str, ...],
    device: str,
    workers: int,
    as_json: bool,
    config_file: str | None,
    space: str | None,
    **flags: Any,
) -> None:
    """Score given architectures: arch.json files, NAS-Bench-201 strings, names of hand-made networks.

    [bold]diswot score arch.json resnet20 --proxy diswot,params,flops[/]
    """
    config = resolve(ScoreConfig, config_file, [], flags)
    from diswot.recipes.scoring import read_architecture, run_score
    from diswot.report import console

    archs = [read_architecture(text)[0] for text in architectures]
    rows = run_score(config, archs, space=space, device=device, workers=workers)
    if as_json:
        click.echo(json.dumps(console.score_json(rows)))
    else:
        console.show_table(console.score_table(rows))


@cli.command()
@click.argument("table", required=False, metavar="[TABLE.CSV]")
@options_of(StudyConfig)
@running("device", "workers", "quiet", "json", "config", "name", "runs", "resume")
@click.option("--scores-of", "earlier", help="take over the scores of this study's folder, where it has them")
@words
def study(
    table: str | None,
    words: tuple[str, ...],
    device: str,
    workers: int,
    quiet: bool,
    as_json: bool,
    config_file: str | None,
    name: str | None,
    runs_folder: str,
    resume: str | None,
    earlier: str | None,
    **flags: Any,
) -> None:
    """Measure how well proxies rank the networks of a benchmark table, whose accuracies are known.

    TABLE.CSV (or .csv.gz) has a column of architectures and columns of accuracies: the table of NAS-Bench-201, or your own. The report,
    with every table and figure, is left in runs/NAME/report.html.

    [bold]diswot study nasbench201.csv.gz --proxy diswot,nwot,az_nas --sample 500[/]

    [bold]diswot study mine.csv --space mylab.space --accuracy-column top1 --proxy relation[/]

    [bold]diswot study nasbench201.csv.gz rows=odd --scores-of runs/NAME[/]   other rows or rankings, the same scores

    [bold]diswot study --resume runs/NAME[/]
    """
    needed = "study needs a table of architectures and accuracies: diswot study TABLE.csv"
    table, words = _subject(table, words, resume, config_file, flags, needed)
    config = None if resume is not None else resolve(StudyConfig, config_file, words, flags)
    from diswot import api, runs
    from diswot.recipes.study import resume_config
    from diswot.report import console
    from diswot.report.study import PAGE, terminal_table
    from diswot.report.tables import to_json, to_rich

    if config is None:
        assert resume is not None
        run, stored = runs.RunDir.open(Path(resume), "study")
        config, table = resume_config(stored)
    else:
        assert table is not None
        folder = Path(runs_folder) / (name or _run_name("study", Path(table).name.partition(".")[0]))
        run = api.start_study(folder, config, table, device)
    progress, searching = console.reporter("network", quiet), console.reporter("pick", quiet)
    with run, _kept(run.path, "study"), runs.disk_errors(run.path):
        try:
            before = Path(earlier) if earlier else None
            result, findings = api.finish_study(
                config, table, run, earlier=before, device=device, workers=workers, reporter=progress, searching=searching
            )
        finally:
            progress.stop()
            searching.stop()
    shown = [terminal_table(result, found) for found in findings]
    if as_json:
        click.echo(json.dumps({"folder": str(run.path), "tables": [json.loads(to_json(one)) for one in shown]}))
        return
    for one in shown:
        console.show_table(to_rich(one))
    click.echo(f"{run.path / PAGE}: all tables and figures")


@cli.command()
@click.argument("architecture", metavar="ARCHITECTURE")
@click.option("--num-classes", type=int, help="classes \\[the search's, else 100]")
@click.option("--input-size", type=int, help="side of the image in pixels \\[the search's, else the space's]")
@click.option("--space", help="allows an architecture of a space that is your own module")
@running("device", "json")
def show(architecture: str, num_classes: int | None, input_size: int | None, space: str | None, device: str, as_json: bool) -> None:
    """Show a network: its parts, parameters, FLOPs, memory and latency.

    [bold]diswot show arch.json[/]
    """
    from diswot.config import positive_number
    from diswot.devices import choose_device
    from diswot.recipes.describe import describe
    from diswot.recipes.scoring import read_architecture
    from diswot.report import console
    from diswot.space import load_space

    arch, found_by = read_architecture(architecture)
    found_space = load_space(arch.space, trusted=space == arch.space)
    data = found_by.get("data")
    data = data if isinstance(data, dict) else {}
    sizes = {
        "num-classes": num_classes if num_classes is not None else data.get("num_classes", 100),
        "in-chans": data.get("in_chans", 3),
        "input-size": input_size if input_size is not None else data.get("input_size", found_space.input_size),
    }
    for what, value in sizes.items():
        positive_number(what, value, 100_000)
    found = describe(found_space, arch, sizes["num-classes"], sizes["in-chans"], sizes["input-size"], choose_device(device))
    if as_json:
        click.echo(json.dumps(console.show_json(found)))
    else:
        console.show_table(console.show_architecture(found))


@cli.command()
@click.argument("source", metavar="SOURCE")
@click.argument("table", metavar="TABLE.CSV")
@click.option("--trust", is_flag=True, help="allow a package to unpickle the files, which can run code")
def convert(source: str, table: str, trust: bool) -> None:
    """Convert a benchmark's official files to the table that `diswot study` reads, once.

    SOURCE is a folder of NATS-Bench, the .pth of NAS-Bench-201, or the .tfrecord of NAS-Bench-101.

    [bold]diswot convert NATS-tss-v1_0-3ffb9-simple nasbench201.csv.gz --trust[/]
    """
    from diswot.benchmarks import convert as convert_files

    try:
        rows = convert_files(Path(source), Path(table), trust=trust)
    except OSError as error:
        raise DataError(f"{shown(table)}: {error.strerror}") from None
    click.echo(f"{table}: {rows:,} architectures")


@cli.command(name="list")
@click.argument("what", type=click.Choice(["spaces", "proxies", "teachers", "losses", "data"]))
@running("json")
def list_(what: str, as_json: bool) -> None:
    """List what can be named: spaces, proxies, teachers, losses, data."""
    entries = _LISTS[what]()
    if as_json:
        click.echo(json.dumps([{"name": name, "summary": summary} for name, summary in entries]))
        return
    width = max(len(name) for name, _ in entries)
    for name, summary in entries:
        click.echo(f"{name:{width}}  {summary}".rstrip())


def _spaces() -> list[tuple[str, str]]:
    from diswot.space import ALIASES, BUILT_IN, load_space

    aliases = {name: alias for alias, name in ALIASES.items()}
    rows = []
    for name in BUILT_IN:
        space = load_space(name)
        also = f" (also {aliases[name]})" if name in aliases else ""
        rows.append((name, f"{space.size_text()} networks for {space.input_size}-pixel images{also}"))
    return [*rows, ("your.module", "a module of your own that holds `space`: see diswot.space.SearchSpace")]


def _proxies() -> list[tuple[str, str]]:
    from diswot.proxies import PROXIES, RANKINGS

    rankings = [(name, ranking.line()) for name, ranking in RANKINGS.items()]
    return [*rankings, *((name, PROXIES[name].line()) for name in PROXIES), ("loss:NAME", "a distillation loss, its sign turned")]


def _teachers() -> list[tuple[str, str]]:
    import timm

    from diswot.models.zoo import ZOO

    zoo = [(name, f"CIFAR, {sum(p.numel() for p in build().parameters()) / 1e6:.2f}M parameters") for name, build in ZOO.items()]
    count = len([name for name in timm.list_models() if not name.startswith("cifar_")])
    return [*zoo, ("any of timm", f"{count} networks: resnet34, convnext_tiny, ...; timm/vgg13 where the names are the same")]


def _losses() -> list[tuple[str, str]]:
    from diswot.losses import LOSSES, signature

    return [(name, f"{LOSSES[name].summary} {signature(name).removeprefix(name)}") for name in LOSSES]


def _data() -> list[tuple[str, str]]:
    from diswot.data import SOURCES

    return list(SOURCES.items())


_LISTS = {"spaces": _spaces, "proxies": _proxies, "teachers": _teachers, "losses": _losses, "data": _data}


class _kept:
    """Ctrl-C inside, or being asked to end (SIGTERM, as schedulers do), says how to go on, and exits as interrupted programs do."""

    def __init__(self, folder: Path, verb: str) -> None:
        self.folder, self.verb = folder, verb

    def __enter__(self) -> None:
        from diswot.runs import interrupted

        def note(number: int, _frame: object) -> None:
            self.number = number
            interrupted.set()
            raise KeyboardInterrupt

        self.interrupted, self.number, self.before = interrupted, int(signal.SIGINT), {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.interrupted.clear()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            click.echo(f"stopped; go on with: diswot {self.verb} --resume {self.folder}", err=True)
            raise SystemExit(128 + self.number)


def _subject(
    first: str | None, words: tuple[str, ...], resume: str | None, config_file: str | None, flags: dict[str, Any], needed: str
) -> tuple[str | None, tuple[str, ...]]:
    """What a command is about, and its words `key=value`, of which the first argument may be one; see `_subjects`."""
    subjects, words = _subjects((first, *words) if first is not None else words, resume, config_file, flags, needed)
    if len(subjects) > 1:
        raise ConfigError(f"{shown(subjects[1])} is not key=value")
    return (subjects[0] if subjects else None), words


def _subjects(
    words: tuple[str, ...], resume: str | None, config_file: str | None, flags: dict[str, Any], needed: str
) -> tuple[list[str], tuple[str, ...]]:
    """What a command is about, and its words `key=value`. A new run needs the one (`ConfigError` with the line `needed`), a resumed one
    takes neither."""
    subjects = [word for word in words if "=" not in word or Path(word).exists()]
    words = tuple(word for word in words if word not in subjects)
    if resume is not None:
        running_only = {name: value for name, value in flags.items() if name not in _NOT_OPTIONS}
        _refuse_changes((*subjects, *words), config_file, running_only)
    elif not subjects:
        raise ConfigError(needed)
    return subjects, words


def _refuse_changes(words: tuple[str, ...], config_file: str | None, flags: dict[str, Any]) -> None:
    given = [_flag(name) for name, value in flags.items() if value is not None] + list(words) + ([config_file] if config_file else [])
    if given:
        raise RunError(f"--resume goes on with the run's own options; leave {', '.join(given)} out, or start a new run")


def _run_name(*parts: str | None) -> str:
    """Readable and new: what was asked for, and the time to the second."""
    plain = "-".join(part for part in parts if part)
    return re.sub(r"[^\w.-]+", "_", plain)[:60] + time.strftime("-%Y%m%d-%H%M%S") + f"-{os.getpid()}"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code; every fault of the user's is one line on stderr and code 2."""
    try:
        code = cli.main(arguments, prog_name="diswot", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _fail(_one_line(error))
    except (click.Abort, KeyboardInterrupt):
        return 130
    except DiswotError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except Exception as error:
        if os.environ.get("DISWOT_TRACEBACK"):
            raise
        _fail(f"{type(error).__name__}: {error}; this is a fault of diswot's, please report it; DISWOT_TRACEBACK=1 shows where it is")
        return 1


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    command = getattr(getattr(error, "ctx", None), "command_path", "diswot")
    return f"{message} See `{command} --help`."


def _fail(message: str) -> int:
    """Of the processes that torchrun starts, which all meet the same fault, the first one tells it."""
    if os.environ.get("RANK", "0") != "0":
        return 2
    click.echo(f"diswot: {' '.join(message.split())}", err=True)
    return 2


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
