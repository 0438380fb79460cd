"""The trainings of a table on one GPU, many networks at once: each step is a CUDA graph, each network has a stream.

    python scripts/train_with_cuda_graphs.py runs/S1 runs/S0 --minutes 5 --part 0/3

A small network leaves a GPU idle: the time goes into launching its kernels. Here a step is recorded once and replayed, and the networks of
a wave run side by side. Images, batches, initial weights and recipe are those of `diswot tabulate`, whose run this goes on with: the
trainings that its journal lacks are done and written into `trainings-part-K.jsonl`; with `--merge` these are put into the journal, and
`diswot tabulate --resume` then writes the table. With --device cpu the same steps are taken one after another, without graphs; that is what
the test compares with the ordinary training. Only the losses kd and none, SGD, and images in memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.architecture import Architecture
from diswot.devices import to_device
from diswot.distillation.context import TrainingContext
from diswot.distillation.students import build_student
from diswot.distillation.teachers import make_teacher
from diswot.execution import Execution
from diswot.losses.logits import KD, kd
from diswot.runs import RunDir
from diswot.tabulation.networks import NETWORKS, TableNetwork, read_networks
from diswot.tabulation.recipe import JOURNAL, TabulatePlan
from diswot.tabulation.trainings import Training, plan_trainings
from diswot.training.augment import Augmentations
from diswot.training.batches import MemoryLoader, epoch_batches
from diswot.training.evaluation import Network, Normalise, evaluate

WARM_UP = 2  # steps before a step is recorded


@dataclass
class Material:
    """What the trainings of one loss and one seed share, on the device.

    Attributes:
        pixels: (n, H, W, C) uint8.
        labels: (n,).
        order: (epochs * n,) the images in the order in which they are shown.
        mirrored: (epochs * n,) whether each is shown mirrored.
        teacher: (2, n, N) the teacher's logits on plain and mirrored images; None where it does not teach.
        rates: (epochs,) learning rates.
        sizes: of the batches of an epoch.
    """

    context: TrainingContext
    loss: Any
    pixels: Tensor
    labels: Tensor
    order: Tensor
    mirrored: Tensor
    teacher: Tensor | None
    teacher_top1: float | None
    rates: Tensor
    sizes: list[int]
    normalise: Normalise

    @classmethod
    def load(cls, plan: TabulatePlan, training: Training, networks: Sequence[TableNetwork], run: RunDir, device: str) -> Material:
        distillation = plan.distillation(training.loss, training.seed, [networks[training.network]])
        context = TrainingContext.load(distillation, Execution(device))
        recipe, splits, loss = context.recipe, context.splits, distillation.make_loss()
        loader = splits.batch_loader(recipe, device, context.distributed, [loss], 0)
        assert isinstance(loader, MemoryLoader) and recipe.augment in ("none", "flip") and not recipe.mixes and not recipe.cutout
        count = len(loader.labels)
        order, mirrored, sizes = [], [], []
        for epoch in range(recipe.epochs):
            rng, steps = epoch_batches(count, recipe, epoch, loader.needs)
            for places, _ in steps:
                order.append(places)
                mirrored.append(Augmentations.draw(len(places), loader.side, recipe, rng).mirrored)
            sizes = [len(places) for places, _ in steps]
        teacher, top1 = None, None
        if isinstance(loss, KD):
            network = make_teacher(context, run)
            top1 = evaluate(network, splits.tests[splits.measured_on], device).top1
            frozen = context.frozen_teacher(network, [loss])
            sides = [  # observed without gradients
                torch.cat([frozen.observe(loader.shown(np.arange(b, min(b + 250, count)), side)).logits for b in range(0, count, 250)])
                for side in (0, 1)
            ]
            teacher = torch.stack(sides)
        return cls(
            context,
            loss,
            loader.pixels,
            loader.labels,
            torch.from_numpy(np.concatenate(order)).to(device),
            torch.from_numpy(np.concatenate(mirrored)).to(device),
            teacher,
            top1,
            torch.tensor([recipe.learning_rate(epoch) for epoch in range(recipe.epochs)], device=device),
            sizes,
            Normalise(splits.normalise.mean.to(device), splits.normalise.std.to(device)),
        )


class Student:
    """A network in training, whose step reads its images from the device by a counter that it moves on itself."""

    def __init__(self, material: Material, arch: Architecture, seed: int, device: str) -> None:
        self.material, self.device, self.cuda = material, device, device != "cpu"
        self.recipe = material.context.recipe
        model = build_student(arch, material.context.splits.data.spec, seed, trusted=True)
        self.model: nn.Module = to_device(model, device, self.recipe.channels_last).train()
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        self.momentum = [torch.zeros_like(p) for p in self.params]
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.offsets = torch.arange(max(material.sizes), device=device)
        self.stream = torch.cuda.Stream() if self.cuda else None
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def on_stream(self):  # type: ignore[no-untyped-def]
        """Inside, kernels run on this network's own stream."""
        return torch.cuda.stream(self.stream) if self.stream is not None else nullcontext()

    def step(self, size: int) -> None:
        """One step of SGD on the next `size` images."""
        material, at = self.material, self.position + self.offsets[:size]
        chosen, turned = material.order[at], material.mirrored[at]
        shown = material.pixels[chosen]
        shown = torch.where(turned[:, None, None, None], shown.flip(2), shown).permute(0, 3, 1, 2)
        logits = self.model(material.normalise(shown))
        loss = F.cross_entropy(logits, material.labels[chosen])
        if material.teacher is not None:
            reference = torch.where(turned[:, None], material.teacher[1][chosen], material.teacher[0][chosen])
            options = material.loss
            loss = options.ce_weight * loss + options.kd_weight * kd(logits, reference, options.temperature)
        self._update(list(torch.autograd.grad(loss, self.params)))
        self.position += size

    @torch.no_grad()
    def _update(self, grads: list[Tensor]) -> None:
        rate = self.material.rates[self.position // sum(self.material.sizes)].reshape(())
        torch._foreach_add_(grads, self.params, alpha=self.recipe.weight_decay)
        torch._foreach_mul_(self.momentum, self.recipe.momentum)
        torch._foreach_add_(self.momentum, grads)
        torch._foreach_sub_(self.params, torch._foreach_mul(self.momentum, rate))

    def record(self) -> None:
        """Record a step for each size of a batch, and put the network back to where it began."""
        state = [*self.model.state_dict().values(), *self.momentum, self.position]
        begun = [t.clone() for t in state]
        torch.cuda.synchronize()
        pool = None
        for size in sorted(set(self.material.sizes), reverse=True):
            with self.on_stream():
                for _ in range(WARM_UP):
                    self.step(size)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with self.on_stream():
                graph.capture_begin(pool=pool)
                self.step(size)
                graph.capture_end()
            pool = graph.pool()
            self.graphs[size] = graph
            torch.cuda.synchronize()
        for now, then in zip(state, begun, strict=True):
            now.copy_(then)
        torch.cuda.synchronize()

    def advance(self, size: int) -> None:
        """Take a step, recorded or not."""
        with self.on_stream():
            if size in self.graphs:
                self.graphs[size].replay()
            else:
                self.step(size)

    def top1(self) -> float:
        """The accuracy in percent on the images that are measured on."""
        splits = self.material.context.splits
        return evaluate(Network(self.model, self.material.normalise), splits.tests[splits.measured_on], self.device).top1


def train_wave(students: Sequence[Student]) -> list[float]:
    """Train networks side by side; their accuracies."""
    material = students[0].material
    for _ in range(material.context.recipe.epochs):
        for size in material.sizes:
            for student in students:
                student.advance(size)
    if students[0].cuda:
        torch.cuda.synchronize()
    return [student.top1() for student in students]


def make_students(material: Material, networks: Sequence[TableNetwork], wave: Sequence[Training], device: str) -> list[Student]:
    """The networks of a wave, their steps recorded on a GPU; where a step cannot be recorded, it is taken as it is."""
    students = [Student(material, networks[training.network].arch, training.seed, device) for training in wave]
    if device != "cpu":
        try:
            for student in students:
                student.record()
        except RuntimeError as error:
            print(f"a step cannot be recorded ({error}): without graphs", flush=True)
            students = [Student(material, networks[training.network].arch, training.seed, device) for training in wave]
    return students


def read_lines(*files: Path) -> list[dict[str, object]]:
    """The lines of journals, where they are there."""
    return [json.loads(line) for path in files if path.exists() for line in path.read_text().splitlines() if line]


def waves(trainings: Sequence[Training], depths: Sequence[int], size: int) -> Iterator[list[Training]]:
    """Trainings of one loss and one seed, of like depth, so many at a time."""
    groups: dict[tuple[str, int], list[Training]] = {}
    for training in trainings:
        groups.setdefault((training.loss, training.seed), []).append(training)
    for group in groups.values():
        ordered = sorted(group, key=lambda training: depths[training.network])
        for begin in range(0, len(ordered), size):
            yield ordered[begin : begin + size]


def train_run(folder: Path, part: tuple[int, int], size: int, device: str, deadline: float) -> None:
    """Do this part's share of the trainings that a run lacks."""
    run, document = RunDir.open(folder, "tabulate", lock=False)
    plan = TabulatePlan.restore(document, folder)
    networks = read_networks(folder / NETWORKS, plan.space())
    depths = [network.cost.depth for network in networks]
    known = {(line["network"], line["loss"], line["seed"]) for line in read_lines(folder / JOURNAL)}
    left = [t for t in plan_trainings(plan.config, len(networks)) if (t.network, t.loss, t.seed) not in known]
    material: Material | None = None
    made_for: tuple[str, int] | None = None
    for wave in list(waves(left, depths, size))[part[0] :: part[1]]:
        if time.monotonic() > deadline:
            return
        gc.collect()
        begun = time.monotonic()
        if material is None or made_for != (wave[0].loss, wave[0].seed):
            material, made_for = Material.load(plan, wave[0], networks, run, device), (wave[0].loss, wave[0].seed)
        loaded = time.monotonic()
        students = make_students(material, networks, wave, device)
        for training, top1 in zip(wave, train_wave(students), strict=True):
            splits = material.context.splits
            images = len(splits.tests[splits.measured_on].labels)
            facts = {"teacher": material.teacher_top1, "measured_on": splits.measured_on, "images": images}
            line = {"network": training.network, "loss": training.loss, "seed": training.seed, "top1": top1, **facts}
            with (folder / f"trainings-part-{part[0]}.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        ended = time.monotonic()
        depth = max(depths[training.network] for training in wave)
        print(
            f"{folder.name}: {wave[0].loss} seed {wave[0].seed}, {len(wave)} networks of depth {depth} at most: "
            f"{loaded - begun:.1f} s to load, {ended - loaded:.1f} s to train",
            flush=True,
        )
        if not all(math.isfinite(float(student.momentum[0].sum())) for student in students):
            print("  weights became infinite", flush=True)


def merge(folder: Path) -> None:
    """Put the parts into the journal."""
    parts = sorted(folder.glob("trainings-part-*.jsonl"))
    lines = read_lines(folder / JOURNAL, *parts)
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in parts:
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--part", default="0/1", help="which of how many processes this is")
    parser.add_argument("--wave", type=int, default=8, help="networks side by side")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no wave begins after so long")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--merge", action="store_true", help="put what the parts did into the journal, and train nothing")
    args = parser.parse_args()
    gc.disable()  # what a step leaves must not be freed while another is recorded
    deadline = time.monotonic() + 60 * args.minutes
    number, _, count = args.part.partition("/")
    for folder in args.runs:
        if args.merge:
            merge(folder)
        else:
            train_run(folder, (int(number), int(count)), args.wave, args.device, deadline)


if __name__ == "__main__":
    main()
