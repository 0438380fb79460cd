"""Smaller number formats: a student as ONNX in FP16 or INT8, beside float32 on the images that tell what was lost."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diswot.data.images import ImageSet
from diswot.errors import ConfigError, DiswotError, first_line
from diswot.export import Exported, check_target, relative_difference, run_export
from diswot.inference import Model, images_for
from diswot.latency.measure import Patience, time_interleaved
from diswot.latency.runtimes import onnx_bytes
from diswot.runs import write_atomic
from diswot.training.evaluation import Accuracy, Network, evaluate

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
_SECONDS = 0.5  # that each file is timed for
_BATCH = 64  # images that are calibrated with at a time


@dataclass(frozen=True)
class Reduced:
    """One of two files that are compared.

    Attributes:
        precision: fp32, fp16 or int8.
        megabytes: the size of the file, in MB (10^6 bytes).
        milliseconds: median time for one image, by ONNX Runtime with one thread on a CPU.
        accuracy: on the images; None where none were given.
    """

    precision: str
    megabytes: float
    milliseconds: float
    accuracy: Accuracy | None


@dataclass(frozen=True)
class ReducedExport:
    """A file in a smaller format that was written, beside the float32 one that was made on the way."""

    written: Exported
    full: Reduced
    reduced: Reduced


class OnnxNetwork(nn.Module):
    """An ONNX file as a network: normalised images (B, C, H, W) in, logits (B, N) out."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"images": images.cpu().contiguous().numpy()})[0])


def run_reduced_export(
    model: Model, target: Path, precision: str, data: str | None = None, *, calibration: int = 512, **image_options: Any
) -> ReducedExport:
    """Write a student as ONNX in a smaller number format.

    FP16 keeps inputs and outputs in float32. INT8 is static quantisation, symmetric weights for each channel and activations by the
    calibration images, which are the first training images of `data`; its accuracy is of the test images.

    Args:
        model: the student.
        target: the file, ending in .onnx.
        precision: fp16 or int8.
        data: images, as `load_data` takes them: INT8 is calibrated by them; without them no accuracy is measured.
        calibration: how many images calibrate.
        image_options: data_dir, as `load_data` takes it.

    Raises:
        ConfigError: no ONNX file is asked for, or INT8 without images.
    """
    if target.suffix != ".onnx":
        raise ConfigError(f"--precision {precision}: only ONNX files have it: give the target a name ending in .onnx")
    if precision == "int8" and data is None:
        raise ConfigError("--precision int8: it is calibrated by images: give --data")
    check_target(target)
    test = images_for(model, data, "test", **image_options) if data is not None else None
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-export-") as folder:
        full, small = Path(folder) / "full.onnx", Path(folder) / "small.onnx"
        exported = run_export(model, full)
        if precision == "fp16":
            _write_fp16(full, small)
        else:
            _write_int8(full, small, _normalised(model, images_for(model, str(data), "train", **image_options), calibration))
        rows = _compare(model, {"fp32": full, precision: small}, test)
        small.rename(target)
    written = replace(exported, path=target, kind=f"ONNX {precision.upper()}", difference=relative_difference(rows[1][1], rows[0][1]))
    return ReducedExport(written, rows[0][0], rows[1][0])


def _write_fp16(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers too small for the format, which become the smallest there are
        write_atomic(target, onnx_bytes(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), {}))


def _write_int8(source: Path, target: Path, batches: Iterator[NDArray[np.float32]]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": batch}

    prepared = source.with_name("prepared.onnx")
    kinds = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    try:
        quant_pre_process(str(source), str(prepared))
        quantize_static(str(prepared), str(target), Reader(), per_channel=True, **kinds)
    except DiswotError:
        raise
    except Exception as error:  # of whatever kind, where ONNX Runtime cannot write its own files
        raise ConfigError(
            f"--precision int8: ONNX Runtime cannot quantise the network here ({first_line(error)}): is the disk full?"
        ) from None


def _normalised(model: Model, images: ImageSet, count: int) -> Iterator[NDArray[np.float32]]:
    """The first images as the network takes them, some at a time."""
    count = min(count, len(images.labels))
    for begin in range(0, count, _BATCH):
        pixels = torch.from_numpy(images.images(np.arange(begin, min(begin + _BATCH, count)))).permute(0, 3, 1, 2)
        yield model.network.normalise(pixels).contiguous().numpy()


def _compare(model: Model, files: dict[str, Path], test: ImageSet | None) -> list[tuple[Reduced, Tensor]]:
    """What each file is worth, and its logits of a few images."""
    networks = [OnnxNetwork(path) for path in files.values()]
    image = torch.randn(1, *model.input_size, generator=torch.Generator().manual_seed(0))
    few = torch.from_numpy(next(_normalised(model, test, _BATCH))) if test is not None else image

    def call(network: OnnxNetwork) -> Callable[[], object]:
        return lambda: network(image)

    timings = time_interleaved([call(network) for network in networks], Patience(_SECONDS)).timings
    rows = []
    for (precision, path), network, timing in zip(files.items(), networks, timings, strict=True):
        accuracy = evaluate(Network(network, model.network.normalise), test, "cpu") if test is not None else None
        rows.append((Reduced(precision, path.stat().st_size / 1e6, timing.median, accuracy), network(few)))
    return rows
