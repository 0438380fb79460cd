"""Reading what somebody else may have written: bounded, and said in one line."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diswot import files
from diswot.data import load_data
from diswot.errors import DataError, RunError, TeacherError
from diswot.models.weights import load_weights, read_weights
from diswot.models.zoo import ZOO
from diswot.training.checkpoint import load_tensors, save_tensors


def header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    found = io.BytesIO()
    np.lib.format.write_array_header_1_0(found, {"descr": kind, "fortran_order": False, "shape": shape})
    return found.getvalue()


def test_no_more_is_read_than_there_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert files.read_bytes(tmp_path / "file", 10) == b"x" * 10
    for path, most in ((tmp_path / "file", 9), ("/dev/zero", 1000), (tmp_path, 10), (tmp_path / "none", 10), ("a\0b", 10)):
        with pytest.raises(OSError) as raised:
            files.read_bytes(path, most)
        assert raised.value.strerror


def test_what_an_archive_would_become_is_known_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes of zeros, packed, may be gigabytes."""
    images = np.zeros((4000, 16, 16, 3), np.uint8)
    labels = np.arange(4000) % 2
    np.savez_compressed(tmp_path / "packed.npz", x_train=images, y_train=labels)
    np.savez(tmp_path / "plain.npz", x_train=images, y_train=labels)
    assert len(load_data(str(tmp_path / "packed.npz")).train.labels) == 4000
    monkeypatch.setattr("diswot.data.archives.MOST_UNPACKED", 1_000_000)
    says = r"packed\.npz: its [\d,]+ bytes would become 3,1[\d,]+, more than 20 times as many"
    with pytest.raises(DataError, match=says):
        load_data(str(tmp_path / "packed.npz"))
    assert len(load_data(str(tmp_path / "plain.npz")).train.labels) == 4000


@pytest.mark.parametrize("shape", [(5_000_000_000, 1, 1, 3), (3, 1, 1, 3), (2**62, 2**62, 2, 2)])
def test_an_array_must_be_as_large_as_it_says(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x_train.npy", header(shape) + bytes(10))
        archive.writestr("y_train.npy", header((6,)) + bytes(6))
    with pytest.raises(DataError, match=r"a\.npz: 'x_train\.npy' says that it has [\d,]+ bytes and has 1\d\d: it is damaged"):
        load_data(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("suffix", "verb"),
    [
        ("npz", "score resnet8 --proxy params --data"),
        ("pth", "score resnet8 --proxy relation --teacher resnet8 --teacher-weights"),
        ("csv", "study"),
        ("json", "show"),
        ("yaml", "search --config"),
        ("csv", "search --latency 1 --latency-table"),
    ],
)
def test_a_link_to_an_endless_file_is_refused(diswot: Any, tmp_path: Path, suffix: str, verb: str) -> None:
    (tmp_path / f"endless.{suffix}").symlink_to("/dev/zero")
    code, out, err = diswot(*verb.split(), f"endless.{suffix}")
    assert code == 2 and err.count("\n") == 1 and f"endless.{suffix}" in err and not out


WEIGHT = "conv1.weight"


def _spoilt(kind: str, tensor: torch.Tensor) -> torch.Tensor:
    return {
        "scalar": lambda: torch.tensor(1.0),
        "sparse": tensor.to_sparse,
        "complex": lambda: tensor.to(torch.complex64),
        "whole numbers": tensor.int,
        "truth values": tensor.bool,
        "no values": lambda: torch.empty(tensor.shape, device="meta"),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("scalar", "does not fit resnet8: of another shape conv1.weight"),
        ("sparse", "the tensor 'conv1.weight' is float32, sparse_coo: dense"),
        ("complex", "the tensor 'conv1.weight' is complex64"),
        ("whole numbers", "conv1.weight holds int32: floating-point weights are needed"),
        ("truth values", "conv1.weight holds bool"),
        ("no values", "the tensor 'conv1.weight' is without values"),
    ],
)
def test_a_tensor_of_another_kind_among_weights_is_named(tmp_path: Path, kind: str, says: str) -> None:
    model = ZOO["resnet8"](num_classes=4)
    tensors = model.state_dict()
    torch.save({**tensors, WEIGHT: _spoilt(kind, tensors[WEIGHT])}, tmp_path / "a.pth")
    with pytest.raises(TeacherError, match=says):
        load_weights(model, tmp_path / "a.pth", "resnet8")
    torch.save(tensors, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth").keys() == tensors.keys()


def test_metadata_that_is_nested_too_deep_is_damaged(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"a": torch.zeros(1)}, {})
    written = (tmp_path / "a").read_bytes()
    size = int.from_bytes(written[:8], "little")
    head = json.loads(written[8 : 8 + size])
    head["__metadata__"]["diswot"] = '{"a":' * 5000 + "1" + "}" * 5000
    text = json.dumps(head).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + written[8 + size :])
    with pytest.raises(RunError, match="damaged or no safetensors file"):
        load_tensors(tmp_path / "a")
