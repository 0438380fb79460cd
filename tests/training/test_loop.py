"""A step of the training loop is what the recipe says, and an epoch stops where its numbers do."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.config.training import Recipe
from diswot.errors import RunError
from diswot.training.augment import mix_batch
from diswot.training.loop import Trainer
from diswot.training.student import StudentState
from tests.training.samples import make_recipe, normalised, same, trainer, weights


def kd_by_hand(logits: Tensor, target: Tensor, soft: Tensor) -> Tensor:
    ce = 0.1 * F.cross_entropy(logits, target)
    return ce + 0.9 * 16 * F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(soft / 4, 1), reduction="batchmean")


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_a_step_is_torchs_own_sgd_on_the_sum_of_the_terms(clip: float) -> None:
    recipe = make_recipe(clip_grad=clip, nesterov=True)
    ours, theirs = trainer(recipe=recipe), trainer(recipe=recipe)
    ours.epoch(0)
    assert theirs.teacher is not None
    model, teacher = theirs.students[0].model.train(), theirs.teacher.network.model.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for batch in theirs.loader.epoch(0):
        pixels = normalised(batch.pixels)
        loss = kd_by_hand(model(pixels), batch.target, teacher(pixels))
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    for (name, a), b in zip(ours.students[0].model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_adapters_are_trained_beside_the_student() -> None:
    one = trainer("fitnets")
    before = [parameter.clone() for parameter in one.students[0].modules.parameters()]
    one.epoch(0)
    after = list(one.students[0].modules.parameters())
    assert before and all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("sched", ["step", "cosine"])
def test_an_epoch_is_trained_at_its_learning_rate(sched: str) -> None:
    """Which the log has; with layer decay, each group has its own share of it."""
    recipe = make_recipe(sched=sched, lr=0.1)
    one = trainer("none", recipe, students=["small"])
    one.students[0].optimizer.param_groups[0]["lr_scale"] = 0.5
    for epoch in range(4):
        assert one.epoch(epoch)["lr"] == recipe.learning_rate(epoch)
        assert one.students[0].optimizer.param_groups[0]["lr"] == 0.5 * recipe.learning_rate(epoch)
    assert recipe.learning_rate(3) < recipe.learning_rate(0) == 0.1


def test_the_log_has_the_means_of_the_terms() -> None:
    """Over the steps; they are what the losses gave, in a training whose weights stay as they are."""
    recipe = make_recipe(lr=1e-30, weight_decay=0.0)
    one, other = trainer("kd", recipe, students=["small"]), trainer("kd", recipe, students=["small"])
    terms = one.epoch(0)
    assert other.teacher is not None
    teacher, model = other.teacher.network.model, other.students[0].model
    ce, kd = [], []
    for batch in other.loader.epoch(0):
        logits, soft = model(normalised(batch.pixels)), teacher(normalised(batch.pixels))
        ce.append(0.1 * F.cross_entropy(logits, batch.target).item())
        kd.append(kd_by_hand(logits, batch.target, soft).item() - ce[-1])
    assert terms == pytest.approx({"lr": 1e-30, "ce": sum(ce) / 3, "kd": sum(kd) / 3}, rel=1e-4)


def test_a_batch_in_parts_is_the_same_batch() -> None:
    weights_of, terms_of = [], []
    for parts in (1, 3):
        one = trainer("kd", make_recipe(epochs=2, lr=0.05, grad_accum_steps=parts), students=["small"])
        terms_of.append(one.epoch(0))
        weights_of.append(weights(one))
    for name, value in weights_of[0].items():
        torch.testing.assert_close(value, weights_of[1][name], msg=name)
    assert terms_of[1] == pytest.approx(terms_of[0], rel=1e-5)


def test_the_moving_average_is_the_recursion(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer("kd", make_recipe(epochs=2, lr=0.05, model_ema_decay=0.8))
    student = one.students[0]
    average = {name: value.clone() for name, value in student.model.named_parameters()}
    real, steps = Trainer._update, 0

    def follow(self: Trainer, group: list[StudentState], scaler: torch.amp.GradScaler) -> None:
        nonlocal steps
        real(self, group, scaler)
        steps += 1
        for name, value in student.model.named_parameters():
            average[name] = 0.8 * average[name] + 0.2 * value.detach()

    monkeypatch.setattr(Trainer, "_update", follow)
    one.epoch(0)
    assert steps == 3
    for name, value in student.result.model.named_parameters():
        torch.testing.assert_close(value, average[name], msg=name)
    assert student.result.model is not student.model
    assert not same(dict(student.result.model.named_parameters()), dict(student.model.named_parameters()))


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


def test_an_epoch_leaves_the_global_generator_as_it_was() -> None:
    one = trainer("mgd", students=["small"], dropout=0.3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one.epoch(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_draws_other_masks() -> None:
    def terms(seed: int) -> dict[str, float]:
        recipe = make_recipe(seed=seed, batch_size=48, augment="none")
        return trainer("none", recipe, students=["small"], dropout=0.5).epoch(0)

    assert terms(0) == terms(0) != terms(1)


def test_a_loss_that_is_not_finite_stops_and_names_its_term() -> None:
    one = trainer("none")
    with torch.no_grad():
        one.students[0].model.get_parameter("fc.weight").fill_(float("nan"))
    says = r"the term ce of the loss became nan in epoch 1: use a smaller --lr; the last good state is that of epoch 0"
    with pytest.raises(RunError, match=says):
        one.epoch(0)


def test_weights_that_are_not_finite_are_not_kept() -> None:
    """The loss of the only step is finite; what it leaves is not."""
    one = trainer("none", make_recipe(batch_size=48, lr=3e38, weight_decay=100.0))
    with pytest.raises(RunError, match="weights of resnet8-0 became infinite in epoch 1: use a smaller --lr"):
        one.epoch(0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near(precision: str) -> None:
    whole, half = (trainer("kd", make_recipe(precision=p)) for p in ("fp32", precision))
    assert half.epoch(0) == pytest.approx(whole.epoch(0), rel=0.1)
    assert all(p.dtype == torch.float32 for p in half.students[0].model.parameters())
    assert not same(weights(half), weights(whole)), "the forward pass is another"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_norm_of_the_gradient_is_clipped_as_it_is_and_not_as_it_is_scaled(precision: str) -> None:
    """A step by plain gradient descent is then as long as the learning rate times the largest norm."""
    one = trainer("none", make_recipe(batch_size=48, weight_decay=0.0, lr=0.5, clip_grad=1e-3, precision=precision), students=["small"])
    before = weights(one)
    one.epoch(0)
    length = torch.stack([(value - before[name]).norm() for name, value in weights(one).items()]).norm()
    assert length.item() == pytest.approx(0.5 * 1e-3, rel=1e-2)


def test_losses_are_computed_in_full_precision_whatever_networks_run_in(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    real = F.cross_entropy

    def noted(logits: Tensor, target: Tensor, **options: float) -> Tensor:
        seen.add(logits.dtype)
        return real(logits, target, **options)

    monkeypatch.setattr(F, "cross_entropy", noted)
    trainer("kd", make_recipe(precision="bf16")).epoch(0)
    assert seen == {torch.float32}


@pytest.mark.parametrize("loss", ["kd", "at", "afd"])
@pytest.mark.slow
def test_compiled_without_a_break(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    """The hooks that watch stages are part of the graph: a break would be an error here."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    plain, compiled = (trainer(loss, make_recipe(torchcompile=wanted)) for wanted in (False, True))
    assert compiled.epoch(0) == pytest.approx(plain.epoch(0), rel=1e-4)


def test_images_are_mixed_by_the_draws_of_their_step() -> None:
    """A step by hand, on the pixels and the shares that the loop mixes by its own seed."""
    recipe = make_recipe(batch_size=48, lr=0.05, weight_decay=0.0, mixup=1.0)
    ours, theirs = (trainer("none", recipe, students=["small"]) for _ in range(2))
    ours.epoch(0)
    (batch,) = theirs.loader.epoch(0)
    with torch.random.fork_rng(devices=[]):
        theirs._seed(0, 0, 1, 0, 0)
        pixels, shares = mix_batch(batch.pixels, batch.target, 4, recipe)
    model = theirs.students[0].model
    loss = F.cross_entropy(model((pixels - 0.4) / 0.3), shares)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    for parameter, gradient, mine in zip(model.parameters(), grads, ours.students[0].model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter - 0.05 * gradient)
    assert not torch.equal(shares, F.one_hot(batch.target, 4).float())


def test_the_layout_is_that_of_convolutions_unless_told_otherwise() -> None:
    for channels_last in (True, False):
        one = trainer("kd", make_recipe(channels_last=channels_last))
        assert one.teacher is not None
        for model in (one.students[0].model, one.teacher.network.model):
            weight = model.get_parameter("layer2.0.conv1.weight")
            assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_a_recipe_of_defaults_is_that_of_the_literature() -> None:
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum, recipe.weight_decay) == (240, 64, 0.05, 0.9, 5e-4)
