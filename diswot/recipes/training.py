"""The one training loop: a student under a teacher, or, with `loss none`, a network alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from diswot.data.images import ImageSet
from diswot.devices import place
from diswot.errors import ConfigError, RunError
from diswot.losses import Loss
from diswot.observe import Observation, observe
from diswot.progress import Reporter
from diswot.runs import RunDir, write_atomic

CHECKPOINT, METRICS = "last.safetensors", "metrics.jsonl"
_DROPS = (150 / 240, 180 / 240, 210 / 240)  # when the learning rate falls tenfold, as shares of the training
_EVALUATION_BATCH = 500
_PADDING = 4


@dataclass(frozen=True)
class Recipe:
    """The standard CIFAR recipe of the distillation literature; drops are moved in proportion where `epochs` is not 240."""

    epochs: int = 240
    batch: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    seed: int = 0

    def learning_rate(self, epoch: int) -> float:
        """Of the epoch counted from 0.

        >>> [round(Recipe().learning_rate(e), 8) for e in (0, 149, 150, 180, 239)]
        [0.05, 0.05, 0.005, 0.0005, 5e-05]
        """
        return self.lr * 0.1 ** sum(epoch >= math.floor(share * self.epochs) for share in _DROPS if self.epochs > 1)


@dataclass(frozen=True)
class Normalise:
    """uint8 (B, H, W, C) on any device -> float (B, C, H, W), normalised, in the channels-last layout."""

    mean: Tensor
    std: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return ((images / 255 - mean) / std).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Network:
    """A model and how its images are normalised."""

    model: nn.Module
    normalise: Normalise


@dataclass(frozen=True)
class Accuracy:
    """Top-1 in percent on `count` images, with the half-width of its 95 % interval (normal approximation)."""

    top1: float
    count: int

    @property
    def margin(self) -> float:
        share = self.top1 / 100
        return 100 * 1.96 * math.sqrt(share * (1 - share) / self.count)

    def __str__(self) -> str:
        return f"{self.top1:.2f} % (± {self.margin:.2f}, {self.count:,} images)"


@torch.inference_mode()
def evaluate(network: Network, images: ImageSet, device: str) -> Accuracy:
    """Top-1 accuracy in evaluation mode."""
    model = network.model.eval()
    right, count = 0, len(images.labels)
    for begin in range(0, count, _EVALUATION_BATCH):
        indices = np.arange(begin, min(begin + _EVALUATION_BATCH, count))
        pixels = torch.from_numpy(images.images(indices)).to(device)
        guess = model(network.normalise(pixels)).argmax(1).cpu().numpy()
        right += int((guess == images.labels[indices]).sum())
    return Accuracy(100 * right / count, count)


def augmented(images: NDArray[np.uint8], rng: np.random.Generator, padding: int = _PADDING) -> NDArray[np.uint8]:
    """Each image shifted by up to `padding` pixels, black moving in, and mirrored half of the time: (B, H, W, C) -> the same.

    >>> augmented(np.ones((2, 8, 8, 3), np.uint8), np.random.default_rng(0)).shape
    (2, 8, 8, 3)
    """
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    top, left = rng.integers(2 * padding + 1, size=(2, count, 1))
    columns = left + np.arange(width)
    columns = np.where(rng.random((count, 1)) < 0.5, columns[:, ::-1], columns)
    return padded[np.arange(count)[:, None, None], (top + np.arange(height))[:, :, None], columns[:, None, :]]


def batches(images: ImageSet, chosen: NDArray[np.int64], recipe: Recipe, epoch: int) -> Iterator[tuple[NDArray[np.uint8], Tensor]]:
    """The chosen images in an order, and with shifts, that depend on the seed and the epoch alone. A last single image is left out:
    batch norm needs two."""
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(chosen)
    for begin in range(0, len(order), recipe.batch):
        indices = order[begin : begin + recipe.batch]
        if len(indices) == 1:
            return
        pixels = images.images(indices)
        pixels = augmented(pixels, rng) if recipe.augment else pixels
        yield np.ascontiguousarray(pixels), torch.from_numpy(images.labels[indices])


def split(count: int, limit: int | None, held_out: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images train and which are held out, drawn once by the seed.

    >>> [len(part) for part in split(100, 50, 0.1, 0)]
    [45, 5]
    """
    order = np.random.default_rng([seed, 0xD15]).permutation(count)[:limit]
    cut = round(len(order) * held_out)
    return np.sort(order[cut:]), np.sort(order[:cut])


class Trainer:
    """Trains one network, an epoch a step, and can be stopped and picked up at any epoch.

    Args:
        student: what is trained.
        teacher: what it learns from; None where the loss needs none.
        loss: returns the weighted terms.
        images: the training images; `chosen` tells which of them train.
        device: where.
    """

    def __init__(
        self,
        student: Network,
        teacher: Network | None,
        loss: Loss,
        images: ImageSet,
        chosen: NDArray[np.int64],
        recipe: Recipe,
        device: str,
    ) -> None:
        self.student, self.teacher, self.loss = student, teacher, loss
        self.images, self.chosen, self.recipe, self.device = images, chosen, recipe, device
        for network in (student, teacher):
            if network is not None:
                place(network.model, device)
        self.optimiser = torch.optim.SGD(
            student.model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0
        )

    def epoch(self, number: int) -> dict[str, float]:
        """One pass over the chosen images; the means of the loss's terms, and the learning rate.

        Raises:
            RunError: a term is not finite; it is named.
        """
        rate = self.recipe.learning_rate(number)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.student.model.train()
        totals: dict[str, float] = {}
        steps = 0
        devices = [torch.device(self.device)] if self.device == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.recipe.seed * 100_003 + number)  # dropout and the like, the same after a resume
            for pixels, target in batches(self.images, self.chosen, self.recipe, number):
                terms = self._step(torch.from_numpy(pixels).to(self.device), target.to(self.device))
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0.0) + value
                    if not math.isfinite(value):
                        raise RunError(f"the term {name} of the loss became {value} in epoch {number + 1}: use a smaller --lr")
                steps += 1
        return {"lr": rate, **{name: total / steps for name, total in totals.items()}}

    def _step(self, pixels: Tensor, target: Tensor) -> dict[str, float]:
        seen = observe(self.student.model, self.student.normalise(pixels))
        terms: dict[str, Tensor] = self.loss(seen, self._teacher(pixels), target)
        total = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return {name: float(term.detach()) for name, term in terms.items()}

    def _teacher(self, pixels: Tensor) -> Observation | None:
        if self.teacher is None:
            return None
        with torch.no_grad():
            return observe(self.teacher.model.eval(), self.teacher.normalise(pixels))

    def save(self, path: Path, epoch: int, notes: Mapping[str, Any]) -> None:
        """The state after `epoch` epochs, atomically."""
        tensors = {f"model.{k}": v for k, v in self.student.model.state_dict().items()}
        for index, parameter in enumerate(self.optimiser.param_groups[0]["params"]):
            buffer = self.optimiser.state[parameter].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{index}"] = buffer
        save_tensors(path, tensors, {"epoch": epoch, **notes})

    def load(self, path: Path, notes: Mapping[str, Any]) -> int:
        """Brings back what `save` wrote and returns the number of epochs done; `RunError` where it belongs to another training."""
        tensors, found = load_tensors(path)
        epoch = found.pop("epoch", None)
        if not isinstance(epoch, int) or found != dict(notes):
            raise RunError(f"{path}: it belongs to another training: start a new run")
        model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        try:
            self.student.model.load_state_dict(model)
        except RuntimeError:
            raise RunError(f"{path}: its weights do not fit the student: start a new run") from None
        for index, parameter in enumerate(self.optimiser.param_groups[0]["params"]):
            if f"momentum.{index}" in tensors:
                # the parameter's own layout, as it was when the run was cut off
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{index}"])
                self.optimiser.state[parameter]["momentum_buffer"] = buffer.detach()
        return epoch


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Tensors as safetensors, with plain values beside them in the header, written atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, metadata={"diswot": json.dumps(dict(notes), sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote; `RunError` where the file is missing, damaged or another's."""
    try:
        with safe_open(str(path), framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get("diswot", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(f"{path}: damaged or no safetensors file ({str(error)[:80]})") from None
    if not isinstance(notes, dict):
        raise RunError(f"{path}: not written by diswot")
    return tensors, notes


def fit(trainer: Trainer, run: RunDir, notes: Mapping[str, Any], tests: Mapping[str, ImageSet], reporter: Reporter) -> list[dict[str, Any]]:
    """Trains to the last epoch, a checkpoint and a line of metrics after each; goes on where the folder was left.

    Args:
        tests: splits whose accuracy is written down after each epoch. None of them chooses anything: the last epoch is the result.

    Returns:
        The lines of metrics.jsonl.
    """
    path, epochs = run.path / CHECKPOINT, trainer.recipe.epochs
    done = trainer.load(path, notes) if path.exists() else 0
    history = run.read(METRICS, repair=True)
    if len(history) < done:
        raise RunError(f"{run.path / METRICS}: {len(history)} lines for {done} epochs: it is damaged, start a new run")
    run.keep_first(METRICS, done)  # a line may be ahead of the checkpoint; its epoch is run again
    history = history[:done]
    reporter.start(epochs, done)
    for epoch in range(done, epochs):
        line: dict[str, Any] = {"epoch": epoch + 1, **trainer.epoch(epoch)}
        for name, images in tests.items():
            line[f"{name}_top1"] = evaluate(trainer.student, images, trainer.device).top1
        run.append(METRICS, line)
        trainer.save(path, epoch + 1, notes)
        history.append(line)
        reporter.update(epoch + 1, lambda: _summary(history[-1], tests))
    reporter.stop()
    return history


def _summary(line: Mapping[str, Any], tests: Mapping[str, ImageSet]) -> str:
    terms = [f"{k} {v:.4g}" for k, v in line.items() if k not in ("epoch", "lr") and not k.endswith("_top1")]
    return ", ".join([*terms, *(f"{name} {line[f'{name}_top1']:.2f} %" for name in tests)])


def check_recipe(recipe: Recipe) -> None:
    """`ConfigError` for numbers that cannot be."""
    faults = []
    faults += [
        f"{name} {getattr(recipe, name)}: more than 0 is needed" for name in ("epochs", "lr") if not 0 < getattr(recipe, name) < math.inf
    ]
    faults += [f"batch {recipe.batch}: at least 2 is needed"] if recipe.batch < 2 else []
    faults += [f"momentum {recipe.momentum}: 0 or more, and below 1"] if not 0 <= recipe.momentum < 1 else []
    faults += [f"weight-decay {recipe.weight_decay}: 0 or more"] if not 0 <= recipe.weight_decay < math.inf else []
    if faults:
        raise ConfigError("; ".join(faults))
