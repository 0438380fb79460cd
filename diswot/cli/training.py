"""The verbs `distill`, `train` and `compare`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rich_click as click

from diswot.cli.flags import OF_A_RUN, flags_of, running, words
from diswot.cli.request import Request
from diswot.config import CompareConfig, DistillConfig, TrainConfig
from diswot.report.terminal import show_table

if TYPE_CHECKING:
    from diswot.distillation.students import StudentEntry
    from diswot.sessions import Plan

_RUNNING = ("device", *OF_A_RUN)
_WORDS = "[ARCH.JSON]... [KEY=VALUE]..."


def _entries(request: Request) -> list[StudentEntry]:
    from diswot.distillation.students import read_entry
    from diswot.models.named import expand_folders

    return [read_entry(text, request.config().space) for text in expand_folders(request.subjects)]


@click.command()
@flags_of(DistillConfig)
@running(*_RUNNING, "tensorboard")
@words(_WORDS)
def distill(words: tuple[str, ...], **flags: Any) -> None:
    """Train a student under its teacher; the student is left alone in runs/NAME/student.

    ARCH.JSON is what a search left, or the name of a hand-made network such as resnet20; several are trained side by side, or, with a
    loss of peers, among themselves. Where the teacher has no weights it is trained first, by the same recipe, and kept.

    [bold]diswot distill arch.json --data cifar100 --download[/]

    [bold]diswot distill arch.json resnet20 --loss "dkd(beta=2)" --data images.npz --teacher-weights resnet56.th --epochs 60[/]

    [bold]diswot distill resnet20 --loss dist --sweep 0.1,0.3,1,3 --epochs 30[/]

    [bold]diswot distill resnet20 --teacher resnet110 --assistants resnet56,resnet32[/]

    [bold]diswot distill --resume runs/NAME[/]
    """
    needed = "distill needs the arch.json that `diswot search` left, or the name of a network such as resnet20"
    request = Request("distill", DistillConfig, words, flags, needed)
    config = request.config()

    def plan() -> Plan:
        from diswot.distillation.plan import plan_distillation

        return plan_distillation(config, _entries(request))

    _train(request, plan, [*request.subjects[:1], config.loss])


@click.command()
@flags_of(TrainConfig)
@running(*_RUNNING, "tensorboard")
@words(_WORDS)
def train(words: tuple[str, ...], **flags: Any) -> None:
    """Train a network by the labels alone, as a teacher or a baseline is made; it is left in runs/NAME/student.

    [bold]diswot train resnet56 --data cifar100 --download[/]

    [bold]diswot distill arch.json --teacher resnet56 --teacher-weights runs/NAME/student/model.safetensors[/]

    [bold]diswot train --resume runs/NAME[/]
    """
    request = Request("train", TrainConfig, words, flags, "train needs the name of a network such as resnet56, or an arch.json")
    config = request.config()

    def plan() -> Plan:
        from diswot.distillation.plan import plan_training

        return plan_training(config, _entries(request))

    _train(request, plan, request.subjects[:1])


def _train(request: Request, make_plan: Callable[[], Plan], named_after: list[str]) -> None:
    """Carry out a training, and show what it gave."""
    outcome = request.carry_out(make_plan, lambda: [request.verb, *named_after])
    result = outcome.result
    if not outcome.is_main:
        return
    from diswot.cli import output

    if request.flags["as_json"]:
        click.echo(json.dumps({**result.summary(), "folder": str(result.folder), "history": result.history}))
        return
    show_table(output.distill_table(result))
    teacher = f"; {result.taught_by}, which taught, {result.teacher}" if result.teacher else ""
    for student in result.students:
        name = "" if len(result.students) == 1 else f"{student.name}: "
        click.echo(f"{name}{result.measured_on} accuracy after the last epoch {student.accuracy}{teacher}")
        click.echo(f"it is in {student.folder}; load it with diswot.load_student")
    if result.best is not None:
        found = f"best on held-out training images: {result.best.loss}"
        click.echo(f'{found}; next, on all of them: diswot distill {result.best.folder / "arch.json"} --loss "{result.best.loss}"')


@click.command()
@flags_of(CompareConfig)
@running(*_RUNNING, "workers", "executor", "patience")
@words(_WORDS)
def compare(words: tuple[str, ...], **flags: Any) -> None:
    """Train students, or one student by several losses, by the same recipe, on the same seeds, under one teacher: was it worth it?

    [bold]diswot compare arch.json other.json resnet20 --data cifar100 --seeds 3[/]

    [bold]diswot compare resnet20 --losses "none; kd; dkd(beta=2)" --data cifar100[/]

    [bold]diswot compare --resume runs/NAME[/]
    """
    request = Request("compare", CompareConfig, words, flags, "compare needs a student: diswot compare arch.json resnet20")
    config = request.config()

    def plan() -> Plan:
        from diswot.distillation.compare import plan_comparison

        return plan_comparison(config, _entries(request))

    outcome = request.carry_out(plan, lambda: ["compare", *request.subjects[:1]])
    from diswot.cli import output

    found = outcome.result
    if flags["as_json"]:
        click.echo(json.dumps({**found.summary(), "folder": str(found.folder)}))
        return
    show_table(output.compare_table(found))
    if found.teacher:
        click.echo(f"the teacher: {', '.join(f'{value:.2f}' for value in found.teacher)} %")
    click.echo(f"the trained students are in {found.folder}/seed-*")
