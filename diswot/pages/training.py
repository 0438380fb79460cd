"""The page of a training: curves of every term and of the accuracy, what is taken for what, and how fast it went."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from diswot.pages.confusions import TEACHER, Confusions, confusion_picture, gains_picture, most_confused
from diswot.pages.curves import Curves
from diswot.pages.run_files import RunFiles, with_charts
from diswot.report.html import Facts, Part, Section, Verdict
from diswot.report.tables import Column, Table


def training_sections(run: RunFiles) -> tuple[str, list[Section]]:
    """The title and the sections of the page of `train` or `distill`."""
    curves, confusions = Curves.read(run.path), Confusions.read(run.path)
    sections = [
        _introduction(run, curves),
        Section("Accuracy", _accuracies(run, curves)),
        Section("The terms of the loss", [*curves.term_pictures(), *curves.rate_picture()]),
        Section("Class by class", _classes(run, confusions)),
        Section("Speed", curves.speed_picture()),
        run.made_with(),
    ]
    return f"Training of {_subject(run)}", [section for section in sections if section.parts]


def _subject(run: RunFiles) -> str:
    """What was trained, and under whom."""
    names = list(run.result["students"]) if run.result else []
    students = names[0] if len(names) == 1 else f"{len(names)} students" if names else "a network"
    taught_by = run.result.get("taught_by")
    return f"{students} under {taught_by}" if taught_by else students


def _introduction(run: RunFiles, curves: Curves) -> Section:
    asked, speeds = run.config, curves.speeds()
    facts = [
        ("epochs", f"{curves.epochs_done} of {asked['epochs']}"),
        ("data", run.data_name),
        ("loss", str(asked.get("loss", "none"))),
    ]
    if run.result:
        students = run.result["students"]
        best = max(students, key=lambda name: students[name]["top1"])
        named = [("best", best)] if len(students) > 1 else []
        interval = "{:.2f} to {:.2f}".format(*students[best]["interval"])
        facts = [*named, ("top-1", f"{students[best]['top1']:.2f} %"), ("95 % interval", interval), *facts]
        if run.result.get("teacher"):
            facts.append(("teacher", f"{run.result['teacher']['top1']:.2f} %"))
    if speeds:
        facts.append(("images a second", f"{statistics.median(speeds):,.0f}"))
    return Section("", [Verdict(_verdict(run, curves)), Facts(facts)])


def _verdict(run: RunFiles, curves: Curves) -> str:
    """What the training came to; of one under way, how far it is."""
    if not run.result:
        return f"The training is not at its end: {curves.epochs_done} of {run.config['epochs']} epochs are done."
    where = {"test": "test images", "validation": "training images that were held out"}[run.result["measured_on"]]
    students: Mapping[str, Any] = run.result["students"]
    chosen = "Nothing was chosen by these images" if "best" not in run.result else "The best strength is chosen by these images"
    if len(students) == 1:
        (found,) = students.values()
        low, high = found["interval"]
        text = f"After the last epoch it knows {found['top1']:.2f} % ({low:.2f} to {high:.2f}) of {found['images']:,} {where}"
        if teacher := run.result.get("teacher"):
            text += f"; its teacher {teacher['top1']:.2f} %"
        return f"{text}. {chosen}."
    best = max(students, key=lambda name: students[name]["top1"])
    return (
        f"Of {len(students)} students {best} knows most: {students[best]['top1']:.2f} % of {students[best]['images']:,} {where}. {chosen}."
    )


def _accuracies(run: RunFiles, curves: Curves) -> list[Part]:
    """The accuracies with the intervals that the number of images allows, and their curves."""
    parts: list[Part] = []
    if run.result:
        rows = [_accuracy_row(name, found) for name, found in run.result["students"].items()]
        if run.result.get("teacher"):
            rows.append(_accuracy_row(f"teacher {run.result['taught_by'] or ''}", run.result["teacher"]))
        columns = [
            Column("name", "network"),
            Column("top1", "top-1 (%), 95 % interval", "estimate", 2),
            Column("top5", "top-5 (%)", "number", 2),
        ]
        columns.append(Column("images", "images", "integer"))
        parts.append(Table("After the last epoch", columns, rows))
    teacher = run.result.get("teacher")
    return [*parts, *curves.accuracy_pictures(("teacher", teacher["top1"]) if teacher else None)]


def _accuracy_row(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    low, high = found["interval"]
    return {"name": name, "top1": {"value": found["top1"], "low": low, "high": high}, "top5": found["top5"], "images": found["images"]}


def _classes(run: RunFiles, confusions: Confusions | None) -> list[Part]:
    """What each class is taken for, and what it gained over the baseline."""
    if confusions is None:
        return []
    students = [name for name in confusions.counts if name != TEACHER]
    drawn, note = with_charts(students)
    parts: list[Part] = []
    for name in drawn:
        parts += [confusion_picture(confusions, name), most_confused(confusions, name)]
    baseline = _baseline(students, confusions)
    gains = [gains_picture([confusions], name, baseline) for name in drawn if baseline not in (None, name)]
    return [*parts, *gains, *note]


def _baseline(students: Sequence[str], confusions: Confusions) -> str | None:
    """What gains are measured from: the student that learns from the labels alone, else the teacher, else the first student."""
    alone = next((name for name in students if name == "none" or name.endswith("-none")), None)
    if alone is not None:
        return alone
    if TEACHER in confusions.counts:
        return TEACHER
    return students[0] if len(students) > 1 else None
