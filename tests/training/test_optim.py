"""What a recipe decides: learning rates, groups of parameters, the optimizer, and whether a training with it could be resumed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import timm
import torch
from torch import nn

from diswot.config import Recipe, TrainConfig
from diswot.config.fields import flag_of
from diswot.errors import ConfigError
from diswot.models.zoo import ZOO
from diswot.training.optim import make_optimizer
from diswot.training.optimizer_state import check_optimizer


@pytest.mark.parametrize(("sched", "warmup"), [("step", 0), ("cosine", 0), ("cosine", 4), ("constant", 2)])
def test_learning_rates_are_torchs(sched: str, warmup: int) -> None:
    from torch.optim import lr_scheduler

    recipe = Recipe(epochs=24, sched=sched, warmup_epochs=warmup, lr=0.4, warmup_lr=0.1, min_lr=0.0)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.4)
    theirs = {
        "step": lambda: lr_scheduler.MultiStepLR(optimizer, [15, 18, 21]),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, 24),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, 1.0),
    }[sched]()
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
    assert Recipe(epochs=100, decay_milestones="0.29").learning_rate(28) == 0.05
    assert Recipe(epochs=100, decay_milestones="0.29").learning_rate(29) == pytest.approx(0.005), ".29 of 100 is 29, whatever floats say"


def test_one_group_of_parameters_decays_as_a_whole_unless_norms_are_left_out() -> None:
    model = ZOO["resnet8"](num_classes=4)
    plain = make_optimizer(Recipe(), model).param_groups
    assert len(plain) == 1 and len(plain[0]["params"]) == len(list(model.parameters()))
    apart = make_optimizer(Recipe(norm_weight_decay=False, weight_decay=0.1), model).param_groups
    assert sum(len(group["params"]) for group in apart) == len(list(model.parameters()))
    for group in apart:
        assert len({parameter.ndim > 1 for parameter in group["params"]}) == 1
        assert group["weight_decay"] == (0.1 if group["params"][0].ndim > 1 else 0)


def test_layers_further_down_learn_more_slowly() -> None:
    deep = timm.create_model("resnet18", num_classes=4)
    layered = make_optimizer(Recipe(layer_decay=0.5), deep).param_groups
    assert sum(len(group["params"]) for group in layered) == len(list(deep.parameters()))
    assert len({group["lr_scale"] for group in layered}) > 1 and max(group["lr_scale"] for group in layered) == 1
    scale = {id(parameter): group["lr_scale"] for group in layered for parameter in group["params"]}
    assert scale[id(deep.conv1.weight)] < scale[id(deep.layer3[0].conv1.weight)] < scale[id(deep.fc.weight)] == 1
    with pytest.raises(ConfigError, match=r"--layer-decay 0.5: this network does not say .* leave it out"):
        make_optimizer(Recipe(layer_decay=0.5), ZOO["resnet8"](num_classes=4))


def test_adapters_are_a_group_of_their_own() -> None:
    model, adapter = ZOO["resnet8"](num_classes=4), nn.Linear(2, 3)
    groups = make_optimizer(Recipe(norm_weight_decay=False, weight_decay=0.1), model, adapter.parameters()).param_groups
    assert [id(p) for p in groups[-1]["params"]] == [id(p) for p in adapter.parameters()]
    assert (groups[-1]["weight_decay"], groups[-1]["lr_scale"]) == (0.1, 1.0)


def test_optimizers_are_timms_by_name() -> None:
    model = ZOO["resnet8"](num_classes=4)
    assert type(make_optimizer(Recipe(opt="lamb", lr=5e-3), model)).__name__ == "Lamb"
    with pytest.raises(ConfigError, match="--opt 'admw': unknown optimizer: did you mean adamw"):
        make_optimizer(Recipe(opt="admw"), model)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "adafactorbv", "radam", "nadamw", "madgrad"])
def test_optimizers_go_on_as_if_nothing_had_been(name: str) -> None:
    check_optimizer(Recipe(opt=name, lr=1e-3))


def test_optimizers_that_could_not_be_resumed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--opt adahessian: it cannot train here \(.+\): use another"):
        check_optimizer(Recipe(opt="adahessian"))

    class Forgetful(torch.optim.SGD):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "state": {}}

    def forgetful(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
        return Forgetful(model.parameters(), 0.1, 0.9)

    monkeypatch.setattr("diswot.training.optimizer_state.make_optimizer", forgetful)
    with pytest.raises(ConfigError, match=r"^--opt sgd: a training that was cut off would go on otherwise; use another"):
        check_optimizer(Recipe())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -1.0, "epochs": 0}, "--epochs 0: at least 1 is needed; --lr -1.0: more than 0 is needed"),
        ({"lr": float("nan")}, "--lr nan: more than 0"),
        ({"lr": float("inf")}, "--lr inf: more than 0"),
        ({"momentum": 1.0}, "--momentum 1.0: 0 or more and below 1"),
        ({"smoothing": 1.0}, "--smoothing 1.0: 0 or more and below 1"),
        ({"batch_size": 1}, "--batch-size 1: at least 2"),
        ({"model_ema_decay": 1.0}, "--model-ema-decay 1.0: 0 or more and below 1"),
        ({"layer_decay": 0.0}, "--layer-decay 0.0: more than 0 and at most 1"),
        ({"decay_rate": 1.5}, "--decay-rate 1.5: more than 0 and at most 1"),
        ({"reprob": 1.5}, "--reprob 1.5: 0 or more and at most 1"),
        ({"weight_decay": -1.0}, "--weight-decay -1.0: 0 or more"),
        ({"clip_grad": float("inf")}, "--clip-grad inf: 0 or more"),
        ({"grad_accum_steps": 0}, "--grad-accum-steps 0: at least 1"),
        ({"aug_repeats": 0}, "--aug-repeats 0: at least 1"),
        ({"val_interval": 0}, "--val-interval 0: at least 1"),
        ({"warmup_epochs": 9, "epochs": 9}, "--warmup-epochs 9: fewer than the 9 epochs are needed"),
        ({"grad_accum_steps": 20, "batch_size": 32}, "--grad-accum-steps 20: a batch of 32 has only 16 parts of two images"),
        ({"decay_milestones": "0.5,2"}, "--decay-milestones '0.5,2': fractions of the training between 0 and 1"),
        ({"decay_milestones": "a"}, "--decay-milestones 'a': fractions of the training"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TrainConfig(**options).check()


@pytest.mark.parametrize(
    "name", ["warmup_epochs", "warmup_lr", "min_lr", "clip_grad", "cutout", "mixup", "cutmix", "weight_decay", "momentum"]
)
def test_nothing_at_all_can_be_asked_for_and_less_cannot(name: str) -> None:
    TrainConfig(**{name: 0}).check()
    with pytest.raises(ConfigError, match=f"{flag_of(name)} -1: 0 or more"):
        TrainConfig(**{name: -1}).check()


def test_every_field_of_a_recipe_is_an_option_of_training_by_the_same_default() -> None:
    options = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for field in dataclasses.fields(Recipe):
        assert field.name in options and options[field.name] == field.default, field.name
    assert TrainConfig().recipe() == Recipe()
    changed = TrainConfig(epochs=3, opt="lamb", decay_milestones="0.5", seed=7, augment="flip")
    assert changed.recipe() == Recipe(epochs=3, opt="lamb", decay_milestones="0.5", seed=7, augment="flip")


@pytest.mark.parametrize(("side", "augment"), [(32, "crop"), (64, "crop"), (65, "resized"), (224, "resized")])
def test_augmentation_fits_the_images_unless_it_was_asked_for(side: int, augment: str) -> None:
    assert Recipe().for_images(side) == Recipe(augment=augment)  # type: ignore[arg-type]
    assert Recipe(augment="none").for_images(side) == Recipe(augment="none")
