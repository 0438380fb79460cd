r"""The frozen teacher's forward pass, which most of a distillation step on a CPU is, made faster in every way there is: images per second,
and how far its logits then are from those in float32.

    python scripts/benchmark_teacher.py resnet56 resnet56-4bfd9763.th cifar10.npz
    PYTHONPATH=scripts python scripts/benchmark_teacher.py own_resnet32:ResNet32 resnet32_cifar100.pt cifar100.npz \
        --norm .507,.487,.441/.267,.256,.276

All ways alternate in one run; a ratio is that of one round. `int8` is ONNX Runtime's static quantisation, calibrated on training images,
`beside` is our own way with the teacher and a student each in a thread of its own, against one after the other.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quant_pre_process, quantize_static
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.data import load_data
from diswot.models.teachers import build_teacher, normalisation
from diswot.models.zoo import ZOO
from diswot.training.fuse import fuse_conv_bn

Forward = Callable[[Tensor], Tensor]


def ways(model: nn.Module, images: Tensor, calibration: Tensor, folder: Path) -> dict[str, Forward]:
    """By name, the same function of images (B, C, H, W) in each of the ways."""
    threads = torch.get_num_threads()
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    fused = fuse_conv_bn(last, images[:4])
    compiled = torch.compile(fused, options={"freezing": True})
    half = fuse_conv_bn(last, images[:4]).bfloat16()
    plain, quantised = _export(model, images, calibration, folder)
    found: dict[str, Forward] = {
        "float32": lambda x: model(x.contiguous()),
        "channels-last": last,
        "fused batch norms": fused,
        "compiled, frozen": compiled,
        "bfloat16": lambda x: half(x.bfloat16()).float(),
        "ONNX Runtime": _session(plain, threads),
        "ONNX Runtime, int8": _session(quantised, threads),
    }
    return found


def _export(model: nn.Module, images: Tensor, calibration: Tensor, folder: Path) -> tuple[Path, Path]:
    plain, prepared, quantised = (folder / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
    torch.onnx.export(model, (images,), plain, dynamo=True, external_data=False, input_names=["images"], verbose=False)

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([{"images": part.numpy()} for part in calibration.split(len(images)) if len(part) == len(images)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    quant_pre_process(plain, prepared)
    quantize_static(prepared, quantised, Batches(), quant_format=QuantFormat.QDQ, per_channel=True)
    return plain, quantised


def _session(path: Path, threads: int) -> Forward:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.contiguous().numpy()})[0])


class Steps:
    """A KD step of a student after, or beside, the teacher's pass on the next batch."""

    def __init__(self, teacher: nn.Module, student: str, images: Tensor, classes: int) -> None:
        torch.manual_seed(0)
        self.teacher, self.images, self.threads = teacher, images, torch.get_num_threads()
        self.student = ZOO[student](num_classes=classes).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.student.parameters(), 0.01, 0.9)
        self.soft = self._teach()

    def _teach(self) -> Tensor:
        with torch.no_grad():
            return self.teacher(self.images).softmax(1)

    def _learn(self) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.student(self.images), self.soft).backward()
        self.optimizer.step()

    def after(self) -> None:
        self.soft = self._teach()
        self._learn()

    def beside(self) -> None:
        found: list[Tensor] = []

        def teach() -> None:
            torch.set_num_threads(max(1, self.threads // 2))
            found.append(self._teach())

        thread = threading.Thread(target=teach)
        torch.set_num_threads(max(1, self.threads - self.threads // 2))
        thread.start()
        self._learn()
        thread.join()
        torch.set_num_threads(self.threads)
        self.soft = found[0]


def seconds(run: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - begun) / times


def spread(values: list[float], form: str = ".2f") -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("weights")
    parser.add_argument("data", help="an .npz with test images, which the logits are held against each other on")
    parser.add_argument("--norm", default="imagenet")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=1024, help="test images for the agreement, and training images for the calibration")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    data = load_data(options.data)
    assert data.test is not None
    model = build_teacher(options.teacher, data.spec, options.weights, needs={"logits"}).eval().requires_grad_(False)
    mean, std = normalisation(options.norm, *map(torch.from_numpy, data.statistics))
    test, train = (
        (torch.from_numpy(part.images(np.arange(options.images))).permute(0, 3, 1, 2) / 255 - mean[:, None, None]) / std[:, None, None]
        for part in (data.test, data.train)
    )
    batches = test.contiguous(memory_format=torch.channels_last).split(options.batch_size)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        found = ways(model, batches[0], train, Path(folder))
        expected = torch.cat([found["float32"](batch) for batch in batches])
        print(f"{options.teacher}, batch {options.batch_size}, {torch.get_num_threads()} threads, {options.rounds} rounds")
        logits = {name: torch.cat([forward(batch) for batch in batches]) for name, forward in found.items()}
        times: dict[str, list[float]] = {name: [] for name in found}
        for _, (name, forward) in itertools.product(range(options.rounds), found.items()):
            times[name].append(seconds(lambda f=forward: f(batches[0]), 4))  # type: ignore[misc]
    print("| way | images/s | times float32 | largest difference | same class |\n|---|---|---|---|---|")
    for name, values in times.items():
        far = float((logits[name] - expected).abs().max() / expected.abs().max())
        same = float((logits[name].argmax(1) == expected.argmax(1)).float().mean())
        ratios = [plain / own for plain, own in zip(times["float32"], values, strict=True)]
        print(f"| {name} | {options.batch_size / statistics.median(values):,.0f} | {spread(ratios)} | {far:.1e} | {same:.2%} |")
    steps = Steps(fuse_conv_bn(model, batches[0][:4]), options.student, batches[0], data.num_classes)
    steps.after(), steps.beside()
    pairs = [(seconds(steps.after, 3), seconds(steps.beside, 3)) for _ in range(options.rounds)]
    print(f"teacher beside the student, times one after the other: {spread([after / beside for after, beside in pairs])}")


if __name__ == "__main__":
    main()
