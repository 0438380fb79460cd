"""The parts of the training loop: batches, recipe, students, teaching, checkpoints."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.cli.network import show
from diswot.config.training import Recipe, TrainConfig
from diswot.data.images import ArrayImages, JoinedImages
from diswot.errors import ConfigError, RunError
from diswot.losses import create
from diswot.models.base import ImageClassifier
from diswot.models.zoo import ZOO
from diswot.observe import observe_without_gradients
from diswot.progress import NullReporter
from diswot.training.augment import Augmentations, mix_batch, pad_images
from diswot.training.batches import BatchRequirements, MemoryLoader, TrainingSet, plan
from diswot.training.checkpoint import BEFORE, LAST
from diswot.training.decoding import DecodingLoader, training_transform
from diswot.training.distributed import DistributedContext
from diswot.training.evaluation import Accuracy, Network, Normalise, evaluate
from diswot.training.frozen_teacher import FrozenTeacher
from diswot.training.fuse import fuse_conv_bn
from diswot.training.loop import Trainer
from diswot.training.optimizer_state import check_optimizer
from diswot.training.splits import add_label_noise, split
from diswot.training.student import StudentSpec, prepare

ONE = DistributedContext()
NORMALISE = Normalise(torch.full((3,), 0.4), torch.full((3,), 0.3))


def images(count: int = 48, side: int = 8, classes: int = 4) -> ArrayImages:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 120, (count, side, side, 3)) + 130 * np.eye(classes, 3)[labels][:, None, None]
    return ArrayImages(pixels.astype(np.uint8), labels)


def feed(
    recipe: Recipe, source: ArrayImages | None = None, steps: BatchRequirements | None = None, parallel: DistributedContext = ONE
) -> MemoryLoader:
    source, steps = source or images(), steps or BatchRequirements()
    return MemoryLoader(training_set(source), recipe, "cpu", parallel, steps)


def training_set(source: ArrayImages) -> TrainingSet:
    """All of it."""
    return TrainingSet(source, np.arange(len(source.labels)), source.labels, int(source.labels.max()) + 1)


class Small(ImageClassifier):
    """Without batch norm, so that a batch is no more than its images; with dropout, if asked for."""

    def __init__(self, num_classes: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.dropout = nn.Dropout(dropout)
        self.init_classifier(8, num_classes, [])

    def forward_features(self, x: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.conv(x)))


def build(name: str, seed: int, **options: float) -> nn.Module:
    torch.manual_seed(seed)
    return Small(**options) if name == "small" else ZOO[name](num_classes=4)  # type: ignore[arg-type]


def trainer(
    loss: str = "kd",
    recipe: Recipe | None = None,
    students: Sequence[str] = ("resnet8",),
    teacher: str | None = "resnet14",
    seed: int = 0,
    until: float = 1.0,
    cache: bool = False,
    dtype: torch.dtype = torch.float32,
    parallel: DistributedContext = ONE,
    **options: float,
) -> Trainer:
    """Under a teacher, or among peers, from the seed."""
    recipe = recipe or Recipe(epochs=4, batch_size=16, lr=0.02)
    made = create(loss)
    normalise = Normalise(NORMALISE.mean.to(dtype), NORMALISE.std.to(dtype))
    networks = [Network(build(name, seed + place, **options).to(dtype), normalise) for place, name in enumerate(students)]
    seen = [observe_without_gradients(network.model, torch.zeros(4, 3, 8, 8, dtype=dtype), made.needs) for network in networks]
    teaching, partners = None, [None]
    if made.partner == "teacher":
        master = build(str(teacher), 77).to(dtype)
        partners = [observe_without_gradients(master, torch.zeros(4, 3, 8, 8, dtype=dtype), made.needs)]
        by_batch = made.teacher_batch_statistics
        needs = made.needs | {"logits"}
        teaching = FrozenTeacher(
            Network(master, normalise), needs, recipe, "cpu", distill_fraction=until, by_batch=by_batch, parallel=parallel
        )
    specs = []
    for place, network in enumerate(networks):
        others = [one for at, one in enumerate(seen) if at != place] if made.partner == "peers" else partners
        losses = [create(loss) for _ in others]
        prepare(losses, seen[place], others, 0)
        specs.append(StudentSpec(f"{students[place]}-{place}", network, losses))
    batches = feed(recipe, steps=BatchRequirements(repeat_half=made.partner == "previous", least=made.min_batch_size), parallel=parallel)
    if cache:
        assert teaching is not None and teaching.remember(batches, recipe)
    return Trainer(specs, teaching, batches, recipe, "cpu", parallel)


def weights(one: Trainer, place: int = 0) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in one.students[place].model.state_dict().items()}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


# batches


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    """Every result is the padded image, cut somewhere and perhaps mirrored; found by trying all 162 ways."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (40, 6, 6, 3)).astype(np.uint8)
    source = ArrayImages(pixels, np.arange(40))
    seen = set()
    for batch in feed(Recipe(batch_size=8, augment="crop"), source).epoch(0):
        for place, result, mirrored in zip(batch.places, batch.pixels, batch.mirrored, strict=True):
            padding = np.pad(pixels[place], ((4, 4), (4, 4), (0, 0)))
            brief_repr = result.permute(1, 2, 0).numpy()
            way = -1 if mirrored else 1
            ways = [(y, x, way) for y in range(9) for x in range(9) if (padding[y : y + 6, x : x + 6][:, ::way] == brief_repr).all()]
            assert ways
            seen.add(ways[0])
    assert len(seen) > 25


@pytest.mark.parametrize(("augment", "most"), [("none", 1), ("flip", 2)])
def test_other_augmentations_show_an_image_in_one_way_or_two(augment: str, most: int) -> None:
    source = images(40)
    batches = feed(Recipe(batch_size=8, augment=augment), source)  # type: ignore[arg-type]
    ways: set[bool] = set()
    for batch in batches.epoch(0):
        for place, result, mirrored in zip(batch.places, batch.pixels, batch.mirrored, strict=True):
            expected = source.array[place][:, :: -1 if mirrored else 1]
            assert (result.permute(1, 2, 0).numpy() == expected).all()
            ways.add(bool(mirrored))
    assert len(ways) == most


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    source = ArrayImages(np.arange(50, dtype=np.uint8).repeat(12).reshape(50, 2, 2, 3), np.arange(50))
    batches = feed(Recipe(batch_size=8, augment="none"), source)
    orders = [[int(y) for batch in batches.epoch(epoch) for y in batch.target] for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]


def test_a_last_batch_that_is_too_small_is_left_out() -> None:
    assert [len(places) for places, _ in plan(50, Recipe(batch_size=7), 0, BatchRequirements())[1]] == [7] * 7
    assert [len(places) for places, _ in plan(50, Recipe(batch_size=16), 0, BatchRequirements(least=3))[1]] == [16] * 3


def test_half_of_each_batch_repeats_and_exposure_is_as_ever() -> None:
    """The first half of a batch is the second of the one before; over two epochs every image is brief_repr twice, as in two plain ones."""
    brief_repr: list[int] = []
    for epoch in range(2):
        _, steps = plan(64, Recipe(batch_size=8), epoch, BatchRequirements(repeat_half=True))
        assert steps[0][1] == 0 and all(repeated == 4 for _, repeated in steps[1:])
        for (before, _), (now, _) in itertools.pairwise(steps):
            assert (now[:4] == before[4:]).all()
        brief_repr += [int(place) for places, _ in steps for place in places]
    assert set(brief_repr) == set(range(64))
    assert 2 * 64 - 2 * 8 <= len(brief_repr) <= 2 * 64


def test_repeated_augmentation_keeps_the_epoch_as_long() -> None:
    _, steps = plan(60, Recipe(batch_size=12, aug_repeats=3), 0, BatchRequirements())
    assert sum(len(places) for places, _ in steps) == 60 and len({int(p) for places, _ in steps for p in places}) == 20
    for places, _ in steps:
        assert set(np.unique(places, return_counts=True)[1]) == {3}
        assert (places != np.roll(places, 1)).mean() > 0.5, "mixup mixes neighbours"


def test_cutout_blacks_out_a_square() -> None:
    pixels = torch.full((6, 9, 9, 3), 7, dtype=torch.uint8)
    still = np.zeros(6, np.int64)
    centre = np.array([[4, 0, 8, 4, 0, 2], [4, 0, 8, 0, 8, 6]])
    result = show(pixels, torch.arange(6), Augmentations(still, still, np.zeros(6, bool), centre), (9, 9), cutout=4)
    for image, y, x in zip(result, *centre, strict=True):
        expected = np.full((9, 9), 7)
        expected[max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] = 0
        assert (image.numpy() == expected).all()


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixing_mixes_labels_as_it_mixes_pixels(way: str) -> None:
    """Of images of one colour each, the mean colour tells the shares."""
    values = torch.arange(8, dtype=torch.uint8) * 30
    pixels = values[:, None, None, None].expand(8, 3, 16, 16)
    torch.manual_seed(3)
    brief_repr, shares = mix_batch(pixels, torch.arange(8), 8, Recipe(**{way: 1.0}))  # type: ignore[arg-type]
    torch.testing.assert_close(shares.sum(1), torch.ones(8))
    torch.testing.assert_close(brief_repr.mean((1, 2, 3)), shares @ (values.float() / 255))
    assert 0 < shares.diagonal()[0] < 1


def test_label_noise_is_a_seeded_share_of_wrong_labels() -> None:
    labels = np.arange(2000) % 10
    noisy = add_label_noise(labels, 0.4, 10, seed=1)
    wrong = noisy != labels
    assert wrong.sum() == 800 and noisy.min() == 0 and noisy.max() == 9
    assert (add_label_noise(labels, 0.4, 10, seed=1) == noisy).all() and (add_label_noise(labels, 0.4, 10, seed=2) != noisy).any()
    steps = (noisy - labels)[wrong] % 10
    assert np.bincount(steps, minlength=10)[1:].min() > 50, "any other class"


def test_held_out_images_do_not_train() -> None:
    train, kept = split(100, 60, 0.25, 3)
    assert len(train) == 45 and len(kept) == 15 and not set(train) & set(kept)
    assert [a.tolist() for a in split(100, 60, 0.25, 3)] == [train.tolist(), kept.tolist()]


def test_joined_sets_are_one() -> None:
    first, second = images(6), images(10)
    joined = JoinedImages([first, second])
    places = np.array([0, 7, 5, 15])
    assert (joined.images(places) == np.concatenate([first.array, second.array])[places]).all()
    assert (np.asarray(joined.open(7)) == second.array[1]).all() and len(joined.labels) == 16


LOADED = [{}, {"augment": "resized", "cutout": 4}, {"aa": "rand-m7-mstd0.5", "reprob": 0.5}]


@pytest.mark.parametrize("options", LOADED)
def test_the_loader_gives_the_same_whoever_decodes(options: dict[str, object]) -> None:
    source, recipe = images(20, 16), dataclasses.replace(Recipe(batch_size=8), **options)  # type: ignore[arg-type]

    def batches(workers: int, epoch: int) -> list[tuple[Tensor, Tensor]]:
        loader = DecodingLoader(training_set(source), recipe, "cpu", ONE, BatchRequirements(), workers)
        return [(batch.pixels, batch.target) for batch in loader.epoch(epoch)]

    alone, helped, other = batches(0, 1), batches(2, 1), batches(0, 2)
    assert [len(target) for _, target in alone] == [8, 8, 4]
    for (pixels, target), (theirs, labels) in zip(alone, helped, strict=True):
        assert torch.equal(pixels, theirs) and torch.equal(target, labels)
        assert pixels.shape[1:] == (3, 16, 16) and (options.get("erase") or (pixels.min() >= 0 and pixels.max() <= 1))
    assert not torch.equal(alone[0][0], other[0][0])


@pytest.mark.parametrize("options", LOADED)
def test_two_processes_load_what_one_does(options: dict[str, object]) -> None:
    recipe = dataclasses.replace(Recipe(batch_size=8), **options)  # type: ignore[arg-type]

    def pixels(parallel: DistributedContext) -> list[Tensor]:
        loader = DecodingLoader(training_set(images(16, 16)), recipe, "cpu", parallel, BatchRequirements(), 0)
        return [batch.pixels for batch in loader.epoch(1)]

    for whole, first, second in zip(pixels(ONE), pixels(DistributedContext(0, 2)), pixels(DistributedContext(1, 2)), strict=True):
        assert torch.equal(whole, torch.cat([first, second]))


def test_loading_leaves_the_global_generators_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    recipe = Recipe(batch_size=8, aa="rand-m7-mstd0.5", reprob=0.5, cutout=2)
    assert len(list(DecodingLoader(training_set(images(16, 16)), recipe, "cpu", ONE, BatchRequirements(), 0).epoch(0))) == 2
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]  # type: ignore[index, union-attr]


def test_cutout_blacks_out_loaded_images_too() -> None:
    source = ArrayImages(np.full((8, 16, 16, 3), 255, np.uint8), np.arange(8) % 4)
    recipe = Recipe(batch_size=8, augment="flip", cutout=4, reprob=1e-9)  # which has them loaded one by one
    (batch,) = DecodingLoader(training_set(source), recipe, "cpu", ONE, BatchRequirements(), 0).epoch(0)
    black = (batch.pixels == 0).flatten(1).sum(1) // 3
    assert ((black > 0) & (black <= 16)).all() and black.max() == 16


def test_a_policy_comes_after_the_crop_that_was_asked_for() -> None:
    """RandAugment with the shifts of CIFAR's recipe: pixels are moved or changed in colour, never enlarged."""
    transform: Any = training_transform(32, Recipe(augment="crop", aa="rand-m7-mstd0.5"))
    names = [type(step).__name__ for step in transform.transforms]
    assert "RandomCrop" in names and "RandAugment" in str(transform) and "RandomResizedCrop" not in str(transform)
    assert "RandomResizedCrop" in str(training_transform(32, Recipe(augment="resized", aa="rand-m7-mstd0.5")))
    with pytest.raises(ConfigError, match="--aa 'foo': timm does not know it"):
        training_transform(32, Recipe(aa="foo"))


# the recipe


@pytest.mark.parametrize(("schedule", "warmup"), [("step", 0), ("cosine", 0), ("cosine", 4), ("constant", 2)])
def test_learning_rates_are_torchs(schedule: str, warmup: int) -> None:
    from torch.optim import lr_scheduler

    recipe = Recipe(epochs=24, sched=schedule, warmup_epochs=warmup, lr=0.4, warmup_lr=0.1, min_lr=0.0)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.4)
    theirs = {
        "step": lambda: lr_scheduler.MultiStepLR(optimizer, [15, 18, 21]),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, 24),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, 1.0),
    }[schedule]()
    for epoch in range(24):
        if epoch < warmup:
            assert recipe.learning_rate(epoch) == pytest.approx(0.1 + 0.3 * epoch / warmup)
        else:
            assert recipe.learning_rate(epoch) == pytest.approx(optimizer.param_groups[0]["lr"]), epoch
        optimizer.step()
        theirs.step()


def test_the_standard_recipe_drops_at_150_180_210() -> None:
    rates = [Recipe().learning_rate(epoch) for epoch in range(240)]
    assert [epoch for epoch in range(1, 240) if rates[epoch] < rates[epoch - 1]] == [150, 180, 210]
    assert Recipe(epochs=100, decay_milestones=(0.29,)).learning_rate(28) == 0.05, ".29 of 100 is 29, whatever floats make of it"


def test_parameter_groups() -> None:
    model = ZOO["resnet8"](num_classes=4)
    plain = Recipe().make_optimizer(model, []).param_groups
    assert len(plain) == 1 and len(plain[0]["params"]) == len(list(model.parameters()))
    apart = Recipe(norm_weight_decay=False, weight_decay=0.1).make_optimizer(model, []).param_groups
    for group in apart:
        assert group["weight_decay"] == (0.1 if all(p.ndim > 1 for p in group["params"]) else 0)
    deep = timm.create_model("resnet18", num_classes=4)
    layered = Recipe(layer_decay=0.5).make_optimizer(deep, []).param_groups
    assert sum(len(group["params"]) for group in layered) == len(list(deep.parameters()))
    assert len({group["lr_scale"] for group in layered}) > 1 and max(group["lr_scale"] for group in layered) == 1
    with pytest.raises(ConfigError, match=r"layer-decay 0.5: this network does not say"):
        Recipe(layer_decay=0.5).make_optimizer(model, [])


def test_optimizers_are_timms_by_name() -> None:
    made = Recipe(opt="lamb", lr=5e-3).make_optimizer(ZOO["resnet8"](num_classes=4), [])
    assert type(made).__name__ == "Lamb"
    with pytest.raises(ConfigError, match="did you mean adamw"):
        Recipe(opt="admw").make_optimizer(ZOO["resnet8"](num_classes=4), [])


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "adafactorbv", "radam", "nadamw", "madgrad"])
def test_optimizers_go_on_as_if_nothing_had_been(name: str) -> None:
    check_optimizer(Recipe(opt=name, lr=1e-3))


def test_optimizers_that_could_not_be_resumed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="adahessian cannot train here"):
        check_optimizer(Recipe(opt="adahessian"))

    class Forgetful(torch.optim.SGD):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "state": {}}

    monkeypatch.setattr(Recipe, "make_optimizer", lambda self, model, others: Forgetful(model.parameters(), 0.1, 0.9))
    with pytest.raises(ConfigError, match="would go on otherwise"):
        check_optimizer(Recipe())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -1.0, "epochs": 0}, "epochs 0.*lr -1"),
        ({"lr": float("nan")}, "lr nan"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"batch_size": 1}, "batch 1"),
        ({"model_ema_decay": 1.0}, "ema 1.0"),
        ({"warmup_epochs": 9, "epochs": 9}, "warmup-epochs 9: fewer than the 9"),
        ({"grad_accum_steps": 20, "batch_size": 32}, "grad_accum_steps 20: a batch of 32"),
        ({"decay_milestones": "0.5,2"}, "decay_milestones '0.5,2'"),
        ({"decay_milestones": "a"}, "shares of the training"),
        ({"layer_decay": 0.0}, "layer-decay 0.0"),
    ],
)
def test_numbers_that_cannot_be(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Recipe.of(TrainConfig(**options))  # type: ignore[arg-type]


def test_every_field_of_a_recipe_is_an_option() -> None:
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    for field in dataclasses.fields(Recipe):
        assert field.name in names
        if field.name not in ("decay_milestones", "augment"):
            assert getattr(TrainConfig(), field.name) == field.default, field.name
    assert Recipe.of(TrainConfig()).decay_milestones == Recipe().decay_milestones


# the loop


def kd_by_hand(logits: Tensor, target: Tensor, soft: Tensor) -> Tensor:
    ce = 0.1 * F.cross_entropy(logits, target)
    return ce + 0.9 * 16 * F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(soft / 4, 1), reduction="batchmean")


def normalised(pixels: Tensor) -> Tensor:
    return (pixels / 255 - 0.4) / 0.3


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_a_step_is_torchs_own_sgd_on_the_sum_of_the_terms(clip: float) -> None:
    recipe = Recipe(epochs=4, batch_size=16, lr=0.02, clip_grad=clip, nesterov=True)
    ours, theirs = trainer(recipe=recipe), trainer(recipe=recipe)
    ours.epoch(0)
    assert theirs.teaching is not None
    model, teacher = theirs.students[0].model.train(), theirs.teaching.network.model.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for batch in theirs.feed.epoch(0):
        pixels = normalised(batch.pixels)
        loss = kd_by_hand(model(pixels), batch.target, teacher(pixels))
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    for (name, a), b in zip(ours.students[0].model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_the_teacher_is_frozen_and_in_evaluation_mode() -> None:
    for loss in ("kd", "ofd"):  # ofd runs it on batch statistics, as its paper does, and all the same leaves it alone
        one = trainer(loss)
        assert one.teaching is not None
        model = one.teaching.network.model
        before = {k: v.clone() for k, v in model.state_dict().items()}
        one.epoch(0)
        assert same(before, dict(model.state_dict())) and not model.training
        assert all(p.grad is None for p in model.parameters())


def test_ofd_sees_the_teacher_as_in_training() -> None:
    one = trainer("ofd")
    assert one.teaching is not None
    batch = next(iter(one.feed.epoch(0)))
    pixels = normalised(batch.pixels)
    seen = one.teaching.observe(batch.pixels, batch).logits
    model = one.teaching.network.model.train()
    torch.testing.assert_close(seen, model(pixels).detach())


RECIPES = {
    "sgd": {},
    "adamw": {"opt": "adamw", "lr": 1e-3, "sched": "cosine", "warmup_epochs": 1},
    "lamb": {"opt": "lamb", "lr": 5e-3, "supervised_loss": "bce", "mixup": 0.2, "cutmix": 1.0, "norm_weight_decay": False},
    "average": {"model_ema_decay": 0.9, "clip_grad": 1.0, "grad_accum_steps": 2, "cutout": 3},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
}


@pytest.mark.parametrize(
    ("loss", "recipe", "students"),
    [
        *(("kd", name, ["resnet8"]) for name in RECIPES),
        ("fitnets", "sgd", ["resnet8"]),
        ("mgd", "sgd", ["resnet8"]),
        ("dlb", "sgd", ["resnet8"]),
        ("dkd", "sgd", ["resnet8"]),
        ("udml", "sgd", ["resnet8", "resnet14"]),
    ],
)
def test_resuming_at_any_epoch_is_bit_for_bit(tmp_path: Path, loss: str, recipe: str, students: list[str]) -> None:
    made = Recipe(**{"epochs": 3, "batch_size": 16, "lr": 0.02, **RECIPES[recipe]})  # type: ignore[arg-type]
    whole = trainer(loss, made, students)
    for epoch in range(3):
        whole.epoch(epoch)
    for stop in (1, 2):
        first = trainer(loss, made, students)
        for epoch in range(stop):
            first.epoch(epoch)
        first.save(tmp_path, stop, {"a": 1})
        second = trainer(loss, made, students, seed=9)  # other weights, all of which the checkpoint replaces
        assert second.load(tmp_path, {"a": 1}, NullReporter()) == stop
        for epoch in range(stop, 3):
            second.epoch(epoch)
        for place, learner in enumerate(whole.students):
            assert same(learner.state()[0], second.students[place].state()[0]), (stop, place)


class Said(NullReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_a_checkpoint_cut_in_half_gives_way_to_the_one_before(tmp_path: Path) -> None:
    one = trainer()
    for epoch in (1, 2, 3):
        one.epoch(epoch - 1)
        one.save(tmp_path, epoch, {})
    assert {path.name for path in tmp_path.iterdir()} == {LAST, BEFORE}
    data = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(data[: len(data) // 2])
    said = Said()
    assert trainer().load(tmp_path, {}, said) == 2
    assert "damaged" in said.lines[0] and "going on from the checkpoint before it" in said.lines[0]
    (tmp_path / BEFORE).write_bytes(b"")
    with pytest.raises(RunError, match=r"damaged.*start a new run"):
        trainer().load(tmp_path, {}, said)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    one = trainer()
    one.save(tmp_path, 1, {"arch": "a"})
    with pytest.raises(RunError, match="another training"):
        one.load(tmp_path, {"arch": "b"}, NullReporter())
    with pytest.raises(RunError, match="do not fit the student"):
        trainer(students=["resnet14"]).load(tmp_path, {"arch": "a"}, NullReporter())


def test_a_loss_that_is_not_finite_stops_and_names_its_term() -> None:
    one = trainer(loss="none")
    with torch.no_grad():
        one.students[0].model.get_parameter("fc.weight").fill_(float("nan"))
    with pytest.raises(RunError, match=r"the term ce of the loss became nan in epoch 1.*last good state is that of epoch 0"):
        one.epoch(0)


def test_weights_that_are_not_finite_are_not_kept() -> None:
    """The loss of the only step is finite; what it leaves is not."""
    one = trainer("none", Recipe(epochs=4, batch_size=48, lr=3e38, weight_decay=100.0), teacher=None)
    with pytest.raises(RunError, match="weights of resnet8-0 became infinite in epoch 1"):
        one.epoch(0)


def test_a_batch_in_parts_is_the_same_batch() -> None:
    weights_of = []
    for parts in (1, 3):
        one = trainer("kd", Recipe(epochs=2, batch_size=16, lr=0.05, grad_accum_steps=parts), students=["small"])
        one.epoch(0)
        weights_of.append(weights(one))
    for name, value in weights_of[0].items():
        torch.testing.assert_close(value, weights_of[1][name], msg=name)


def test_the_moving_average_is_the_recursion() -> None:
    one = trainer("kd", Recipe(epochs=2, batch_size=16, lr=0.05, model_ema_decay=0.8))
    learner = one.students[0]
    average = {name: value.clone() for name, value in learner.model.named_parameters()}
    real = one._update

    def follow(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        for name, value in learner.model.named_parameters():
            average[name] = 0.8 * average[name] + 0.2 * value.detach()

    one._update = follow  # type: ignore[method-assign]
    one.epoch(0)
    for name, value in learner.result.model.named_parameters():
        torch.testing.assert_close(value, average[name], msg=name)
    assert learner.result.model is not learner.model


@pytest.mark.parametrize("loss", ["kd", "mgd"])
def test_side_by_side_is_as_alone(loss: str) -> None:
    """Dropout and random masks too: the draws of a step do not depend on who else is trained."""
    both = trainer(loss, students=["small", "small"], dropout=0.3)
    both.students[1].model.load_state_dict(both.students[0].model.state_dict())
    alone = trainer(loss, students=["small"], dropout=0.3)
    for epoch in range(2):
        terms = both.epoch(epoch)
        own = alone.epoch(epoch)
        assert terms["small-0/ce"] == terms["small-1/ce"] == own["ce"]
    assert same(weights(both, 0), weights(alone)) and same(weights(both, 1), weights(alone))


def test_peers_learn_from_each_other_at_once() -> None:
    """Three peers, one step by hand: each minimises CE + the mean of KL(peer || self), all from the weights before the step."""
    recipe = Recipe(epochs=2, batch_size=48, lr=0.05, weight_decay=0.0)
    ours, theirs = (trainer("dml", recipe, ["small", "small", "small"]) for _ in range(2))
    ours.epoch(0)
    (batch,) = theirs.feed.epoch(0)
    models = [learner.model for learner in theirs.students]
    logits = [model(normalised(batch.pixels)) for model in models]
    for place, (model, own) in enumerate(zip(models, logits, strict=True)):
        others = [F.softmax(one.detach(), 1) for at, one in enumerate(logits) if at != place]
        divergence = sum(F.kl_div(F.log_softmax(own, 1), other, reduction="batchmean") for other in others) / 2
        loss = F.cross_entropy(own, batch.target) + divergence
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        for parameter, gradient, mine in zip(model.parameters(), grads, ours.students[place].model.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter - 0.05 * gradient)


def test_udml_moves_both_towards_each_other() -> None:
    recipe = Recipe(epochs=2, batch_size=48, lr=0.05, weight_decay=0.0)
    ours, theirs = (trainer("udml", recipe, ["small", "small"]) for _ in range(2))
    ours.epoch(0)
    (batch,) = theirs.feed.epoch(0)
    first, second = (learner.model for learner in theirs.students)
    pooled = [model.forward_features(normalised(batch.pixels)).mean((2, 3)) for model in (first, second)]  # type: ignore[operator]
    a, b = (model.fc(x) for model, x in zip((first, second), pooled, strict=True))  # type: ignore[operator]
    p, q = F.log_softmax(a, 1), F.log_softmax(b, 1)
    js = (F.kl_div(p, q, log_target=True, reduction="batchmean") + F.kl_div(q, p, log_target=True, reduction="batchmean")) / 2
    loss = F.cross_entropy(a, batch.target) + F.cross_entropy(b, batch.target) + js + F.mse_loss(*pooled)
    for model, learner in zip((first, second), ours.students, strict=True):
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        for parameter, gradient, mine in zip(model.parameters(), grads, learner.model.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter - 0.05 * gradient)


def test_dlb_learns_from_the_last_step_of_the_repeated_half() -> None:
    recipe = Recipe(epochs=2, batch_size=8, lr=0.05)
    ours, theirs = (trainer("dlb", recipe, ["small"]) for _ in range(2))
    terms = ours.epoch(0)
    model = theirs.students[0].model
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4)
    before: Tensor | None = None
    added = []
    for batch in theirs.feed.epoch(0):
        logits = model(normalised(batch.pixels))
        loss = F.cross_entropy(logits, batch.target)
        if before is not None:
            soft = F.softmax(before / 3, 1)
            added.append(9 * F.kl_div(F.log_softmax(logits[:4] / 3, 1), soft, reduction="batchmean"))
            loss = loss + added[-1]
        before = logits.detach()[4:]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for (name, a), b in zip(ours.students[0].model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert terms["dlb"] == pytest.approx(sum(one.item() for one in added) / len(added), rel=1e-4), "of the steps that have it"


def test_distillation_that_is_stopped_early_leaves_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer("kd", distill_fraction=0.5)
    calls = 0
    real = FrozenTeacher.observe

    def counted(self: FrozenTeacher, *arguments: object) -> object:
        nonlocal calls
        calls += 1
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FrozenTeacher, "observe", counted)
    terms = [set(one.epoch(epoch)) for epoch in range(4)]
    assert terms == [{"lr", "ce", "kd"}] * 2 + [{"lr", "ce"}] * 2
    assert calls == 2 * 3, "three steps an epoch; then the teacher is not run"


@pytest.mark.parametrize("loss", ["kd", "skd", "kd(ce_weight=0)"])
def test_once_the_teacher_is_silent_the_labels_count_in_full(loss: str) -> None:
    stopped, alone = trainer(loss, distill_fraction=0.0), trainer("none", teacher=None)
    assert stopped.epoch(0) == alone.epoch(0) and same(weights(stopped), weights(alone))


@pytest.mark.parametrize("augment", ["flip", "none"])
@pytest.mark.parametrize("loss", ["kd", "rkd"])
def test_a_remembered_teacher_teaches_the_same(augment: str, loss: str) -> None:
    recipe = Recipe(epochs=4, batch_size=16, lr=0.02, augment=augment)  # type: ignore[arg-type]
    asked, remembered = trainer(loss, recipe), trainer(loss, recipe, teacher_cache=True)
    for epoch in range(2):
        ours, theirs = asked.epoch(epoch), remembered.epoch(epoch)
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_a_teacher_is_not_remembered_where_images_differ_each_time() -> None:
    for loss, options in (("kd", {"augment": "crop"}), ("kd", {"augment": "flip", "mixup": 0.2}), ("at", {"augment": "flip"})):
        recipe = Recipe(epochs=4, batch_size=16, **options)  # type: ignore[arg-type]
        one = trainer(loss, recipe)
        assert one.teaching is not None and not one.teaching.remember(one.feed, recipe)


@pytest.mark.parametrize("loss", ["kd", "at", "afd"])
def test_compiled_without_a_break(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    """The hooks that watch stages are part of the graph: a break would be an error here."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    plain = trainer(loss, Recipe(epochs=4, batch_size=16, lr=0.02))
    compiled = trainer(loss, Recipe(epochs=4, batch_size=16, lr=0.02, torchcompile=True))
    assert compiled.epoch(0) == pytest.approx(plain.epoch(0), rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near(precision: str) -> None:
    whole, half = (trainer("kd", Recipe(epochs=4, batch_size=16, lr=0.02, precision=p)) for p in ("fp32", precision))  # type: ignore[arg-type]
    assert half.epoch(0) == pytest.approx(whole.epoch(0), rel=0.1)
    assert all(p.dtype == torch.float32 for p in half.students[0].model.parameters())


# measuring


def copies_the_label() -> nn.Module:
    class Copy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.one_hot((x[:, 0, 0, 0] * 255).round().long() % 10, 10).float()

    return Copy()


def test_accuracy_and_its_interval() -> None:
    labels = np.arange(1200) % 10
    guesses = np.where(np.arange(1200) < 900, labels, (labels + 1) % 10)
    source = ArrayImages(np.broadcast_to(guesses[:, None, None, None], (1200, 2, 2, 3)).astype(np.uint8), labels)
    accuracy = evaluate(Network(copies_the_label(), Normalise(torch.zeros(3), torch.ones(3))), source, "cpu")
    assert accuracy.top1 == 75.0 and accuracy.count == 1200
    z = 1.959964
    middle, width = (900 + z**2 / 2) / (1200 + z**2), z * (900 * 300 / 1200 + z**2 / 4) ** 0.5 / (1200 + z**2)
    assert accuracy.interval == pytest.approx((100 * (middle - width), 100 * (middle + width)))
    low, high = Accuracy(0.0, 40).interval
    assert low == 0 and high == pytest.approx(100 * z**2 / (40 + z**2)), "no image right is not certainty"


def test_top5_counts_the_five_likeliest() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(10.0).expand(len(x), 10)  # 9, 8, 7, 6, 5 are the likeliest

    source = ArrayImages(np.zeros((100, 2, 2, 3), np.uint8), np.arange(100) % 10)
    accuracy = evaluate(Network(Fixed(), Normalise(torch.zeros(3), torch.ones(3))), source, "cpu")
    assert (accuracy.top1, accuracy.top5) == (10.0, 50.0)

    class Few(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 5)

    few = evaluate(Network(Few(), Normalise(torch.zeros(3), torch.ones(3))), source, "cpu")
    assert math.isnan(few.top5), "five classes: whatever is brief_repr is among the first five"


def test_padding_is_black() -> None:
    brief_repr = pad_images(torch.ones(1, 2, 2, 3, dtype=torch.uint8), Recipe(augment="crop"))
    assert brief_repr.shape == (1, 10, 10, 3) and int(brief_repr.sum()) == 12


@pytest.mark.parametrize("name", ["resnet20", "resnet20_pad", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_folded_norms_compute_the_same(name: str) -> None:
    torch.manual_seed(0)
    model = ZOO[name](num_classes=4).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    twin = fuse_conv_bn(model, torch.randn(2, 3, 32, 32))
    x = torch.randn(4, 3, 32, 32)
    assert twin is not model and sum(isinstance(m, nn.BatchNorm2d) for m in twin.modules()) < norms
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == norms
    torch.testing.assert_close(twin(x), model(x), rtol=1e-3, atol=1e-4)


def test_a_convolution_that_is_also_read_elsewhere_is_not_folded() -> None:
    class Twice(Small):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(8)

        def forward_features(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.bn(y) + y

    model = Twice().eval()
    model.bn.running_var.fill_(9.0)
    twin = fuse_conv_bn(model, torch.randn(2, 3, 8, 8))
    assert isinstance(twin.get_submodule("bn"), nn.BatchNorm2d)
