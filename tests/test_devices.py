"""Everything lies where it is computed: on a pretended accelerator, since the machines that run these tests have none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_leaves

import diswot
from diswot.errors import ConfigError
from diswot.execution import Execution
from diswot.export import run_export
from diswot.inference import EvaluateOptions, run_evaluate, run_predict, student_model
from diswot.training.checkpoint import NEWEST
from diswot.training.distributed import init_distributed
from tests.executors.work import ScriptedExecutor
from tests.pretend_cuda import DEVICE, pretended

QUICK = {"epochs": 2, "batch_size": 16, "limit": 48, "lr": 0.02, "teacher": "resnet8"}
MAPS = "fitnets + ofd + afd + mgd + pefd + rkd + diswot + cc + pkt + nst + ickd + sp + at"
TRAININGS = {
    "logits": {"loss": "kd"},
    "maps": {"loss": MAPS},
    "cached": {"loss": "dkd", "augment": "flip"},
    "mixed": {"loss": "kd", "mixup": 0.2, "cutmix": 1.0, "cutout": 3, "clip_grad": 1.0, "grad_accum_steps": 2},
    "trained first": {"loss": "kd", "teacher_weights": None},
    "assistants": {"loss": "fitnets", "assistants": "resnet14"},
    "peers": {"loss": "udml"},
    "last step": {"loss": "dlb"},
}


def test_the_pretended_device_is_told_from_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Conv2d(3, 4, 3)
    with pretended(monkeypatch):
        moved = torch.ones(2, 3, 4, 4).to("cuda")
        with pytest.raises(RuntimeError, match="same device"):
            layer(moved)
        layer.to(device=DEVICE, memory_format=torch.channels_last)
        seen = layer(moved)
        seen.sum().backward()
        weight = layer.weight
        assert seen.device == DEVICE and weight.grad is not None and weight.grad.device == DEVICE
        with pytest.raises(TypeError):
            seen.detach().numpy()
        with pytest.raises(RuntimeError, match="same device"):
            seen + torch.ones(4, 2, 2)
        assert seen.detach().cpu().numpy().shape == (2, 4, 2, 2)
        assert (seen[torch.tensor([1])] * 2.0).device == DEVICE


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
@pytest.mark.parametrize("case", TRAININGS)
@pytest.mark.slow
def test_trainings_keep_to_one_device(
    tmp_path: Path,
    small_npz: Path,
    teacher_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    """And what they end with is what the CPU ends with."""
    options = {**QUICK, "data": str(small_npz), **TRAININGS[case]}
    if options["loss"] not in ("udml", "dlb"):
        options = {"teacher_weights": str(teacher_file), **options}
    with pretended(monkeypatch) as mode:
        found = diswot.distill("resnet8", folder=tmp_path / "there", device="cuda", **options)  # type: ignore[arg-type]
        assert mode.held, "something was sent there"
    monkeypatch.setenv("DISWOT_HOME", str(tmp_path / "another home"))
    same = diswot.distill("resnet8", folder=tmp_path / "here", device="cpu", **options)  # type: ignore[arg-type]
    assert len(found.history) == 2
    for there, here in zip(found.history, same.history, strict=True):
        assert there == pytest.approx(here, rel=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
def test_a_kept_teacher_and_a_resumed_run_lie_there_too(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended(monkeypatch):
        first, again = (
            diswot.distill("resnet8", folder=tmp_path / name, device="cuda", data=str(small_npz), **QUICK)  # type: ignore[arg-type]
            for name in ("first", "again")
        )
        (tmp_path / "again" / NEWEST).unlink()
        finished = diswot.resume(tmp_path / "again", device="cuda")
    assert finished.history == again.history == first.history
    assert len(finished.history) == 2


def test_trained_networks_are_used_there(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = diswot.train("resnet8", folder=tmp_path / "run", data=str(small_npz), epochs=1, batch_size=16, lr=0.02)
    Image.fromarray(np.full((20, 24, 3), 90, np.uint8)).save(tmp_path / "a.png")
    here = run_predict(student_model(tmp_path / "run"), [tmp_path / "a.png"])
    with pretended(monkeypatch):
        assert run_evaluate(str(tmp_path / "run"), str(small_npz), EvaluateOptions(), "cuda").accuracy == result.student
        there = run_predict(student_model(tmp_path / "run"), [tmp_path / "a.png"], "cuda")
    assert [name for name, _ in there[0].classes] == [name for name, _ in here[0].classes]
    assert [share for _, share in there[0].classes] == pytest.approx([share for _, share in here[0].classes], rel=1e-4)
    assert run_export(student_model(tmp_path / "run"), tmp_path / "timm").difference == 0


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cuda:0,cuda:1"])
def test_workers_score_there_what_was_observed_here(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """The context travels on the CPU, and a worker brings it to the device that it has."""
    options: dict[str, Any] = {
        "proxy": "relation_jacobian,relation_stage1,semantic_outer,zen",
        "seeds": 1,
        "batch_size": 4,
        "teacher": "resnet20",
    }
    with pretended(monkeypatch) as mode:
        executor = ScriptedExecutor()
        there = diswot.score(["resnet8", "resnet14"], device=device, executor=executor, **options)
        assert mode.held and executor.chunks
        context, wanted = pickle.loads(executor.chunks[0].context or b"")
        assert wanted == "cuda" and context.device == "cpu"
        assert not any(mode.there(tensor) for tensor in tree_leaves([vars(teacher.observation) for teacher in context.teachers]))
    here = diswot.score(["resnet8", "resnet14"], device="cpu", workers=1, **options)
    for one, other in zip(there, here, strict=True):
        for name in one.scores:
            assert one.scores[name] == pytest.approx(other.scores[name], rel=1e-4), name


def test_a_training_on_one_of_several_devices_makes_it_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for device in ("cpu", "cuda", "cuda:1"):
        assert init_distributed(device)[1] == device
    assert chosen == ["cuda:1"]


def test_workers_take_turns_on_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended(monkeypatch):
        several = Execution("cuda:0,cuda:1")
        assert several.choose_devices() == ("cuda:0", "cuda:1") and several.num_workers("cuda:0") == 2
        assert Execution("cuda").num_workers("cuda") == 1 and Execution("cuda", 5).num_workers("cuda") == 5
        with pytest.raises(ConfigError, match=r"a training has one device; for several, start it by torchrun"):
            several.only_device()
        with pytest.raises(ConfigError, match=r"--device cuda:2: this machine has 2, cuda:0 to cuda:1"):
            Execution("cuda:0,cuda:2").choose_devices()
        with pytest.raises(ConfigError, match="devices of different kinds"):
            Execution("cuda:0,cpu").choose_devices()
    for name in ("cpu:0", "cuda:x", "gpu", "cuda:"):
        with pytest.raises(ConfigError, match="known: auto, cpu, cuda, mps, and cuda:0"):
            Execution(name).choose_devices()


@pytest.mark.slow
def test_scores_are_computed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"proxy": "diswot,nwot,snip,grasp,fisher,jacov,params", "seeds": 1}
    with pretended(monkeypatch) as mode:
        there = diswot.score(["resnet8", "wrn_16_1"], device="cuda", workers=1, **options)  # type: ignore[arg-type]
    assert mode.held
    here = diswot.score(["resnet8", "wrn_16_1"], device="cpu", workers=1, **options)  # type: ignore[arg-type]
    for one, other in zip(there, here, strict=True):
        assert one.scores.keys() == other.scores.keys() >= {"nwot", "snip", "grasp", "fisher", "jacov", "params"}
        assert (one.arch, one.rank) == (other.arch, other.rank)
        for name in one.scores:
            assert one.scores[name] == pytest.approx(other.scores[name], rel=1e-3), name
