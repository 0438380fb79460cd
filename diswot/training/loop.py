"""The one training loop: students under a teacher, students among themselves, or a network alone."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diswot.config.training import Recipe
from diswot.data.images import ImageSet
from diswot.devices import to_device
from diswot.errors import ConfigError, RunError, brief_repr, first_line
from diswot.losses.together import common_scheme
from diswot.models.init import seeded
from diswot.observe import Observation
from diswot.processes import peak_memory
from diswot.progress import Forecast, NullReporter, Reporter
from diswot.runs import RunDir, is_count, is_number
from diswot.schemes import StepObservations
from diswot.training.augment import mix_batch
from diswot.training.batches import Batch, BatchLoader
from diswot.training.checkpoint import load_checkpoint, save_checkpoint
from diswot.training.distributed import DistributedContext
from diswot.training.evaluation import Accuracy, evaluate
from diswot.training.frozen_teacher import FrozenTeacher, full_precision
from diswot.training.logs import Logs
from diswot.training.student import StudentSpec, StudentState

logger = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
TIMINGS = "timings.jsonl"  # apart, since they differ from run to run
_CHECK_INTERVAL = 50  # steps between two checks that the loss is finite, where a check waits for the device
_REMEDY = ": use a smaller --lr; the last good state is that of epoch {}"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Trains networks, an epoch a call, and can be stopped and resumed after any epoch.

    Args:
        specs: the students; their losses must have their adapters.
        teacher: the frozen teacher; None where no loss looks at one.
        loader: the batches.
        recipe: how they are trained.
        device: where.
        distributed: this process among those of the training.
        reporter: shown how far an epoch is.
    """

    def __init__(
        self,
        specs: Sequence[StudentSpec],
        teacher: FrozenTeacher | None,
        loader: BatchLoader,
        recipe: Recipe,
        device: str,
        distributed: DistributedContext | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.reporter = reporter or NullReporter()
        self.teacher, self.loader, self.recipe, self.device = teacher, loader, recipe, device
        self.distributed = distributed or DistributedContext()
        for spec in specs:
            to_device(spec.network.model, device, recipe.channels_last)
            for number, loss in enumerate(spec.losses):
                with seeded(recipe.seed * 1013 + number):
                    loss.begin_training(recipe.epochs, loader.labels)
                loss.to(device)
        self.students = [StudentState(spec, recipe, device, self.distributed) for spec in specs]
        self.scheme = common_scheme([loss for spec in specs for loss in spec.losses])()
        self._groups = self.scheme.groups(len(specs))
        self._scalers = [torch.amp.GradScaler(torch.device(device).type, enabled=recipe.precision == "fp16") for _ in self._groups]
        self.images_per_second = 0.0  # in the last epoch, of all processes
        self._measured: dict[tuple[str, str], Accuracy] = {}  # by student and set, since the last step
        steps = math.ceil(len(loader.labels) / recipe.batch_size)
        self._steps_per_epoch, self._forecast = steps, Forecast(recipe.epochs * steps, "step")

    def epoch(self, number: int) -> dict[str, float]:
        """Train for one pass over the images; return the means of the losses' terms by name, and the learning rate.

        Raises:
            RunError: a term, or a weight, is not finite; it is named.
        """
        self._measured.clear()
        self.scheme.begin_epoch()
        for student in self.students:
            student.begin_epoch(number)
        totals: dict[str, Tensor] = {}
        steps: Counter[str] = Counter()
        images, begun = 0, time.monotonic()
        with torch.random.fork_rng(devices=[torch.device(self.device)] if self.device.startswith("cuda") else []):
            for step, batch in enumerate(self.loader.epoch(number), 1):
                images += len(batch.target) * self.distributed.world_size
                for name, value in self._step(batch, number, step).items():
                    totals[name] = totals[name] + value if name in totals else value
                    steps[name] += 1  # not every step has every term
                if self.device == "cpu" or step % _CHECK_INTERVAL == 0:
                    self._refuse_infinite(totals, number)
                self._tell_cost(number * self._steps_per_epoch + step)
                self.reporter.within(f"training, {images:,} of {len(self.loader.labels):,} images", min(1.0, step / self._steps_per_epoch))
        self._refuse_infinite(totals, number)
        for student in self.students:
            student.end_epoch()
            if not student.finite():
                raise RunError(f"weights of {student.name} became infinite in epoch {number + 1}{_REMEDY.format(number)}")
        self.images_per_second = images / (time.monotonic() - begun)
        world = self.distributed.world_size
        means = {name: float(self.distributed.sum(total)) / world / steps[name] for name, total in totals.items()}
        return {"lr": self.recipe.learning_rate(number), **means}

    def _tell_cost(self, step: int) -> None:
        """Log, once, how long the training will take, and how much memory it has held."""
        if self.distributed.is_main and (line := self._forecast.line(step)):
            held = torch.cuda.max_memory_allocated() if self.device.startswith("cuda") else peak_memory()
            logger.info("%s%s", line, f"; {held / 1e9:.1f} GB" if held else "")

    def _refuse_infinite(self, totals: Mapping[str, Tensor], epoch: int) -> None:
        values = torch.stack(list(totals.values())).tolist()
        for name, value in zip(totals, values, strict=True):
            if not math.isfinite(value):
                raise RunError(f"the term {name} of the loss became {value} in epoch {epoch + 1}{_REMEDY.format(epoch)}")

    def _step(self, batch: Batch, epoch: int, step: int) -> dict[str, Tensor]:
        """Update every student once; return the terms of the losses, without gradient."""
        size = len(batch.target)
        parts = [batch.part(slice(*bounds)) for bounds in _part_bounds(size, self.recipe.grad_accum_steps)]
        terms: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            for name, value in self._part(part, (epoch, step, number), len(part.target) / size).items():
                terms[name] = terms[name] + value if name in terms else value
        for group, scaler in zip(self._groups, self._scalers, strict=True):
            self._update([self.students[number] for number in group], scaler)
        return terms

    def _part(self, batch: Batch, draws: tuple[int, int, int], share: float) -> dict[str, Tensor]:
        """Run forward and backward on a batch, or on this share of it; `draws` are epoch, step and part, which random numbers depend on."""
        pixels, target = batch.pixels, batch.target
        if self.recipe.mixes:
            self._seed(0, *draws, 0)  # all processes mix in the same way
            pixels, target = mix_batch(pixels, target, self.loader.num_classes, self.recipe)
        of_teacher = self._observe_teacher(pixels, batch, epoch=draws[0])
        found: dict[str, Tensor] = {}
        for group, scaler in zip(self._groups, self._scalers, strict=True):
            seen = {}
            for index, number in enumerate(group):
                self._seed(self.distributed.rank, *draws, index)
                seen[number] = replace(self._observe(self.students[number], pixels), indices=batch.indices.to(target.device))
            # without a supervised loss a classifier may have no gradient, which other processes would wait for: it has one of 0
            labels = [0.0 * seen[number].logits.sum() for number in group if not self.students[number].unwrapped_losses[0].is_supervised]
            step = self._whole_batch(StepObservations(seen, of_teacher, target, batch.repeated))
            teacher: list[Tensor] = []
            for index, number in enumerate(group):
                if self._relates_images(number):
                    self._seed(0, *draws, len(group) + index)  # all processes draw the same for the whole batch
                terms = self._terms(number, step)
                for name, value in terms.items():
                    (labels if name == self.students[number].label_term else teacher).append(value)
                found |= {self._term_name(self.students[number], name): value.detach() * share for name, value in terms.items()}
            self._backward(labels, teacher, share, group, scaler)
        return found

    def _backward(
        self, labels: list[Tensor], teacher: list[Tensor], share: float, group: Sequence[int], scaler: torch.amp.GradScaler
    ) -> None:
        """Make the gradients of the terms of the labels and of the others: at once, or apart, where the optimizer tells them apart."""
        both = bool(teacher) and any(self.students[number].unwrapped_losses[0].is_supervised for number in group)
        if self.recipe.dot_delta and both:
            (torch.stack(teacher).sum() * share).backward(retain_graph=True)  # type: ignore[no-untyped-call]
            for number in group:
                self.students[number].optimizer.hold()  # type: ignore[attr-defined]
            teacher = []
        scaler.scale(torch.stack(labels + teacher).sum() * share).backward()  # type: ignore[no-untyped-call]

    def _terms(self, number: int, step: StepObservations) -> dict[str, Tensor]:
        student = self.students[number]
        # a teacher that no longer teaches leaves the adapters without gradients, which other processes would wait for
        silent = self.scheme.uses_teacher and step.teacher is None
        return self.scheme.terms(number, student.unwrapped_losses if silent else student.losses, step)

    def _relates_images(self, number: int) -> bool:
        return any(loss.needs_whole_batch for loss in self.students[number].unwrapped_losses)

    def _whole_batch(self, step: StepObservations) -> StepObservations:
        """The step of all processes, where a loss relates the images of a batch to each other."""
        if not any(map(self._relates_images, step.students)) or self.distributed.world_size == 1:
            return step
        gather = self.distributed.gather
        students = {number: gather(seen) for number, seen in step.students.items()}
        of_teacher = gather(step.teacher) if step.teacher is not None else None
        return StepObservations(students, of_teacher, self.distributed.gather_tensor(step.target), step.repeated)

    def _seed(self, *draws: int) -> None:
        """Seed dropout and other draws by nothing but these: not by who else is trained, nor by where a run was cut off."""
        numbers = (self.recipe.seed, *draws)
        seed = int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest(), "big")
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would look for every kind of device, which takes longer than this
        if self.device.startswith("cuda"):
            torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)
        elif self.device == "mps":
            torch.mps.manual_seed(seed)

    def _observe(self, student: StudentState, pixels: Tensor) -> Observation:
        with self._autocast():
            seen: Observation = student.observer(student.network.normalise(pixels))
        return seen.map(full_precision)

    def _observe_teacher(self, pixels: Tensor, batch: Batch, epoch: int) -> Observation | None:
        if self.teacher is None or epoch >= self.teacher.distill_fraction * self.recipe.epochs:
            return None
        with self._autocast():
            return self.teacher.observe(pixels, batch)

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES[self.recipe.precision]
        return torch.autocast(torch.device(self.device).type, dtype, enabled=dtype is not torch.float32)

    def _update(self, group: Sequence[StudentState], scaler: torch.amp.GradScaler) -> None:
        for student in group:
            if self.recipe.clip_grad:
                scaler.unscale_(student.optimizer)
                torch.nn.utils.clip_grad_norm_(student.parameters(), self.recipe.clip_grad)
            scaler.step(student.optimizer)
            student.optimizer.zero_grad(set_to_none=True)
            if student.average is not None:
                student.average.update(student.model)
        scaler.update()

    def _term_name(self, student: StudentState, name: str) -> str:
        return name if len(self.students) == 1 else f"{student.name}/{name}"

    def measure(self, tests: Mapping[str, ImageSet]) -> dict[str, Accuracy]:
        """The accuracy of every student on every set, by the name that the log has for it."""
        return {
            self._term_name(student, f"{name}_top1"): self.accuracy(student, name, images)
            for student in self.students
            for name, images in tests.items()
        }

    def accuracy(self, student: StudentState, name: str, images: ImageSet) -> Accuracy:
        """The accuracy of one student on the set called `name`; it is measured once between two epochs."""
        key = student.name, name
        if key not in self._measured:
            self._measured[key] = evaluate(student.result, images, self.device, self.distributed, self.reporter)
        return self._measured[key]

    def save(self, folder: Path, epoch: int, notes: Mapping[str, Any]) -> None:
        """Write the state after `epoch` epochs, atomically."""
        tensors: dict[str, Tensor] = {}
        plain: dict[str, Any] = {}
        for index, student in enumerate(self.students):
            found, values = student.state()
            tensors |= {f"{index}.{name}": tensor for name, tensor in found.items()}
            plain[str(index)] = values
        scalers = [scaler.state_dict() for scaler in self._scalers]
        save_checkpoint(folder, tensors, {"epoch": epoch, "plain": plain, "scalers": scalers, "notes": dict(notes)})

    def load(self, folder: Path, notes: Mapping[str, Any]) -> int:
        """Bring back the newest checkpoint that is whole; return the number of epochs done, 0 where there is none.

        Raises:
            RunError: it belongs to another training.
        """
        loaded = load_checkpoint(folder)
        if loaded is None:
            return 0
        tensors, found, remark = loaded
        if remark:
            logger.warning(remark)
        epoch: Any = found.get("epoch")
        plain: Any = found.get("plain")
        scalers: Any = found.get("scalers")
        whole = isinstance(plain, dict) and len(plain) == len(self.students) and isinstance(scalers, list)
        if not (is_count(epoch) and whole and found.get("notes") == dict(notes) and len(scalers) == len(self._scalers)):
            raise RunError(f"{folder}: its checkpoint belongs to another training: start a new run")
        for index, student in enumerate(self.students):
            own = {k.partition(".")[2]: v for k, v in tensors.items() if k.partition(".")[0] == str(index)}
            try:
                student.restore(own, plain.get(str(index)))
            except RunError as error:
                raise RunError(f"{folder}: the checkpoint cannot be used, {error}: start a new run") from None
        for scaler, state in zip(self._scalers, scalers, strict=True):
            try:
                scaler.load_state_dict(state)
            except (RuntimeError, KeyError, TypeError, AttributeError):
                raise RunError(f"{folder}: the checkpoint's state of the gradient scaler cannot be used: start a new run") from None
        return epoch


def _part_bounds(count: int, parts: int) -> list[tuple[int, int]]:
    """Return the bounds of the parts that a batch is cut into, each of at least two images.

    >>> _part_bounds(10, 3), _part_bounds(3, 2)
    ([(0, 3), (3, 6), (6, 10)], [(0, 3)])
    """
    parts = max(1, min(parts, count // 2))
    edges = [count * i // parts for i in range(parts + 1)]
    return list(itertools.pairwise(edges))


def fit(
    trainer: Trainer, run: RunDir, notes: Mapping[str, Any], tests: Mapping[str, ImageSet], reporter: Reporter, logs: Logs | None = None
) -> list[dict[str, Any]]:
    """Train to the last epoch, with a checkpoint and a line of metrics after each; go on where the folder was left.

    Args:
        trainer: the students and all they need.
        run: the folder.
        notes: what tells this training from others; a checkpoint with other notes is refused.
        tests: splits whose accuracy is written down after each epoch. None of them chooses anything: the last epoch is the result.
        reporter: shown the progress.
        logs: writes the metrics in other formats too.

    Returns:
        The lines of metrics.jsonl.
    """
    epochs, main = trainer.recipe.epochs, trainer.distributed.is_main
    done = trainer.load(run.path, notes)
    history = run.read(METRICS, repair=main)
    if len(history) < done:
        raise RunError(f"{run.path / METRICS}: {len(history)} lines for {done} epochs: it is damaged, start a new run")
    history = history[:done]
    _check_history(run.path / METRICS, history)
    trainer.distributed.barrier()
    if main:
        if logs is not None:
            logs.catch_up(history)
        run.truncate_journal(METRICS, done)  # a line may be ahead of the checkpoint; its epoch is run again
    reporter.start(epochs, done, "epoch")
    for epoch in range(done, epochs):
        line: dict[str, Any] = {"epoch": epoch + 1, **trainer.epoch(epoch)}
        if (epoch + 1) % trainer.recipe.val_interval == 0 or epoch + 1 == epochs:
            line |= {name: accuracy.top1 for name, accuracy in trainer.measure(tests).items()}
        history.append(line)
        if main:
            run.append(METRICS, line)
            run.append(TIMINGS, {"epoch": epoch + 1, "images_per_second": trainer.images_per_second}, sync=False)
            trainer.save(run.path, epoch + 1, notes)
            if logs is not None:
                logs.write(history)
        reporter.update(epoch + 1, lambda: f"{trainer.images_per_second:,.0f} images/s, {_summary(history[-1])}")
    reporter.stop()
    return history


def _check_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Refuse lines of metrics that are none: epochs from 1 on, and a finite number for everything else."""
    for number, line in enumerate(history, 1):
        wrong = next((name for name, value in line.items() if not is_number(value)), None)
        if wrong is not None or line.get("epoch") != number or "lr" not in line:
            fault = f"{wrong} is {brief_repr(line[wrong])}" if wrong is not None else f"epoch {brief_repr(line.get('epoch'))}"
            raise RunError(f"{path}, line {number}: damaged ({fault}): restore it, or start a new run")


@contextlib.contextmanager
def device_errors() -> Iterator[None]:
    """Inside, what torch raises and a user can mend is one line: too little memory, a compiler that is missing or fails."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise RunError(
            "the device has too little memory: use a smaller --batch-size, or --grad-accum-steps 2 or more in a new run"
        ) from None
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise ConfigError(f"--torchcompile fails here ({first_line(error, 100)}): leave it out") from None


def _summary(line: Mapping[str, Any]) -> str:
    terms = [f"{k} {v:.4g}" for k, v in line.items() if k not in ("epoch", "lr") and not k.endswith("_top1")]
    accuracies = [f"{k.removesuffix('_top1')} {v:.2f} %" for k, v in line.items() if k.endswith("_top1")]
    return ", ".join([*(terms if len(terms) < 8 else []), *accuracies])
