"""Images per second of a KD step: ours against a plain loop, side by side in one run, and what share of ours is not forward or backward.

    python scripts/benchmark_training.py                       # ResNet-56 teaches ResNet-20, CIFAR's shapes, drawn images
    python scripts/benchmark_training.py --device cuda --precision bf16 --torchcompile

The plain loop is what the distillation literature's repositories do (mdistiller, RepDistiller), written from its description: a
DataLoader whose workers crop and mirror PIL images, float32, no channels-last, a teacher in evaluation mode each step, SGD, losses read
off each step. Both train the same networks on the same images at the same batch size; they alternate, and each round gives a ratio.
With --augment flip both only mirror, and ours remembers the teacher's logits of the two views there are; with --crop-views it remembers
those of so many crops of each image (the passes that fill this memory are not in the figures: one for each crop, before the first epoch).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

from diswot.config.training import Recipe
from diswot.data.images import ArrayImages
from diswot.losses import create
from diswot.models.zoo import ZOO
from diswot.training.batches import BatchRequirements, MemoryLoader, TrainingSet
from diswot.training.distributed import DistributedContext
from diswot.training.evaluation import Network, Normalise
from diswot.training.frozen_teacher import FrozenTeacher
from diswot.training.loop import Trainer
from diswot.training.student import StudentSpec

CLASSES = 100
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return ZOO[name](num_classes=CLASSES)


class PlainLoop:
    """The literature's loop."""

    def __init__(self, teacher: str, student: str, data: ArrayImages, batch: int, augment: str, device: str, workers: int) -> None:
        self.teacher, self.student = (build(name).to(device) for name in (teacher, student))
        self.device, self.batch = device, batch
        self.optimizer = torch.optim.SGD(self.student.parameters(), 0.05, 0.9, weight_decay=5e-4)
        shift = [transforms.RandomCrop(32, 4)] if augment == "crop" else []
        steps = [*shift, transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        dataset = _Pictures(data, transforms.Compose(steps))
        self.loader = torch.utils.data.DataLoader(dataset, batch, shuffle=True, num_workers=workers, drop_last=True)

    def epoch(self) -> int:
        """Trains, and returns how many images were seen."""
        self.teacher.eval()
        self.student.train()
        seen = 0
        for images, target in self.loader:
            images, target = images.float().to(self.device), target.to(self.device)
            logits = self.student(images)
            with torch.no_grad():
                soft = self.teacher(images)
            ce = 0.1 * F.cross_entropy(logits, target)
            kd = 0.9 * 16 * F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(soft / 4, 1), reduction="none").sum(1).mean()
            self.optimizer.zero_grad()
            (ce + kd).backward()
            self.optimizer.step()
            seen += len(target)
            _ = ce.item(), kd.item(), (logits.argmax(1) == target).float().mean().item()
        return seen


class _Pictures(torch.utils.data.Dataset[Any]):
    def __init__(self, data: ArrayImages, transform: Callable[[Any], Any]) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.data.open(index)), int(self.data.labels[index])


def ours(teacher: str, student: str, data: ArrayImages, recipe: Recipe, device: str) -> Trainer:
    """diswot's loop on the same networks and images."""
    normalise = Normalise(torch.tensor(MEAN), torch.tensor(STD))
    source = TrainingSet(data, np.arange(len(data.labels)), data.labels, CLASSES)
    loader = MemoryLoader(source, recipe, device, DistributedContext(), BatchRequirements(min_size=recipe.batch_size))
    example = normalise(torch.from_numpy(data.array[:4]).permute(0, 3, 1, 2))
    loss = create("kd")
    frozen = FrozenTeacher(Network(build(teacher), normalise), [loss], recipe, device, example=example)
    frozen.cache(loader, recipe)
    return Trainer([StudentSpec(student, Network(build(student), normalise), [loss])], frozen, loader, recipe, device)


class Bare:
    """The forward and backward passes of our step alone: the same networks, layout and precision on one fixed batch; no teacher where
    its logits are remembered."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.batch = trainer, next(iter(trainer.loader.epoch(0)))

    def epoch(self, steps: int) -> int:
        student, teacher = self.trainer.students[0], self.trainer.teacher
        assert teacher is not None
        pixels = student.network.normalise(self.batch.pixels)
        student.model.train()
        for _ in range(steps):
            with torch.no_grad(), self.trainer._autocast():
                if not teacher.is_cached:
                    teacher.observe(self.batch.pixels)
            with self.trainer._autocast():
                logits = student.observer(pixels).logits
            logits.float().sum().backward()
            student.model.zero_grad(set_to_none=True)
        return steps * len(self.batch.target)


class Convolutions:
    """The convolutions of our step and nothing else, each on the input that it gets in the step: what no loop of these networks can
    beat without faster convolutions."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.batch = trainer, next(iter(trainer.loader.epoch(0)))
        student, teacher = self.trainer.students[0], self.trainer.teacher
        assert teacher is not None
        pixels = student.network.normalise(self.batch.pixels)
        self.student = _inputs(student.model, lambda: student.model(pixels))
        self.teacher = [] if teacher.is_cached else _inputs(teacher.network.model, lambda: teacher.observe(self.batch.pixels))

    def epoch(self, steps: int) -> int:
        for _ in range(steps):
            with torch.no_grad(), self.trainer._autocast():
                for layer, given in self.teacher:
                    layer(given)
            for number, (layer, given) in enumerate(self.student):
                with self.trainer._autocast():
                    output = layer(given.detach().requires_grad_(number > 0))  # images need no gradient
                output.backward(output.detach())
                layer.zero_grad(set_to_none=True)
        return steps * len(self.batch.target)


def _inputs(model: nn.Module, run: Callable[[], Any]) -> list[tuple[nn.Module, Tensor]]:
    """The convolutions of a model in the order that they run in, each with its input."""
    found: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...], _output: Any) -> None:
        found.append((layer, given[0].detach()))

    handles = [layer.register_forward_hook(note) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return found


def rate(run: Callable[[], int], device: str) -> float:
    """Images per second."""
    if device != "cpu":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    images = run()
    if device != "cpu":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - begun)


def rounds(
    trainer: Trainer, plain: PlainLoop, floors: Sequence[Bare | Convolutions], count: int, steps: int, device: str
) -> Iterator[tuple[float, ...]]:
    """Images per second of ours, of the plain loop, of the bare passes and of the convolutions, one after the other."""
    for number in range(count):

        def train(epoch: int = number) -> int:
            trainer.epoch(epoch)
            return steps * trainer.recipe.batch_size

        yield rate(train, device), rate(plain.epoch, device), *(rate(lambda f=floor: f.epoch(steps), device) for floor in floors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet56")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop's DataLoader")
    parser.add_argument("--augment", default="crop", choices=["crop", "flip"])
    parser.add_argument("--crop-views", type=int, default=0, help="of ours; the plain loop draws new crops")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="of ours; the plain loop is float32")
    parser.add_argument("--torchcompile", action="store_true", help="ours with torch.compile")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    data = ArrayImages(rng.integers(0, 256, (options.images, 32, 32, 3)).astype(np.uint8), np.arange(options.images) % CLASSES)
    same = {name: getattr(options, name) for name in ("batch_size", "augment", "precision", "torchcompile", "crop_views")}
    recipe = Recipe(epochs=240, **same)
    trainer = ours(options.teacher, options.student, data, recipe, options.device)
    plain = PlainLoop(options.teacher, options.student, data, options.batch_size, options.augment, options.device, options.workers)
    floors, steps = [Bare(trainer), Convolutions(trainer)], options.images // options.batch_size
    found = list(rounds(trainer, plain, floors, options.rounds + 1, steps, options.device))[1:]  # the first warms up
    setting = f"{options.augment}, batch {options.batch_size}, {options.device}, {options.precision}, {torch.get_num_threads()} threads"
    print(f"{options.teacher} -> {options.student}, {setting}")
    for name, values in zip(("ours", "plain loop", "bare passes", "convolutions"), zip(*found, strict=True), strict=True):
        print(f"{name:12} {statistics.median(values):9,.0f} images/s")
    print(f"times faster than the plain loop: {spread([row[0] / row[1] for row in found], '.2f')}")
    print(f"the most that our convolutions allow: {spread([row[3] / row[1] for row in found], '.2f')}")
    print(f"share of our step that is neither forward nor backward: {spread([1 - row[0] / row[2] for row in found], '.1%')}")


def spread(values: list[float], form: str) -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
