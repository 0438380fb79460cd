"""The one training loop: students under a teacher, students among themselves, or a network alone."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diswot.data.images import ImageSet
from diswot.devices import place
from diswot.errors import ConfigError, RunError, first_line
from diswot.losses import Terms
from diswot.observe import Observation
from diswot.progress import Reporter
from diswot.runs import RunDir
from diswot.training.augment import mixed
from diswot.training.checkpoint import load_checkpoint, save_checkpoint
from diswot.training.evaluation import Accuracy, evaluate
from diswot.training.feed import Batch, Feed
from diswot.training.learner import Learner, Pupil
from diswot.training.logs import Logs
from diswot.training.parallel import Parallel
from diswot.training.recipe import Recipe
from diswot.training.teaching import Teaching, full_precision

METRICS = "metrics.jsonl"
_LOOKS = 50  # steps between two looks at whether the loss is finite, where a look waits for the device
_REMEDY = ": use a smaller --lr; the last good state is that of epoch {}"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Trains networks, an epoch a call, and can be stopped and picked up at any epoch.

    Args:
        pupils: who is trained. Under a teacher, or alone, each is trained as if the others were not there; peers are trained together.
        teaching: the teacher, and until when it teaches; None where no loss looks at one.
        feed: the batches.
        device: where.
    """

    def __init__(
        self,
        pupils: Sequence[Pupil],
        teaching: Teaching | None,
        feed: Feed,
        recipe: Recipe,
        device: str,
        parallel: Parallel | None = None,
    ) -> None:
        self.teaching, self.feed, self.recipe, self.device = teaching, feed, recipe, device
        self.parallel = parallel or Parallel()
        for pupil in pupils:
            place(pupil.network.model, device, recipe.channels_last)
            for loss in pupil.losses:
                loss.to(device)
        needs = frozenset({"logits"}).union(*(loss.needs for pupil in pupils for loss in pupil.losses))
        self.learners = [Learner(pupil, needs, recipe, device, self.parallel) for pupil in pupils]
        self.partner = pupils[0].losses[0].partner
        self.speed = 0.0  # images a second in the last epoch, of all processes
        kind = torch.device(device).type
        self._scalers = [torch.amp.GradScaler(kind, enabled=recipe.precision == "fp16") for _ in self._groups()]

    def _groups(self) -> list[list[Learner]]:
        """Who is trained in one backward pass: all peers; else each by itself."""
        return [self.learners] if self.partner == "peers" else [[learner] for learner in self.learners]

    def epoch(self, number: int) -> dict[str, float]:
        """One pass over the images; the means of the losses' terms by name, and the learning rate.

        Raises:
            RunError: a term is not finite; it is named.
        """
        for learner in self.learners:
            learner.begin_epoch(number)
        totals: dict[str, Tensor] = {}
        steps: Counter[str] = Counter()
        images, begun = 0, time.monotonic()
        with torch.random.fork_rng(devices=[torch.device(self.device)] if self.device.startswith("cuda") else []):
            for step, batch in enumerate(self.feed.epoch(number), 1):
                images += len(batch.target) * self.parallel.world
                for name, value in self._step(batch, number, step).items():
                    totals[name] = totals[name] + value if name in totals else value
                    steps[name] += 1  # not every step has every term
                if self.device == "cpu" or step % _LOOKS == 0:
                    self._refuse_infinite(totals, number)
        self._refuse_infinite(totals, number)
        for learner in self.learners:
            learner.end_epoch()
            if not learner.finite():
                raise RunError(f"weights of {learner.name} became infinite in epoch {number + 1}{_REMEDY.format(number)}")
        self.speed = images / (time.monotonic() - begun)
        means = {name: float(self.parallel.sum(total)) / self.parallel.world / steps[name] for name, total in totals.items()}
        return {"lr": self.recipe.learning_rate(number), **means}

    def _refuse_infinite(self, totals: Mapping[str, Tensor], epoch: int) -> None:
        values = torch.stack(list(totals.values())).tolist()
        for name, value in zip(totals, values, strict=True):
            if not math.isfinite(value):
                raise RunError(f"the term {name} of the loss became {value} in epoch {epoch + 1}{_REMEDY.format(epoch)}")

    def _step(self, batch: Batch, epoch: int, step: int) -> dict[str, Tensor]:
        """One update of every learner; the terms of its losses, without gradient."""
        size = len(batch.target)
        parts = [batch.part(slice(*cut)) for cut in _cuts(size, self.recipe.accumulate)]
        terms: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            draws = (epoch, step, number)
            for name, value in self._part(part, draws, len(part.target) / size).items():
                terms[name] = terms[name] + value if name in terms else value
        for group, scaler in zip(self._groups(), self._scalers, strict=True):
            self._update(group, scaler)
        return terms

    def _part(self, batch: Batch, draws: tuple[int, int, int], share: float) -> dict[str, Tensor]:
        """Forward and backward on a batch, or on this share of it; `draws` are epoch, step and part, which random numbers depend on."""
        pixels, target = batch.pixels, batch.target
        if self.recipe.mixes:
            self._seed(0, *draws, 0)  # all processes mix in the same way
            pixels, target = mixed(pixels, target, self.feed.num_classes, self.recipe)
        taught = self._taught(pixels, batch, epoch=draws[0])
        found: dict[str, Tensor] = {}
        for group, scaler in zip(self._groups(), self._scalers, strict=True):
            seen = []
            for index, learner in enumerate(group):
                self._seed(self.parallel.rank, *draws, index)
                seen.append(self._observe(learner, pixels))
            # without a cross-entropy a classifier may have no gradient, which other processes would wait for: it has one of 0
            totals = [0.0 * one.logits.sum() for learner, one in zip(group, seen, strict=True) if not learner.modules[0].ce_weight]
            for learner, terms in zip(group, self._terms(group, seen, taught, target, batch.repeated), strict=True):
                totals += list(terms.values())
                found |= {self._term_name(learner, name): value.detach() * share for name, value in terms.items()}
            scaler.scale(torch.stack(totals).sum() * share).backward()  # type: ignore[no-untyped-call]
        return found

    def _seed(self, *draws: int) -> None:
        """Dropout and other draws depend on nothing but these: not on who else is trained, nor on where a run was cut off."""
        numbers = (self.recipe.seed, *draws)
        seed = int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest(), "big")
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would look for every kind of device, which takes longer than this
        if self.device.startswith("cuda"):
            torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)
        elif self.device == "mps":
            torch.mps.manual_seed(seed)

    def _observe(self, learner: Learner, pixels: Tensor) -> Observation:
        with self._precision():
            seen: Observation = learner.observer(learner.network.normalise(pixels))
        return seen.map(full_precision)

    def _taught(self, pixels: Tensor, batch: Batch, epoch: int) -> Observation | None:
        if self.teaching is None or epoch >= self.teaching.until * self.recipe.epochs:
            return None
        with self._precision():
            return self.teaching.observe(pixels, batch)

    def _precision(self) -> torch.autocast:
        dtype = _DTYPES[self.recipe.precision]
        return torch.autocast(torch.device(self.device).type, dtype, enabled=dtype is not torch.float32)

    def _terms(
        self, group: Sequence[Learner], seen: Sequence[Observation], taught: Observation | None, target: Tensor, repeated: int
    ) -> Iterator[Terms]:
        """The weighted terms of each of the group, whoever it learns from."""
        whole = any(loss.across_batch for learner in group for loss in learner.modules) and self.parallel.world > 1
        if whole:
            seen = [self.parallel.gather(one) for one in seen]
            taught = self.parallel.gather(taught) if taught is not None else None
            target = self.parallel.gather_tensor(target)
        for index, learner in enumerate(group):
            mine = seen[index]
            if self.partner == "peers":
                others = [one for place, one in enumerate(seen) if place != index]
                each = [loss(mine, other, target) for loss, other in zip(learner.losses, others, strict=True)]
                yield {name: torch.stack([terms[name] for terms in each]).mean() for name in each[0]}
            elif self.partner == "previous":
                before, learner.previous = _first(learner.previous, repeated), _second(mine.detach())
                yield learner.losses[0](mine, before, target)
            elif self.partner == "teacher" and taught is None:  # it is silent: the labels count in full
                yield {self.recipe.supervision: self.recipe.truth(mine.logits, target)}
            else:
                yield learner.losses[0](mine, taught, target)

    def _update(self, group: Sequence[Learner], scaler: torch.amp.GradScaler) -> None:
        for learner in group:
            if self.recipe.clip:
                scaler.unscale_(learner.optimizer)
                torch.nn.utils.clip_grad_norm_(learner.parameters(), self.recipe.clip)
            scaler.step(learner.optimizer)
            learner.optimizer.zero_grad(set_to_none=True)
            if learner.average is not None:
                learner.average.update(learner.model)
        scaler.update()

    def _term_name(self, learner: Learner, name: str) -> str:
        return name if len(self.learners) == 1 else f"{learner.name}/{name}"

    def measure(self, tests: Mapping[str, ImageSet]) -> dict[str, Accuracy]:
        """Accuracy of every learner on every set, by the name that the log has for it."""
        return {
            self._term_name(learner, f"{name}_top1"): evaluate(learner.result, images, self.device, self.parallel)
            for learner in self.learners
            for name, images in tests.items()
        }

    def save(self, folder: Path, epoch: int, notes: Mapping[str, Any]) -> None:
        """The state after `epoch` epochs, atomically."""
        tensors: dict[str, Tensor] = {}
        plain: dict[str, Any] = {}
        for index, learner in enumerate(self.learners):
            found, values = learner.state()
            tensors |= {f"{index}.{name}": tensor for name, tensor in found.items()}
            plain[str(index)] = values
        scalers = [scaler.state_dict() for scaler in self._scalers]
        save_checkpoint(folder, tensors, {"epoch": epoch, "plain": plain, "scalers": scalers, "notes": dict(notes)})

    def load(self, folder: Path, notes: Mapping[str, Any], reporter: Reporter) -> int:
        """Brings back the newest checkpoint that is whole and returns the number of epochs done, 0 where there is none.

        Raises:
            RunError: it belongs to another training.
        """
        loaded = load_checkpoint(folder)
        if loaded is None:
            return 0
        tensors, found, remark = loaded
        if remark:
            reporter.say(remark)
        epoch = found.get("epoch")
        if not isinstance(epoch, int) or found.get("notes") != dict(notes) or len(found["plain"]) != len(self.learners):
            raise RunError(f"{folder}: its checkpoint belongs to another training: start a new run")
        for index, learner in enumerate(self.learners):
            own = {k.partition(".")[2]: v for k, v in tensors.items() if k.partition(".")[0] == str(index)}
            try:
                learner.restore(own, found["plain"][str(index)])
            except RunError as error:
                raise RunError(f"{folder}: the checkpoint cannot be used, {error}: start a new run") from None
        for scaler, state in zip(self._scalers, found["scalers"], strict=True):
            scaler.load_state_dict(state)
        return epoch


def _cuts(count: int, parts: int) -> list[tuple[int, int]]:
    """Where a batch is cut, each part having two images at least.

    >>> _cuts(10, 3), _cuts(3, 2)
    ([(0, 3), (3, 6), (6, 10)], [(0, 3)])
    """
    parts = max(1, min(parts, count // 2))
    edges = [count * i // parts for i in range(parts + 1)]
    return list(itertools.pairwise(edges))


def _first(previous: Observation | None, count: int) -> Observation | None:
    """What the last step saw of the images that this one has too."""
    return previous if previous is not None and count else None


def _second(seen: Observation) -> Observation:
    """The later half, which the next step has again."""
    half = len(seen.logits) // 2
    nothing = seen.logits.new_empty(0)
    return Observation(nothing, nothing, seen.logits[half:], nothing)


def fit(
    trainer: Trainer, run: RunDir, notes: Mapping[str, Any], tests: Mapping[str, ImageSet], reporter: Reporter, logs: Logs | None = None
) -> list[dict[str, Any]]:
    """Trains to the last epoch, a checkpoint and a line of metrics after each; goes on where the folder was left.

    Args:
        tests: splits whose accuracy is written down after each epoch. None of them chooses anything: the last epoch is the result.

    Returns:
        The lines of metrics.jsonl.
    """
    epochs, main = trainer.recipe.epochs, trainer.parallel.main
    done = trainer.load(run.path, notes, reporter)
    history = run.read(METRICS, repair=main)
    if len(history) < done:
        raise RunError(f"{run.path / METRICS}: {len(history)} lines for {done} epochs: it is damaged, start a new run")
    history = history[:done]
    trainer.parallel.barrier()
    if main:
        run.keep_first(METRICS, done)  # a line may be ahead of the checkpoint; its epoch is run again
    reporter.start(epochs, done)
    for epoch in range(done, epochs):
        line: dict[str, Any] = {"epoch": epoch + 1, **trainer.epoch(epoch)}
        if (epoch + 1) % trainer.recipe.measure_every == 0 or epoch + 1 == epochs:
            line |= {name: accuracy.top1 for name, accuracy in trainer.measure(tests).items()}
        history.append(line)
        if main:
            run.append(METRICS, line)
            trainer.save(run.path, epoch + 1, notes)
            if logs is not None:
                logs.write(history)
        reporter.update(epoch + 1, lambda: f"{trainer.speed:,.0f} images/s, {_summary(history[-1])}")
    reporter.stop()
    return history


@contextlib.contextmanager
def faults_of_the_machine() -> Iterator[None]:
    """What a user can mend of what torch raises: too little memory, a compiler that is missing or fails."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise RunError("the device has too little memory: use a smaller --batch, or --accumulate 2 or more in a new run") from None
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise ConfigError(f"--compile fails here ({first_line(error, 100)}): leave it out") from None


def _summary(line: Mapping[str, Any]) -> str:
    terms = [f"{k} {v:.4g}" for k, v in line.items() if k not in ("epoch", "lr") and not k.endswith("_top1")]
    accuracies = [f"{k.removesuffix('_top1')} {v:.2f} %" for k, v in line.items() if k.endswith("_top1")]
    return ", ".join([*(terms if len(terms) < 8 else []), *accuracies])
