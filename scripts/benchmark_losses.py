"""What each loss adds to a training step, beside the whole step of `kd`; and the layers of its own.

    python scripts/benchmark_losses.py [--batch-size 64] [--rounds 5] [--csv docs/parts/loss_costs.csv]

ResNet-56 teaches ResNet-20, images of 32 pixels, 100 classes, one thread, whose own clock is read. A step of `kd` is the teacher's pass and
the student's forward and backward pass. What a loss adds is the time of its value and of its gradients as far as the observed tensors:
a second student (`dml`, `udml`), a teacher that is trained first, or the exits of a transformer are not in it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from diswot.errors import ConfigError
from diswot.losses import LOSSES, Loss
from diswot.models.zoo import ZOO
from diswot.observe import Observation, observe_without_gradients

CLASSES, TRAINING_IMAGES = 100, 50_000
EVERYTHING = frozenset({"logits", "pooled", "weight", "features", "blocks", "stages", "preacts"})


def thread_seconds(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


def kd_step(images: Tensor, target: Tensor) -> float:
    """The time of a whole step of `kd`."""
    teacher, student, loss = ZOO["resnet56"](num_classes=CLASSES).eval(), ZOO["resnet20"](num_classes=CLASSES), LOSSES["kd"]()
    empty = torch.empty(0)

    def seen(logits: Tensor) -> Observation:
        return Observation(features=empty, pooled=empty, logits=logits, weight=empty)

    def step() -> None:
        with torch.no_grad():
            reference = seen(teacher(images))
        torch.stack(list(loss(seen(student(images)), reference, target).values())).sum().backward()

    return statistics.median(thread_seconds(step) for _ in range(5))


def leaves(seen: Observation) -> Observation:
    """The observation with tensors that take gradients, and what only some losses look at."""
    seen = seen.map(lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
    count = len(seen.logits)
    return replace(seen, indices=torch.arange(count), token_logits=torch.randn(count, 2, CLASSES).requires_grad_())


def made_for(kind: type[Loss], student: Observation, teacher: Observation) -> tuple[Loss, Observation]:
    """The loss with its adapters, and what it compares with: of networks of one width where it takes no others."""
    loss, reference = kind(), teacher if kind.scheme.uses_teacher else student
    try:
        loss.make_adapters(student, reference)
    except ConfigError:
        reference = student
        loss.make_adapters(student, reference)
    loss.begin_training(240, torch.arange(TRAINING_IMAGES) % CLASSES)
    loss.begin_epoch(0)
    return loss, reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="write the figures here too, as docs/parts/loss_costs.csv")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, target = torch.randn(args.batch_size, 3, 32, 32), torch.arange(args.batch_size) % CLASSES
    student, teacher = (
        leaves(observe_without_gradients(ZOO[name](num_classes=CLASSES), images, EVERYTHING)) for name in ("resnet20", "resnet56")
    )
    whole = kd_step(images, target)
    rows = ["loss,percent_of_a_kd_step,own_weights"]
    for name, kind in LOSSES.items():
        loss, reference = made_for(kind, student, teacher)

        def value() -> None:
            torch.stack(list(loss(student, reference, target).values())).sum().backward()  # noqa: B023

        value()
        share = 100 * statistics.median(thread_seconds(value) for _ in range(args.rounds)) / whole
        own = sum(parameter.numel() for parameter in loss.parameters())
        rows.append(f"{name},{share:.1f},{own}")
        print(f"{name:10} {share:6.1f} % of a step of kd, {own:,} weights of its own")
    if args.csv:
        args.csv.write_text("\n".join([*rows, ""]))


if __name__ == "__main__":
    main()
