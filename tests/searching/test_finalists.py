"""What the winner of a search is held against, and what the search did to its choices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diswot.architecture import Architecture, read_arch_json
from diswot.errors import BudgetError
from diswot.models.teachers import build_teacher, teacher_cost
from diswot.searching.choices import SettledChoice, distance, flatten, settled_choices
from diswot.searching.finalists import PEERS, alternative, is_of_size
from diswot.searching.strategies import Member
from diswot.space import Cost, ImageSpec, load_space
from tests.searching.samples import begin_search, search, search_config


@pytest.mark.slow
def test_a_student_is_no_larger_than_its_teacher_unless_that_is_lifted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "diswot")
    teacher = teacher_cost("resnet8", ImageSpec(10, 3, 32))
    result = search(search_config(params=None, flops=None, proxy="params", iterations=10))
    assert result.teacher == teacher and "78,042 parameters and 12,501,632 FLOPs of the teacher" in caplog.text
    assert all(trial.cost.params <= teacher.params and trial.cost.flops <= teacher.flops for trial in result.trials)
    lifted = search(search_config(params="100k..200k", flops="none", proxy="params", iterations=10))
    assert all(trial.cost.params > teacher.params for trial in lifted.trials)
    assert any(trial.cost.flops > teacher.flops for trial in lifted.trials)


def test_a_space_beyond_its_teacher_says_how_to_lift_the_limit() -> None:
    with pytest.raises(BudgetError, match=r"--flops 12,501,632 \(the teacher's\).*--flops none lifts the limit"):
        search(search_config(space="channel_bench", params="none", flops=None, iterations=2))


@pytest.mark.parametrize("name", ["resnet20", "wrn-16-1", "vgg8", "timm/resnet18", "vit_tiny_patch16_224"])
def test_a_teacher_is_counted_without_being_built(name: str) -> None:
    spec = ImageSpec(10, 3, 32)
    assert teacher_cost(name, spec).params == sum(p.numel() for p in build_teacher(name, spec).parameters())


def test_the_finalists_are_files_that_compare_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.searching.finalists.PEERS", PEERS)  # what users have
    result = begin_search(tmp_path / "run", search_config(iterations=24, proxy="params"))
    files = sorted((tmp_path / "run" / "finalists").glob("*.json"))
    assert [path.stem for path in files] == sorted({row.role for row in result.table})
    for row in result.table:
        arch, provenance = read_arch_json(tmp_path / "run" / "finalists" / f"{row.role}.json")
        assert arch == row.arch and provenance["role"] == row.role and provenance["search"]["teacher"] == "resnet8"
    random = next(row for row in result.table if row.role == "random")
    assert is_of_size(random.cost, result.table[0].cost) and result.lead.same_size and result.lead.peers == PEERS
    assert result.table[0].rank == 1 + (result.table[2].cost.params > result.table[0].cost.params)  # only the largest may have more
    by_hand = next(row for row in result.table if row.role == "hand-made")
    assert by_hand.cost.params <= 300_000 and by_hand.arch.choices != "resnet8"


def members(*choices: Any) -> list[Member]:
    return [Member(Architecture("s", choice), -float(number)) for number, choice in enumerate(choices)]


def test_the_alternative_is_the_best_that_differs_much() -> None:
    ranked = members([1, 1, 1, 1], [1, 1, 1, 2], [1, 1, 2, 2], [2, 2, 2, 2], *([3, 3, 3, n] for n in range(36)))
    found = alternative(ranked, ranked[0].arch)
    assert found is not None and found.choices == [1, 1, 2, 2]  # half of its choices differ, and it is in the top tenth
    near = members([1, 1, 1, 1], [1, 1, 1, 2], *([1, 3, 3, n] for n in range(8)))
    found = alternative(near, near[0].arch)
    assert found is not None and found.choices == [1, 1, 1, 2]  # nothing in the top tenth differs more
    assert alternative(members([1]), Architecture("s", [1])) is None


def test_choices_are_flattened_in_every_space() -> None:
    for name in ("s0", "s1", "nasbench201", "nasbench101", "nats_size", "nasbench_macro", "channel_bench"):
        space, rng = load_space(name), np.random.default_rng(0)
        arch = space.sample(rng)
        child = space.mutate(arch, rng)
        assert len(dict(flatten(arch.choices))) > 2
        assert distance(arch, arch) == 0 < distance(arch, child) <= 1


def test_what_a_search_settled_on_is_named() -> None:
    rng = np.random.default_rng(0)
    early = [{"kernel": int(rng.choice([3, 5, 7])), "width": 8 * int(rng.integers(1, 5))} for _ in range(90)]
    late = [{"kernel": 7, "width": 8 * int(rng.integers(1, 5))} for _ in range(10)]
    archs = [Architecture("s", choices) for choices in (*early, *late)]
    (found,) = settled_choices(iter(archs), 100, [])
    assert isinstance(found, SettledChoice) and (found.place, found.value, found.at_bound, found.late) == ("kernel", 7, "largest", 1.0)
    assert settled_choices(archs, 100, [Architecture("s", {"kernel": 9, "width": 8})])[0].at_bound == ""
    assert not settled_choices(archs[:90], 90, []) and not settled_choices(archs[-30:], 30, [])


def test_a_search_that_rewards_size_says_so(diswot: Any) -> None:
    options = (
        "--space",
        "s0",
        "--proxy",
        "flops",
        "--iterations",
        "60",
        "--population-size",
        "16",
        "--num-classes",
        "10",
        "--workers",
        "1",
    )
    code, out, _ = diswot("search", *options, "--params", "none", "--flops", "none", "--quiet")
    assert code == 0 and "the ranking puts the winner before" in out and "compare runs/" in out
    assert "teacher" in out and "resnet56" in out


def test_costs_of_one_size() -> None:
    assert is_of_size(Cost(95, 105, 1), Cost(100, 100, 9)) and not is_of_size(Cost(95, 111, 1), Cost(100, 100, 9))
