"""Several processes under torchrun are one training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from diswot.processes import is_main_process, launched_by_torchrun
from diswot.training.distributed import DistributedContext, init_distributed
from tests.conftest import write_small_npz, write_teacher
from tests.training.samples import make_recipe, trainer, weights
from tests.training.torchrun import history, launch, run_script

_CURVES = """
import sys, torch
from diswot.training.distributed import init_distributed
from tests.training.test_distributed import curve
context, device = init_distributed("cpu")
assert (context.world_size, device) == (2, "cpu")
torch.save({loss: curve(loss, context) for loss in LOSSES}, f"{sys.argv[1]}/curves{context.rank}.pt")
"""


def curve(loss: str, distributed: DistributedContext | None = None) -> dict[str, Any]:
    """An epoch, or two where a loss has a first one of its own, in double precision: what the log has, and the weights at the end."""
    epochs = 2 if loss in PHASED else 1
    students = ["resnet8", "resnet8"] if loss == "udml" else ["resnet8"]
    one = trainer(loss, make_recipe(epochs=2), students, dtype=torch.float64, distributed=distributed or DistributedContext())
    lines = [{name: torch.tensor(value) for name, value in one.epoch(epoch).items()} for epoch in range(epochs)]
    return {"curve": lines, "weights": weights(one)}


CURVES_OF = ["fitnets + rkd + dist + kd", "dlb", "diswot", "udml", "ofd + vid + srrl", "at(ce_weight=0)", "crd", "wttm + mlkd", "ctkd"]
CURVES_OF += ["reviewkd", "ofa + kdsvd", "fsp", "ab", "ft"]
PHASED = ("fsp", "ab", "ft", "dlb")


_BATCH_NORM = """
import torch.distributed as dist
from torch import nn
from diswot.training.distributed import sync_batch_norms
rank = context.rank
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
torch.save(found, f"{sys.argv[1]}/norm{rank}.pt")
"""


_OWN_NORMS = """
from tests.training.samples import make_recipe, trainer, weights
own = trainer("none", make_recipe(epochs=2, sync_bn=False, model_ema_decay=0.5), distributed=context)
own.epoch(0)
average = {k: v.clone() for k, v in own.students[0].average.module.state_dict().items()}
half = trainer("kd", make_recipe(epochs=2, precision="bf16"), distributed=context)
line = half.epoch(0)
found = {"own": weights(own), "average": average, "half": weights(half), "kd": torch.tensor(line["kd"])}
torch.save(found, f"{sys.argv[1]}/own{context.rank}.pt")
"""


_COMMANDS = """
import os, time
from diswot.cli import app
for verb, *words in COMMANDS:
    if verb == "move":
        if os.environ["RANK"] == "0":
            os.rename(*words)
        while os.path.exists(words[0]):
            time.sleep(0.01)
    else:
        assert app.run([verb, *words]) == 0, [verb, *words]
"""


COMMON = ["--data", "small.npz", "--batch-size", "16", "--quiet"]
TAUGHT = ["distill", "resnet8", *COMMON, "--teacher", "resnet8", "--teacher-weights", "teacher.pth"]
TAUGHT_TWICE = [*TAUGHT, "--loss", "rkd + at", "--epochs", "2", "--lr", "0.0001", "--name"]  # or rounding grows step by step
COMMANDS = [
    [*TAUGHT_TWICE, "of2"],
    [*TAUGHT, "--loss", "fitnets", "--distill-fraction", "0.5", "--epochs", "2", "--name", "stopped"],
    ["train", "resnet8", *COMMON, "--epochs", "2", "--name", "trained"],
    ["move", "runs/trained/student/model.safetensors", "before.safetensors"],
    ["train", "--resume", "runs/trained", "--quiet"],
]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes, started once, have left what they found of each question, and their runs."""
    folder = tmp_path_factory.mktemp("two")
    write_small_npz(folder / "small.npz")
    write_teacher(folder / "teacher.pth")
    script = _CURVES.replace("LOSSES", repr(CURVES_OF)) + _BATCH_NORM + _OWN_NORMS + _COMMANDS.replace("COMMANDS", repr(COMMANDS))
    run_script(folder, 2, script)
    return folder


@pytest.fixture(scope="module")
def of_two(two_processes: Path) -> Callable[[str], list[Any]]:
    """What they have found of a question, by rank."""
    return lambda name: [torch.load(two_processes / f"{name}{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(of_two: Callable[[str], list[Any]]) -> None:
    """Batch norm, relations of the whole batch, adapters, repeated halves, peers: in double precision, terms and weights to 1e-8."""
    found = of_two("curves")
    for loss in CURVES_OF:
        alone = curve(loss)
        assert len(alone["curve"]) == (2 if loss in PHASED else 1) and alone["weights"]
        for of_rank in found:
            torch.testing.assert_close(of_rank[loss], alone, rtol=1e-8, atol=1e-9, msg=lambda text, loss=loss: f"{loss}: {text}")


@pytest.mark.slow
def test_commands_give_the_same_under_torchrun(two_processes: Path, diswot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distillation as of one process; early-stopped distillation with a loss that has layers, whose adapters rest once the teacher is
    silent; the end of a training repeated."""
    monkeypatch.chdir(two_processes)
    assert diswot(*TAUGHT_TWICE, "of1")[0] == 0
    one, two = (history(Path("runs") / f"of{processes}") for processes in (1, 2))
    assert len(one) == 2
    for ours, theirs in zip(two, one, strict=True):
        terms = {name: value for name, value in theirs.items() if not name.endswith("top1")}
        assert len(terms) >= 4
        assert {name: ours[name] for name in terms} == pytest.approx(terms, rel=1e-3)
    assert [("fitnets" in line) for line in history(Path("runs/stopped"))] == [True, False]
    first, again = load_file("before.safetensors"), load_file("runs/trained/student/model.safetensors")
    assert first and again.keys() == first.keys()
    assert all(torch.equal(again[name], value) for name, value in first.items())


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
    assert done.returncode != 0 and len(faults) == 1 and faults[0].startswith(says), done.stderr
    assert ": more than 0 is needed" in faults[0] and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_batch_norm_over_processes_is_torchs_over_the_whole_batch(of_two: Callable[[str], list[Any]]) -> None:
    """Outputs, gradients of inputs and weights, running statistics, by two processes of half the batch each."""
    parts = of_two("norm")
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


@pytest.mark.slow
def test_norms_of_their_own_are_averaged_and_half_precision_is_summed_in_full(of_two: Callable[[str], list[Any]]) -> None:
    """Without whole-batch norms, processes end an epoch with one set of running statistics; and bf16 runs with them."""
    first, second = of_two("own")
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
