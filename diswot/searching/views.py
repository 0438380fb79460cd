"""What the winner of a search looks like beside its teacher: what both see in the images that scored it, and how alike they find these."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diswot.architecture import Architecture
from diswot.data import load_data
from diswot.devices import single_thread, to_device
from diswot.errors import DataError, TeacherError, first_line
from diswot.models.init import initialise
from diswot.models.teachers import build_teacher
from diswot.observe import batch_statistics, disable_inplace, observe, watch_blocks
from diswot.runs import read_arrays, write_arrays
from diswot.scoring.context import TEACHER_SEED, renormalised
from diswot.searching.setup import SearchSetup
from diswot.similarity import cam_gram, channel_weights, normalise_gram, sample_gram

logger = logging.getLogger(__name__)
VIEWS = "views.npz"
_MOST_SHOWN = 8  # images

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Views:
    """The images of the first seed as the winner and the teacher see them, both initialised as when they were scored.

    B is the number of images, sorted by class, of which the first of each class come first in `images`; N is the number of classes.

    Attributes:
        images: (k, H, W, 3) uint8.
        labels: (k,) their classes.
        blocks: (number of blocks, 3): the shape (C, H, W) of the winner's map after the stem and after every block.
        teacher_maps, winner_maps: (k, h, w) the class activation map of each image's own class; empty where a network has none.
        teacher_relations, winner_relations: (B, B) how alike each pair of images is, from `sample_gram`, of Frobenius norm 1.
        teacher_semantics, winner_semantics: (N, N) how alike the activation maps of each pair of classes are, from `cam_gram`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    blocks: NDArray[np.int64]
    teacher_maps: Floats
    winner_maps: Floats
    teacher_relations: Floats
    winner_relations: Floats
    teacher_semantics: Floats
    winner_semantics: Floats

    def save(self, folder: Path) -> None:
        """Write the views into a run's folder, whole or not at all."""
        write_arrays(folder / VIEWS, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Views | None:
        """The views of a run's folder; None where it has none that can be read."""
        found = read_arrays(folder / VIEWS)
        return cls(**found) if found is not None and set(found) == set(cls.__dataclass_fields__) else None


def view_winner(search: SearchSetup, winner: Architecture) -> Views:
    """Look at the images of the first seed with the winner and with the teacher."""
    context, config = search.context, search.config
    batch, device = context.batches[0], context.device
    order = torch.from_numpy(_spread_classes(batch.target.numpy()))
    images, target = batch.images[order], batch.target[order]
    student = search.space.build(winner, context.spec.num_classes, context.spec.in_chans)
    initialise(student, config.init, batch.seed)
    of_student = _look(student, images.to(device), target, device)
    of_teacher = _nothing(len(images))
    try:
        teacher = build_teacher(config.teacher, context.spec, config.teacher_weights)
        if config.teacher_weights == "random":
            initialise(teacher, config.init, batch.seed + TEACHER_SEED)
        if config.teacher_norm != "data":
            images = renormalised(images, config.teacher_norm, load_data(config.data, **config.image_options(), seed=config.seed))
        of_teacher = _look(teacher, images.to(device), target, device)
    except (TeacherError, DataError) as error:
        logger.info("the report shows no maps of the teacher: %s", first_line(error))
    by_class = np.argsort(target.numpy(), kind="stable")
    return Views(
        images=_to_pixels(batch.images)[order.numpy()][:_MOST_SHOWN],
        labels=target.numpy()[:_MOST_SHOWN],
        blocks=np.array(of_student.blocks, np.int64).reshape(-1, 3),
        teacher_maps=of_teacher.maps[:_MOST_SHOWN],
        winner_maps=of_student.maps[:_MOST_SHOWN],
        teacher_relations=of_teacher.relations[by_class][:, by_class],
        winner_relations=of_student.relations[by_class][:, by_class],
        teacher_semantics=of_teacher.semantics,
        winner_semantics=of_student.semantics,
    )


@dataclass(frozen=True)
class _Seen:
    """What one network shows: (B, h, w) maps, (B, B) relations, (N, N) semantics, empty where it has none; the shapes of its blocks."""

    maps: Floats
    relations: Floats
    semantics: Floats
    blocks: list[tuple[int, ...]]


def _nothing(count: int) -> _Seen:
    return _Seen(np.zeros((0, 0, 0), np.float32), np.zeros((count, count), np.float32), np.zeros((0, 0), np.float32), [])


@torch.no_grad()
def _look(model: nn.Module, images: Tensor, target: Tensor, device: str) -> _Seen:
    """Run a network once, on batch statistics."""
    network = disable_inplace(to_device(model, device))
    with single_thread(device), batch_statistics(network), watch_blocks(network) as blocks:
        seen = observe(network, images)
    shapes = [tuple(block.output.shape[1:]) for block in blocks]
    features, weight = seen.features.float(), channel_weights(seen.features, seen.pooled, seen.weight).float()
    relations = normalise_gram(sample_gram(features), "frobenius")
    try:
        semantics = normalise_gram(cam_gram(features, weight), "frobenius")
    except TeacherError:  # a layer between the last map and the classifier
        return _Seen(_nothing(0).maps, relations.cpu().numpy(), _nothing(0).semantics, shapes)
    maps = torch.einsum("bc,bchw->bhw", weight[target.to(weight.device)], features)
    return _Seen(maps.cpu().numpy(), relations.cpu().numpy(), semantics.cpu().numpy(), shapes)


def _spread_classes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """An order in which the first image of every class comes before the second of any.

    >>> _spread_classes(np.array([0, 0, 1, 1, 2])).tolist()
    [0, 2, 4, 1, 3]
    """
    turn = np.array([int((labels[:place] == label).sum()) for place, label in enumerate(labels)])
    return np.lexsort((np.arange(len(labels)), turn))


def _to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Normalised images (B, C, H, W) as pixels (B, H, W, 3), each channel stretched over all of them: some pixel of a batch is nearly
    always black, and some white."""
    low, high = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    pixels = (255 * (images - low) / (high - low).clamp_min(1e-6)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels[..., :3] if pixels.shape[3] >= 3 else np.repeat(pixels[..., :1], 3, axis=3)
