"""The frozen teacher: what it is run on, when it no longer teaches, and what of it is cached."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diswot.losses import create
from diswot.models.zoo import ZOO
from diswot.training.augment import mix_batch
from diswot.training.batches import Batch, BatchRequirements
from diswot.training.decoding import DecodingLoader
from diswot.training.evaluation import Network
from diswot.training.frozen_teacher import FrozenTeacher
from tests.training.samples import NORMALISE, ONE, images, make_recipe, memory_loader, normalised, same, trainer, training_set, weights


def frozen_resnet(loss: str = "kd", recipe: Any = None, **options: Any) -> FrozenTeacher:
    torch.manual_seed(3)
    return FrozenTeacher(Network(ZOO["resnet8"](num_classes=4), NORMALISE), [create(loss)], recipe or make_recipe(), "cpu", **options)


@pytest.mark.parametrize("loss", ["kd", "ofd"])  # ofd runs it on batch statistics, as its paper does, and all the same leaves it alone
def test_the_teacher_is_frozen_and_in_evaluation_mode(loss: str) -> None:
    one = trainer(loss)
    assert one.teacher is not None
    model = one.teacher.network.model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    one.epoch(0)
    assert same(before, dict(model.state_dict())) and not model.training
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def test_ofd_sees_the_teacher_as_in_training() -> None:
    one = trainer("ofd")
    assert one.teacher is not None
    batch = next(iter(one.loader.epoch(0)))
    pixels = normalised(batch.pixels)
    seen = one.teacher.observe(batch.pixels, batch).logits
    model = one.teacher.network.model.train()
    torch.testing.assert_close(seen, model(pixels).detach())


def test_the_teacher_normalises_in_its_own_way() -> None:
    teacher = frozen_resnet()
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    seen = teacher.observe(pixels)
    torch.testing.assert_close(seen.logits, teacher.network.model(normalised(pixels)))
    assert not seen.logits.requires_grad


def test_the_teacher_shows_what_the_loss_reads_and_the_logits() -> None:
    for loss, shown in (("kd", set()), ("rkd", {"pooled"}), ("at", {"stages"}), ("afd", {"blocks"}), ("ofd", {"preacts", "norms"})):
        seen = frozen_resnet(loss).observe(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
        assert seen.logits.shape == (2, 4)
        for name in shown:
            assert len(getattr(seen, name)), (loss, name)
        for name in {"blocks", "stages", "preacts", "norms"} - shown:
            assert getattr(seen, name) == (), (loss, name)


@pytest.mark.parametrize(("loss", "fused"), [("kd", True), ("at", True), ("ofd", False), ("ofd(batch_statistics=false)", False)])
def test_batch_norms_are_fused_where_nothing_reads_them(loss: str, fused: bool) -> None:
    """The teacher shows the same."""
    example = torch.randn(2, 3, 8, 8)
    plain, teacher = frozen_resnet(loss), frozen_resnet(loss, example=example)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in one.network.model.modules()) for one in (plain, teacher)]
    assert (norms[1] < norms[0]) == fused
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(teacher.observe(pixels).logits, plain.observe(pixels).logits, rtol=1e-3, atol=1e-4)


def count_observations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in every call of a teacher that runs its network."""
    sizes: list[int] = []
    real = FrozenTeacher.observe

    def counted(self: FrozenTeacher, pixels: Tensor, batch: Batch | None = None) -> Any:
        if not (self.is_cached and batch is not None):
            sizes.append(len(pixels))
        return real(self, pixels, batch)

    monkeypatch.setattr(FrozenTeacher, "observe", counted)
    return sizes


def test_distillation_that_is_stopped_early_leaves_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer("kd", distill_fraction=0.5)
    sizes = count_observations(monkeypatch)
    terms = [set(one.epoch(epoch)) for epoch in range(4)]
    assert terms == [{"lr", "ce", "kd"}] * 2 + [{"lr", "ce"}] * 2
    assert sizes == [16] * 6, "three steps an epoch; then the teacher is not run"


@pytest.mark.parametrize("loss", ["kd", "skd", "kd(ce_weight=0)", "fitnets"])
def test_once_the_teacher_is_silent_the_labels_count_in_full(loss: str) -> None:
    stopped, alone = trainer(loss, distill_fraction=0.0), trainer("none")
    assert stopped.epoch(0) == alone.epoch(0) and same(weights(stopped), weights(alone))


@pytest.mark.parametrize(
    ("options", "views"), [({"augment": "flip"}, 2), ({"augment": "none"}, 1), ({"augment": "crop", "crop_views": 3}, 3)]
)
@pytest.mark.parametrize("loss", ["kd", "rkd"])
def test_a_cached_teacher_teaches_the_same(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], views: int, loss: str) -> None:
    """Its network is run once over the images, and once more over the mirrored ones; or once for each crop."""
    sizes = count_observations(monkeypatch)
    recipe = make_recipe(**options)
    cached = trainer(loss, recipe, teacher_cache=True)
    assert sum(sizes[1:]) == views * 48
    sizes.clear()
    asked = trainer(loss, recipe)
    for epoch in range(2):
        ours = cached.epoch(epoch)
        assert not sizes
        assert asked.epoch(epoch) == pytest.approx(ours, rel=1e-3)
        assert sizes == [16] * 3
        sizes.clear()


def test_a_teacher_is_not_cached_where_images_differ_each_time() -> None:
    for loss, options in (
        ("kd", {"augment": "crop"}),
        ("kd", {"augment": "flip", "mixup": 0.2}),
        ("kd", {"augment": "none", "cutmix": 0.2}),
        ("kd", {"augment": "none", "cutout": 3}),
        ("at", {"augment": "flip"}),
        ("ofd", {"augment": "none"}),
    ):
        recipe = make_recipe(**options)
        one = trainer(loss, recipe)
        assert one.teacher is not None
        assert not one.teacher.cache(memory_loader(recipe), recipe) and not one.teacher.is_cached, (loss, options)


def test_a_teacher_of_images_that_are_read_one_by_one_is_not_cached() -> None:
    recipe = make_recipe(augment="none")
    loader = DecodingLoader(training_set(images()), recipe, "cpu", ONE, BatchRequirements(), 0)
    assert not frozen_resnet().cache(loader, recipe)


def test_a_cache_that_would_be_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """48 images, mirrored and not, four logits of four bytes each."""
    recipe = make_recipe(augment="flip")
    for limit, cached in ((2 * 48 * 4 * 4, True), (2 * 48 * 4 * 4 - 1, False)):
        monkeypatch.setattr("diswot.training.frozen_teacher._MAX_CACHE", limit)
        assert frozen_resnet().cache(memory_loader(recipe), recipe) is cached


def test_mixed_images_are_shown_to_the_teacher_as_to_the_student() -> None:
    """The very pixels of the step."""
    one = trainer("kd", make_recipe(batch_size=48, mixup=1.0), students=["small"])
    seen: list[Tensor] = []
    assert one.teacher is not None
    for model in (one.teacher.network.model, one.students[0].model):
        model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    one.epoch(0)
    of_teacher, of_student = seen
    assert torch.equal(of_teacher, of_student)
    (batch,) = one.loader.epoch(0)
    with torch.random.fork_rng(devices=[]):
        one._seed(0, 0, 1, 0, 0)
        pixels, _ = mix_batch(batch.pixels, batch.target, 4, one.recipe)
    torch.testing.assert_close(of_teacher, (pixels - 0.4) / 0.3)
