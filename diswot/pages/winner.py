"""The winner of a search drawn as a network, and what it sees in images beside what its teacher sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diswot.report.charts import activation_maps_plot, matrices_plot, network_plot
from diswot.report.html import Part
from diswot.report.pictures import Picture
from diswot.searching.views import Views


def winner_parts(folder: Path, teacher_is_random: bool) -> list[Part]:
    """The pictures that the views in a run's folder allow; none where it has no views.

    Args:
        folder: of a search.
        teacher_is_random: whether the teacher has no trained weights either.
    """
    views = Views.load(folder)
    if views is None:
        return []
    state = "Both are randomly initialised" if teacher_is_random else "The winner is randomly initialised, the teacher is trained"
    pictures = [_network(views)] if len(views.blocks) else []
    return [*pictures, *_maps(views, state), *_matrices(views, state)]


def _network(views: Views) -> Picture:
    blocks: list[Any] = [tuple(block) for block in views.blocks.tolist()]
    classes = max(len(views.winner_semantics), int(views.labels.max(initial=0)) + 1)
    figure = network_plot(blocks, classes, title="The winner from its input to its output")
    return Picture(figure, "A box is the stem or a block: as high as its map is large, as wide as it has channels.", name="network")


def _maps(views: Views, state: str) -> list[Picture]:
    """Images with the class activation maps of both networks, of those that have any."""
    maps = {"teacher": views.teacher_maps, "winner": views.winner_maps}
    maps = {name: found for name, found in maps.items() if len(found)}
    if not maps:
        return []
    labels = [f"class {label}" for label in views.labels]
    figure = activation_maps_plot(views.images, labels, maps, title="Where the networks see the class of each image (Grad-CAM)")
    return [
        Picture(
            figure,
            f"Red is where the image's own class is seen most. {state}: this is what the metrics of DisWOT compare.",
            has_photos=True,
            name="activation_maps",
        )
    ]


def _matrices(views: Views, state: str) -> list[Picture]:
    pictures = []
    pairs = {
        "relations": (
            "How alike the images are to each network",
            "images, sorted by class",
            (views.teacher_relations, views.winner_relations),
        ),
        "semantics": ("How alike the classes are to each network", "classes", (views.teacher_semantics, views.winner_semantics)),
    }
    for name, (title, xlabel, (teacher, winner)) in pairs.items():
        if teacher.any() and winner.any():
            figure = matrices_plot(
                {"teacher": teacher, "winner": winner}, title=title, xlabel=xlabel, label="similarity (each matrix of norm 1)"
            )
            pictures.append(
                Picture(figure, f"The more the two are alike, the higher the paper's metric ranks the student. {state}.", name=name)
            )
    return pictures
