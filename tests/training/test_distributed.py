"""Several processes under torchrun are one training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from diswot.models.zoo import ZOO

ROOT = Path(__file__).resolve().parents[1]


def launch(cwd: Path, processes: int, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, under torchrun where it is more than one process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISWOT_HOME": str(cwd / "home"), **more}
    launcher = [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run([sys.executable, *launcher, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def run(cwd: Path, processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return launch(cwd, processes, "-m", "diswot.cli", *arguments)


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


LOSSES = ["kd", "fitnets + rkd + dist", "diswot", "dlb", "udml", "ofd", "at(ce_weight=0)"]


def test_two_processes_give_the_curve_of_one(tmp_path: Path) -> None:
    """Batch norm, relations of the whole batch, adapters, repeated halves, peers: in double precision, terms and weights to 1e-8."""
    script = tmp_path / "train.py"
    script.write_text(
        f"""
import sys, torch
from diswot.training.parallel import join
from diswot.training.recipe import Recipe
from tests.test_training import trainer, weights
parallel, device = join("cpu")
found = {{}}
for loss in {LOSSES!r}:
    students = ["resnet8", "resnet8"] if loss == "udml" else ["resnet8"]
    one = trainer(loss, Recipe(epochs=2, batch_size=16, lr=0.02), students, dtype=torch.float64, parallel=parallel)
    curve = [one.epoch(epoch) for epoch in range(2)]
    found[loss] = {{"curve": [{{k: torch.tensor(v) for k, v in line.items()}} for line in curve], "weights": weights(one)}}
torch.save(found, sys.argv[1])
"""
    )
    found = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.pt"
        done = launch(ROOT, processes, str(script), str(path), PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stderr
        found.append(torch.load(path, weights_only=True))
    for loss in LOSSES:
        assert len(found[0][loss]["curve"]) == 2 and found[0][loss]["weights"]
        torch.testing.assert_close(found[1][loss], found[0][loss], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("loss", ["kd", "rkd + at"])
def test_the_command_gives_the_same_under_torchrun(tmp_path: Path, small_npz: Path, loss: str) -> None:
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), tmp_path / "w.pth")
    options = [
        "--data",
        str(small_npz),
        "--loss",
        loss,
        "--epochs",
        "2",
        "--batch-size",
        "16",
        "--lr",
        "0.0001",
        "--quiet",
    ]  # or rounding grows step by step
    options += ["--teacher", "resnet8", "--teacher-weights", "w.pth"]
    for processes in (1, 2):
        done = run(tmp_path, processes, "distill", "resnet8", *options, "--name", f"of{processes}")
        assert done.returncode == 0, done.stderr
    one, two = (history(tmp_path / "runs" / f"of{processes}") for processes in (1, 2))
    for ours, theirs in zip(two, one, strict=True):
        terms = {name: value for name, value in theirs.items() if not name.endswith("top1")}
        assert {name: ours[name] for name in terms} == pytest.approx(terms, rel=1e-3)


def test_adapters_rest_once_the_teacher_is_silent(tmp_path: Path, small_npz: Path) -> None:
    """Early-stopped distillation with a loss that has layers, in two processes."""
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), tmp_path / "w.pth")
    options = ["--data", str(small_npz), "--loss", "fitnets", "--distill-fraction", "0.5", "--epochs", "4", "--batch-size", "16", "--quiet"]
    done = run(tmp_path, 2, "distill", "resnet8", *options, "--teacher", "resnet8", "--teacher-weights", "w.pth", "--name", "run")
    assert done.returncode == 0, done.stderr
    assert [("fitnets" in line) for line in history(tmp_path / "runs" / "run")] == [True, True, False, False]


def test_a_run_of_two_processes_is_resumed_and_its_faults_are_told_once(tmp_path: Path, small_npz: Path) -> None:
    common = ["train", "resnet8", "--data", str(small_npz), "--epochs", "2", "--batch-size", "16", "--quiet", "--name", "run"]
    assert run(tmp_path, 2, *common).returncode == 0
    weights = load_file(tmp_path / "runs/run/student/model.safetensors")
    (tmp_path / "runs/run/student/model.safetensors").unlink()
    done = run(tmp_path, 2, "train", "--resume", "runs/run", "--quiet")
    assert done.returncode == 0, done.stderr
    again = load_file(tmp_path / "runs/run/student/model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    done = run(tmp_path, 2, *common[:-2], "--name", "other", "--lr", "-1")
    assert done.returncode != 0
    assert len([line for line in done.stderr.splitlines() if line.startswith("diswot:")]) == 1


def test_batch_norm_over_processes_is_torchs_over_the_whole_batch(tmp_path: Path) -> None:
    """Outputs, gradients of inputs and weights, running statistics, by two processes of half the batch each."""
    script = tmp_path / "norm.py"
    script.write_text(
        """
import sys, torch, torch.distributed as dist
from torch import nn
from diswot.training.parallel import sync_bn
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
norm = sync_bn(nn.Sequential(nn.BatchNorm2d(3).double()), "cpu")
mine = x[rank * 4 : rank * 4 + 4].clone().requires_grad_()
y = norm(mine)
weight = torch.arange(8.0, dtype=torch.float64)[rank * 4 : rank * 4 + 4, None, None, None]
(y.square() * weight).sum().backward()
grads = [p.grad.clone() for p in norm.parameters()]
for g in grads:
    dist.all_reduce(g)
found = {"y": y.detach(), "x": mine.grad, "p": grads, "mean": norm[0].running_mean, "var": norm[0].running_var}
torch.save(found, f"{sys.argv[1]}/{rank}.pt")
"""
    )
    done = launch(ROOT, 2, str(script), str(tmp_path))
    assert done.returncode == 0, done.stderr
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    torch.manual_seed(0)
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64).requires_grad_()
    norm = nn.BatchNorm2d(3).double()
    y = norm(x)
    (y.square() * torch.arange(8.0, dtype=torch.float64)[:, None, None, None]).sum().backward()
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), y.detach())
    torch.testing.assert_close(torch.cat([part["x"] for part in parts]), x.grad)
    for part in parts:
        torch.testing.assert_close(part["p"], [p.grad for p in norm.parameters()])
        torch.testing.assert_close((part["mean"], part["var"]), (norm.running_mean, norm.running_var))


def test_norms_of_their_own_are_averaged_and_half_precision_is_summed_in_full(tmp_path: Path) -> None:
    """Without whole-batch norms, processes end an epoch with one set of running statistics; and bf16 runs with them."""
    script = tmp_path / "own.py"
    script.write_text(
        """
import sys, torch
from diswot.training.parallel import join
from diswot.training.recipe import Recipe
from tests.test_training import trainer, weights
parallel, device = join("cpu")
own = trainer("none", Recipe(epochs=2, batch_size=16, lr=0.02, sync_bn=False, model_ema_decay=0.5), teacher=None, parallel=parallel)
own.epoch(0)
average = {k: v.clone() for k, v in own.students[0].average.module.state_dict().items()}
half = trainer("kd", Recipe(epochs=2, batch_size=16, lr=0.02, precision="bf16"), parallel=parallel)
line = half.epoch(0)
torch.save({"own": weights(own), "average": average, "kd": torch.tensor(line["kd"])}, f"{sys.argv[1]}/{parallel.rank}.pt")
"""
    )
    done = launch(ROOT, 2, str(script), str(tmp_path), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first["kd"].isfinite()
