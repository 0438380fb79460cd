"""Several processes under torchrun are one training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from diswot.training.distributed import DistributedContext, init_distributed, is_main_process, launched_by_torchrun
from tests.training.samples import make_recipe, trainer, weights
from tests.training.torchrun import history, launch, run_diswot, run_script

CURVES = """
import sys, torch
from diswot.training.distributed import init_distributed
from tests.training.test_distributed import curve
context, device = init_distributed("cpu")
assert (context.world_size, device) == (2, "cpu")
torch.save({loss: curve(loss, context) for loss in LOSSES}, f"{sys.argv[1]}/{context.rank}.pt")
"""


def curve(loss: str, distributed: DistributedContext | None = None) -> dict[str, Any]:
    """Two epochs in double precision: what the log has, and the weights at the end."""
    students = ["resnet8", "resnet8"] if loss == "udml" else ["resnet8"]
    one = trainer(loss, make_recipe(epochs=2), students, dtype=torch.float64, distributed=distributed or DistributedContext())
    lines = [{name: torch.tensor(value) for name, value in one.epoch(epoch).items()} for epoch in range(2)]
    return {"curve": lines, "weights": weights(one)}


CURVES_OF = ["fitnets + rkd + dist + kd", "dlb", "diswot", "udml", "ofd + vid + srrl", "at(ce_weight=0)", "crd", "wttm + mlkd", "ctkd"]
CURVES_OF += ["reviewkd", "ofa + kdsvd", "fsp", "ab", "ft"]


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(tmp_path: Path) -> None:
    """Batch norm, relations of the whole batch, adapters, repeated halves, peers: in double precision, terms and weights to 1e-8."""
    run_script(tmp_path, 2, CURVES.replace("LOSSES", repr(CURVES_OF)))
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for loss in CURVES_OF:
        alone = curve(loss)
        assert len(alone["curve"]) == 2 and alone["weights"]
        for of_rank in found:
            torch.testing.assert_close(of_rank[loss], alone, rtol=1e-8, atol=1e-9, msg=lambda text, loss=loss: f"{loss}: {text}")


@pytest.mark.slow
def test_the_command_gives_the_same_under_torchrun(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    options = ["--data", str(small_npz), "--loss", "rkd + at", "--epochs", "2", "--batch-size", "16", "--quiet"]
    options += ["--lr", "0.0001"]  # or rounding grows step by step
    options += ["--teacher", "resnet8", "--teacher-weights", str(teacher_file)]
    for processes in (1, 2):
        done = run_diswot(tmp_path, processes, "distill", "resnet8", *options, "--name", f"of{processes}")
        assert done.returncode == 0, done.stderr
    one, two = (history(tmp_path / "runs" / f"of{processes}") for processes in (1, 2))
    assert len(one) == 2
    for ours, theirs in zip(two, one, strict=True):
        terms = {name: value for name, value in theirs.items() if not name.endswith("top1")}
        assert len(terms) >= 4
        assert {name: ours[name] for name in terms} == pytest.approx(terms, rel=1e-3)


@pytest.mark.slow
def test_adapters_rest_once_the_teacher_is_silent(tmp_path: Path, small_npz: Path, teacher_file: Path) -> None:
    """Early-stopped distillation with a loss that has layers, in two processes."""
    options = ["--data", str(small_npz), "--loss", "fitnets", "--distill-fraction", "0.5", "--epochs", "4", "--batch-size", "16", "--quiet"]
    options += ["--teacher", "resnet8", "--teacher-weights", str(teacher_file), "--name", "run"]
    done = run_diswot(tmp_path, 2, "distill", "resnet8", *options)
    assert done.returncode == 0, done.stderr
    assert [("fitnets" in line) for line in history(tmp_path / "runs" / "run")] == [True, True, False, False]


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_and_its_faults_are_told_once(tmp_path: Path, small_npz: Path) -> None:
    common = ["train", "resnet8", "--data", str(small_npz), "--epochs", "2", "--batch-size", "16", "--quiet"]
    done = run_diswot(tmp_path, 2, *common, "--name", "run")
    assert done.returncode == 0, done.stderr
    weights_file = tmp_path / "runs/run/student/model.safetensors"
    before = load_file(weights_file)
    weights_file.unlink()
    done = run_diswot(tmp_path, 2, "train", "--resume", "runs/run", "--quiet")
    assert done.returncode == 0, done.stderr
    after = load_file(weights_file)
    assert before and after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    done = run_diswot(tmp_path, 2, *common, "--name", "other", "--lr", "-1")
    assert done.returncode != 0
    faults = [line for line in done.stderr.splitlines() if line.startswith("diswot:")]
    assert len(faults) == 1 and "--lr -1.0: more than 0 is needed" in faults[0]
    assert not (tmp_path / "runs" / "other").exists()


ERRORS = """
import os, sys, time
from diswot.cli import app
app.WAIT_FOR_FIRST = float(sys.argv[3])
rank = os.environ["RANK"]
time.sleep(1 if rank == "0" else 0)
sys.exit(app.run(["train", "resnet8", "--lr", "-1"]) if rank in sys.argv[2] else time.sleep(60))
"""


@pytest.mark.parametrize(("faulty", "waits", "says"), [("01", "50", "diswot: --lr -1.0"), ("1", "0.1", "diswot: process 1: --lr -1.0")])
@pytest.mark.slow
def test_an_error_is_told_once_whichever_process_ends_first(tmp_path: Path, faulty: str, waits: str, says: str) -> None:
    """torchrun ends the other processes as soon as one has failed: the one that prints must not be among them."""
    script = tmp_path / "script.py"
    script.write_text(ERRORS)
    done = launch(tmp_path, 2, str(script), str(tmp_path), faulty, waits)
    faults = [line for line in done.stderr.splitlines() if line.startswith("diswot:")]
    assert len(faults) == 1 and faults[0].startswith(says), done.stderr


BATCH_NORM = """
import sys, torch, torch.distributed as dist
from torch import nn
from diswot.training.distributed import sync_batch_norms
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
norm = sync_batch_norms(nn.Sequential(nn.BatchNorm2d(3).double()), "cpu")
mine = x[rank * 4 : rank * 4 + 4].clone().requires_grad_()
y = norm(mine)
weight = torch.arange(8.0, dtype=torch.float64)[rank * 4 : rank * 4 + 4, None, None, None]
(y.square() * weight).sum().backward()
grads = [p.grad.clone() for p in norm.parameters()]
for g in grads:
    dist.all_reduce(g)
found = {"y": y.detach(), "x": mine.grad, "p": grads, "mean": norm[0].running_mean, "var": norm[0].running_var}
torch.save(found, f"{sys.argv[1]}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_batch_norm_over_processes_is_torchs_over_the_whole_batch(tmp_path: Path) -> None:
    """Outputs, gradients of inputs and weights, running statistics, by two processes of half the batch each."""
    run_script(tmp_path, 2, BATCH_NORM)
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


OWN_NORMS = """
import sys, torch
from diswot.training.distributed import init_distributed
from tests.training.samples import make_recipe, trainer, weights
context, device = init_distributed("cpu")
own = trainer("none", make_recipe(epochs=2, sync_bn=False, model_ema_decay=0.5), distributed=context)
own.epoch(0)
average = {k: v.clone() for k, v in own.students[0].average.module.state_dict().items()}
half = trainer("kd", make_recipe(epochs=2, precision="bf16"), distributed=context)
line = half.epoch(0)
found = {"own": weights(own), "average": average, "half": weights(half), "kd": torch.tensor(line["kd"])}
torch.save(found, f"{sys.argv[1]}/{context.rank}.pt")
"""


@pytest.mark.slow
def test_norms_of_their_own_are_averaged_and_half_precision_is_summed_in_full(tmp_path: Path) -> None:
    """Without whole-batch norms, processes end an epoch with one set of running statistics; and bf16 runs with them."""
    run_script(tmp_path, 2, OWN_NORMS)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first["kd"].isfinite()
    whole = trainer("none", make_recipe(epochs=2, model_ema_decay=0.5))
    whole.epoch(0)
    mean = "bn1.running_mean"
    assert not torch.equal(first["own"][mean], weights(whole)[mean]), "each normalised by its own part of the batch"
    torch.testing.assert_close(first["own"][mean], weights(whole)[mean], rtol=0.1, atol=0.1)


def test_without_torchrun_this_process_is_one_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert not launched_by_torchrun() and is_main_process()
    assert init_distributed("cpu") == (DistributedContext(0, 1), "cpu")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched_by_torchrun() and is_main_process()
    assert init_distributed("cpu") == (DistributedContext(0, 1), "cpu"), "one process has nobody to wait for"
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()


def test_one_process_needs_no_others() -> None:
    """Nothing is sent, summed or wrapped."""
    one, layer, values = DistributedContext(), nn.Linear(2, 3), torch.ones(3)
    assert one.is_main and not DistributedContext(1, 2).is_main
    assert one.wrap(layer) is layer
    assert one.sum(values) is values and one.gather_tensor(values) is values
    assert one.broadcast("text") == "text"
    one.barrier()


def test_modules_without_parameters_are_not_wrapped() -> None:
    """There is no gradient that other processes would wait for."""
    module = nn.ReLU()
    assert DistributedContext(0, 2).wrap(module) is module
    frozen = nn.Linear(2, 3).requires_grad_(False)
    assert DistributedContext(0, 2).wrap(frozen) is frozen
