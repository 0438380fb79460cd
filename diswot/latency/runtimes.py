"""What runs a network while it is timed: torch, torch.compile or ONNX Runtime."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diswot.errors import ConfigError, first_line
from diswot.runs import write_atomic

RUNTIMES = ("torch", "onnx", "compile")
MAX_THREADS = 1024


@dataclass(frozen=True)
class Setup:
    """How networks are run while they are timed.

    Attributes:
        device: cpu, cuda or mps.
        runtime: torch; onnx (ONNX Runtime, on a CPU); compile (torch.compile).
        threads: of the processor that one network may use. More than are free make every figure wrong, so the default is one.
        batch_size: images in a forward pass.

    Raises:
        ConfigError: a runtime that does not exist or not on this device, or numbers outside their ranges.
    """

    device: str = "cpu"
    runtime: str = "torch"
    threads: int = 1
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise ConfigError(f"--runtime {self.runtime!r}: known: {', '.join(RUNTIMES)}")
        if self.runtime == "onnx" and self.device != "cpu":
            raise ConfigError(f"--runtime onnx measures on a CPU: add --device cpu, or take --runtime torch on {self.device}")
        for name, value, most in (("threads", self.threads, MAX_THREADS), ("batch-size", self.batch_size, 1_000_000)):
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(f"--{name} {value}: from 1 to {most:,} is needed")

    def __str__(self) -> str:
        return describe_setup(self.device, self.runtime, self.threads, self.batch_size)


def describe_setup(device: str, runtime: str, threads: int, batch_size: int) -> str:
    """How networks are run, in words.

    >>> describe_setup("cpu", "onnx", 2, 1)
    'onnx on cpu, 2 threads, batch of 1'
    """
    on_threads = f", {threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else ""
    return f"{runtime} on {device}{on_threads}, batch of {batch_size}"


@contextlib.contextmanager
def running_threads(setup: Setup) -> Iterator[None]:
    """Inside, torch uses the threads that a setup asks for."""
    before = torch.get_num_threads()
    if setup.device == "cpu":
        torch.set_num_threads(setup.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ready_to_run(model: nn.Module, images: Tensor, setup: Setup) -> Callable[[], object]:
    """A function that runs a network once and returns when its outputs are there.

    Args:
        model: in whatever mode; it is put into evaluation mode and moved to the device.
        images: (batch_size, ...) what the network is run on.
    """
    model = model.to(torch.device(setup.device)).eval()
    if setup.runtime == "onnx":
        with tempfile.TemporaryDirectory(prefix="diswot-") as folder:
            path = Path(folder) / "network.onnx"
            write_onnx(model, images, path)
            return _onnx_session(path, images, setup.threads)
    images = images.to(torch.device(setup.device))
    run = torch.compile(model) if setup.runtime == "compile" else model
    if setup.runtime == "compile":
        _compile_now(run, images)

    def call() -> None:
        with torch.inference_mode():
            run(images)
            if setup.device != "cpu":
                torch.accelerator.synchronize()

    return call


def _compile_now(run: Callable[[Tensor], object], images: Tensor) -> None:
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of the compiler, on its own insides
            run(images)
    except Exception as error:  # of whatever kind: no compiler, an operation that it lacks
        raise ConfigError(f"--runtime compile: torch.compile fails here ({first_line(error)}): take --runtime torch or onnx") from None


def _onnx_session(path: Path, images: Tensor, threads: int) -> Callable[[], object]:
    onnxruntime = _packages()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"images": images.numpy()}
    return lambda: session.run(None, feed)


def _packages() -> Any:
    """Return ONNX Runtime, where all that an export needs is there."""
    try:
        import onnx  # noqa: F401 - torch's exporter needs it
        import onnxruntime
        import onnxscript  # noqa: F401 - and this
    except ImportError as error:
        raise ConfigError(f"ONNX needs the package {error.name}: pip install 'diswot[export]'") from None
    return onnxruntime


def write_onnx(model: nn.Module, images: Tensor, target: Path, any_batch: bool = False, facts: Mapping[str, str] | None = None) -> None:
    """Write a network as one ONNX file, its input called `images`, its output `logits`.

    Args:
        model: in evaluation mode.
        images: (B, ...) an example of the input, on the model's device.
        any_batch: whether the file takes any number of images, and not only B.
        facts: what stands in the file beside the network, by name.

    Raises:
        ConfigError: a package is missing.
    """
    _packages()
    dynamic = ({0: torch.export.Dim("batch", min=1)},) if any_batch else None
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on its own insides
        program = torch.onnx.export(model, (images,), dynamo=True, dynamic_shapes=dynamic, verbose=False, **names)
    assert program is not None
    write_atomic(target, onnx_bytes(program.model_proto, facts or {}))  # exporters of others end the process where the disk is full


def onnx_bytes(model: Any, facts: Mapping[str, str]) -> bytes:
    """An ONNX model with its weights as the content of one file.

    Args:
        model: an `onnx.ModelProto`.
        facts: what stands in it beside the network, by name.
    """
    import onnx

    if facts:
        onnx.helper.set_model_props(model, dict(facts))
    found: bytes = model.SerializeToString()
    return found
