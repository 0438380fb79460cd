"""Every verb as a session: created, cut off, and resumed to the same result; and folders that cannot be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import diswot
from diswot.config import ScoreConfig, SearchConfig, StudyConfig, TrainConfig, resolve
from diswot.distillation.plan import plan_training
from diswot.distillation.students import StudentEntry
from diswot.errors import ConfigError, DiswotError, RunError, TeacherError
from diswot.execution import Execution
from diswot.models.named import read_architecture
from diswot.models.zoo import ZOO
from diswot.runs import RunDir
from diswot.scoring.recipe import ScorePlan
from diswot.searching.recipe import SearchPlan
from diswot.sessions import VERBS, Session
from diswot.studies.recipe import StudyPlan
from tests.tabulation.inline import train_inline

CPU = Execution("cpu", 1)
NETWORKS = [*(f"resnet{depth}{shortcut}" for depth in (8, 14, 20, 32) for shortcut in ("", "_pad")), "wrn_16_1", "wrn_16_2"]
TINY = {"num_classes": 4, "input_size": 8, "batch_size": 2, "seeds": 2, "teacher": "resnet8"}
TRAINING: dict[str, Any] = {"epochs": 3, "batch_size": 16, "limit": 48, "lr": 0.02}


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainings of a table in this process; that they run in others is tested with the table."""
    train_inline(monkeypatch)


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study without its page and figures, which take seconds and are tested with the study."""
    monkeypatch.setattr("diswot.studies.report.write_report", lambda *arguments, **options: None)


@dataclass(frozen=True)
class Files:
    """What the verbs are given."""

    data: Path
    weights: Path
    table: Path


@pytest.fixture
def files(small_npz: Path, teacher_file: Path, tmp_path: Path) -> Files:
    table = tmp_path / "mine.csv"
    table.write_text("arch,toy_test_acc\n" + "".join(f"{name},{50 + number}\n" for number, name in enumerate(NETWORKS)))
    return Files(small_npz, teacher_file, table)


def search(files: Files, folder: Path | None) -> Any:
    size = {"population_size": 3, "generation_size": 2, "iterations": 7}
    return diswot.search(
        folder=folder, device="cpu", workers=1, space="s0", params="0.3M", flops="none", proxy="relation,params", **TINY, **size
    )


def score(files: Files, folder: Path | None) -> Any:
    return diswot.score(NETWORKS[:4], folder=folder, device="cpu", proxy="relation,params", **TINY)


def study(files: Files, folder: Path | None) -> Any:
    figures = {"bootstrap_resamples": 20, "simulated_searches": 1, "search_evaluations": 5, "num_budgets": 2, "num_bands": 2}
    return diswot.study(files.table, folder=folder, device="cpu", workers=1, space="zoo", proxy="relation", **TINY, **figures)


def tabulate(files: Files, folder: Path) -> Any:
    taught = {"teacher": "resnet8", "teacher_weights": str(files.weights), "data": str(files.data), "epochs": 1, "batch_size": 16}
    networks = {"space": "s0", "flops": "8M", "networks": 3, "group_size": 3, "repeat_fraction": 0.4, "baseline_fraction": 0.4}
    return diswot.tabulate(folder=folder, device="cpu", workers=1, limit=48, **networks, **taught)


def train(files: Files, folder: Path) -> Any:
    return diswot.train("resnet8", folder=folder, device="cpu", data=str(files.data), **TRAINING)


def distill(files: Files, folder: Path) -> Any:
    taught = {"teacher": "resnet8", "teacher_weights": str(files.weights), "data": str(files.data)}
    return diswot.distill(["resnet8", "resnet14"], folder=folder, device="cpu", **taught, **TRAINING)


def compare(files: Files, folder: Path) -> Any:
    options = {**TRAINING, "epochs": 2, "loss": "none", "data": str(files.data)}
    return diswot.compare(["resnet8", "resnet14"], folder=folder, device="cpu", seeds=2, **options)


BEGIN: dict[str, Callable[[Files, Any], Any]] = {
    "search": search,
    "score": score,
    "study": study,
    "tabulate": tabulate,
    "train": train,
    "distill": distill,
    "compare": compare,
}
JOURNALS = {
    "search": ["trials.jsonl"],
    "score": ["scores.jsonl"],
    "study": ["scores.jsonl", "searches.jsonl"],
    "tabulate": ["trainings.jsonl", *(f"trainings/{group}/metrics.jsonl" for group in ("kd-seed0-0-1-2", "kd-seed1-2", "none-seed0-2"))],
    "train": ["metrics.jsonl"],
    "distill": ["metrics.jsonl"],
    "compare": ["results.jsonl", "seed-0/metrics.jsonl", "seed-1/metrics.jsonl"],
}


def outcome(verb: str, found: Any) -> Any:
    """What a verb's result says, besides the folder and what is measured with a clock."""
    if verb == "search":
        return found.winner, found.provenance, found.trials, found.table
    if verb == "score":
        return found
    if verb == "study":
        return [(report.dataset, repr(report.statistics)) for report in found.reports]
    if verb == "tabulate":
        return found.networks, found.accuracies, found.failed, found.table.read_text()
    if verb == "compare":
        return [(row.name, row.top1, row.cost) for row in found.rows], found.teacher, found.measured_on, found.images
    accuracies = [(student.name, student.arch, repr(student.accuracy)) for student in found.students]
    return accuracies, found.measured_on, found.taught_by, repr(found.teacher), found.history


def journals(verb: str, folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in JOURNALS[verb]]


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("model.safetensors")}


def cut_off(begin: Callable[[], Any], lines: int) -> int:
    """Ctrl-C in place of line `lines` + 1 of the run's journals. Returns how many lines were written, fewer where there are fewer."""
    written = 0

    def append(self: RunDir, *arguments: Any, **options: Any) -> None:
        nonlocal written
        if written == lines:
            raise KeyboardInterrupt
        real(self, *arguments, **options)
        written += 1

    with pytest.MonkeyPatch.context() as patch:
        real = RunDir.append
        patch.setattr(RunDir, "append", append)
        try:
            begin()
        except KeyboardInterrupt:
            assert written == lines
    return written


def test_there_is_a_way_to_begin_every_verb() -> None:
    assert set(BEGIN) == set(VERBS) == set(JOURNALS)
    assert all(callable(getattr(diswot, verb)) for verb in VERBS)


SLOW = ("study", "compare")  # of these, one resumption is left to the faster tests


@pytest.mark.parametrize("verb", [pytest.param(verb, marks=pytest.mark.slow if verb in SLOW else ()) for verb in BEGIN])
@pytest.mark.slow
def test_a_verb_cut_off_is_resumed_from_python_to_the_same_result(verb: str, files: Files, tmp_path: Path) -> None:
    """Cut off before its first line, and before its last; each folder resumed once, and the last once more when it has ended."""
    whole = BEGIN[verb](files, tmp_path / "whole")
    count = sum(journal.count(b"\n") for journal in journals(verb, tmp_path / "whole"))
    assert count > 2
    for lines in (0, count - 1):
        folder = tmp_path / f"cut-{lines}"
        assert cut_off(lambda folder=folder: BEGIN[verb](files, folder), lines) == lines  # type: ignore[misc]
        assert outcome(verb, diswot.resume(folder, device="cpu", workers=1)) == outcome(verb, whole)
        assert journals(verb, folder) == journals(verb, tmp_path / "whole")
        assert weights(folder) == weights(tmp_path / "whole")
    assert outcome(verb, diswot.resume(folder, device="cpu", workers=1)) == outcome(verb, whole), "one that has ended says the same again"
    assert journals(verb, folder) == journals(verb, tmp_path / "whole")


@pytest.mark.parametrize("verb", BEGIN)
@pytest.mark.slow
def test_the_command_line_resumes_what_python_began(verb: str, files: Files, tmp_path: Path, diswot: Any) -> None:
    BEGIN[verb](files, tmp_path / "whole")
    assert cut_off(lambda: BEGIN[verb](files, tmp_path / "cut"), 2) == 2
    workers = ["--workers", "1"] if verb in ("search", "score", "study", "tabulate") else []
    code, out, err = diswot(verb, "--resume", "cut", "--device", "cpu", "--json", "--quiet", *workers)
    assert code == 0, err
    json.loads(out)
    assert journals(verb, tmp_path / "cut") == journals(verb, tmp_path / "whole")


@pytest.mark.parametrize("verb", ["search", "score", "study"])
@pytest.mark.slow
def test_without_a_folder_nothing_is_kept(verb: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    found = BEGIN[verb](files, None)
    assert sorted(tmp_path.rglob("*")) == before
    assert outcome(verb, found) == outcome(verb, BEGIN[verb](files, tmp_path / "kept"))


def training_plan(files: Files, **options: Any) -> Any:
    config = resolve(TrainConfig, None, [], {"data": str(files.data), **TRAINING, **options})
    return plan_training(config, [StudentEntry(*read_architecture("resnet8"))])


def test_students_need_a_folder(files: Files) -> None:
    with pytest.raises(ConfigError, match="train needs a folder to keep its students in"):
        Session.create(training_plan(files), None, CPU)


def test_a_plan_is_restored_as_it_was(files: Files, tmp_path: Path) -> None:
    entries = [StudentEntry(*read_architecture(name)) for name in ("resnet8", "resnet14")]
    weights_options = {"teacher": "resnet8", "teacher_weights": str(files.weights), "data": str(files.data)}
    from diswot.config import CompareConfig, DistillConfig, TabulateConfig
    from diswot.distillation.compare import plan_comparison
    from diswot.distillation.plan import plan_distillation
    from diswot.tabulation.recipe import TabulatePlan

    plans = [
        SearchPlan(SearchConfig(params="1M", top_k=3)),
        ScorePlan(ScoreConfig(seeds=3), tuple(entry.arch for entry in entries)),
        StudyPlan(StudyConfig(proxy="params", num_bands=3), str(files.table)),
        TabulatePlan(TabulateConfig(**weights_options), (tmp_path / "a search",)),
        training_plan(files),
        plan_distillation(DistillConfig(**weights_options), entries),
        plan_comparison(CompareConfig(**weights_options, seeds=2), entries),
    ]
    assert [plan.kind for plan in plans] == list(VERBS)
    for plan in plans:
        folder = tmp_path / plan.kind
        with Session.create(plan, folder, CPU) as session:
            assert session.folder == folder and session.is_main and session.plan is plan
        with Session.resume(folder, CPU) as session:
            assert session.plan == plan and type(session.plan) is type(plan)


# folders that cannot be resumed


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A search that has begun."""
    folder = tmp_path / "run"
    Session.create(SearchPlan(SearchConfig(params="1M")), folder, CPU).__exit__(None, None, None)
    return folder


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_a_folder_that_exists_is_not_begun_again(begun: Path) -> None:
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    with pytest.raises(RunError, match="exists: resume it with --resume"):
        Session.create(SearchPlan(SearchConfig(params="2M")), begun, CPU)
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before


def test_a_folder_of_another_verb_is_refused(begun: Path) -> None:
    with pytest.raises(RunError, match="a run of `diswot search`, not of `diswot study`"):
        Session.resume(begun, CPU, "study")


def test_a_folder_of_no_verb_is_refused(begun: Path) -> None:
    """As that of a teacher that was trained first, which goes on with the run that needs it."""
    for kind in ("teacher", None, "seach"):
        change(begun, kind=kind)
        with pytest.raises(RunError, match=f"a run of '{kind}', which cannot be resumed by itself"):
            diswot.resume(begun)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("nowhere", "empty"):
        with pytest.raises(RunError, match=r"no run is there \(it has no config.yaml\)"):
            diswot.resume(tmp_path / name)
    with pytest.raises(RunError, match="cannot be read"):
        diswot.resume(tmp_path / "file")


@pytest.mark.parametrize("content", ["", "[", "- 1\n", "\x00", "!!python/object/apply:os.system ['true']", "format: 1\nkind: search\n"])
def test_a_damaged_folder_is_refused_in_one_line(begun: Path, content: str) -> None:
    (begun / "config.yaml").write_text(content)
    with pytest.raises(RunError, match=r"cannot be read|a run of format") as caught:
        diswot.resume(begun)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"format": 1}, RunError, "a run of format 1, and this version resumes format 2: use the version that began it"),
        ({"diswot": "0.0.1"}, RunError, "begun by diswot 0.0.1, .*: install that version to resume"),
        ({"iterations": 0}, ConfigError, "--iterations 0: at least 1 is needed"),
        ({"colour": "red"}, ConfigError, "unknown key 'colour'"),
        ({"space": "nowhere"}, ConfigError, "unknown space 'nowhere'"),
    ],
)
def test_a_folder_of_another_version_or_with_other_options_is_refused(
    begun: Path, changes: dict[str, Any], error: type[DiswotError], says: str
) -> None:
    change(begun, **changes)
    with pytest.raises(error, match=says):
        diswot.resume(begun)
    RunDir(begun)._take_lock()  # it was let go of


def test_a_folder_in_use_is_refused(begun: Path) -> None:
    with Session.resume(begun, CPU), pytest.raises(RunError, match="is being written by another process: wait for it, or stop it"):
        diswot.resume(begun)
    with Session.resume(begun, CPU):
        pass


def test_a_folder_is_in_use_from_its_creation_to_the_end_of_its_session(tmp_path: Path) -> None:
    with (
        Session.create(SearchPlan(SearchConfig(params="1M")), tmp_path / "run", CPU),
        pytest.raises(RunError, match="another process"),
    ):
        Session.resume(tmp_path / "run", CPU)
    Session.resume(tmp_path / "run", CPU).__exit__(None, None, None)


@pytest.mark.parametrize("verb", ["search", "score", "study", "train"])
def test_a_damaged_journal_is_named(verb: str, files: Files, tmp_path: Path) -> None:
    BEGIN[verb](files, tmp_path / "run")
    name = JOURNALS[verb][0]
    lines = (tmp_path / "run" / name).read_text().splitlines()
    (tmp_path / "run" / name).write_text("\n".join(["{", *lines[1:]]) + "\n")
    with pytest.raises(RunError, match=f"{name}, line 1: damaged, and not the last line"):
        diswot.resume(tmp_path / "run")


def test_weights_that_were_exchanged_are_noticed_and_the_folder_let_go(files: Files, tmp_path: Path) -> None:
    distill(files, tmp_path / "run")
    before = files.weights.read_bytes()
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), files.weights)
    for _ in range(2):
        with pytest.raises(TeacherError, match="is not the file this run began with: bring that one back"):
            diswot.resume(tmp_path / "run")
    files.weights.write_bytes(before)
    diswot.resume(tmp_path / "run")


def test_a_run_refused_before_anything_was_computed_leaves_no_folder(files: Files, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="did you mean"):
        diswot.search(folder=tmp_path / "runs" / "a", teacher="resnet65", params="1M", device="cpu", workers=1)
    with pytest.raises(DiswotError, match="smallest network"):
        diswot.search(folder=tmp_path / "runs" / "a", params="1k", device="cpu", workers=1, **TINY)
    assert not (tmp_path / "runs").exists()


def test_a_disk_that_is_full_says_how_to_go_on(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RunDir, name: str, *records: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device", str(self.path / name))

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "append", full)
        with pytest.raises(RunError, match=r"trials.jsonl: No space left on device; what was done is kept, go on with --resume .*run$"):
            search(files, tmp_path / "run")
    assert outcome("search", diswot.resume(tmp_path / "run", workers=1)) == outcome("search", search(files, None))


def test_a_session_says_its_progress(files: Files, tmp_path: Path) -> None:
    class Noting:
        def __init__(self) -> None:
            self.calls: list[Any] = []
            self.inside: list[str] = []

        def start(self, total: int, done: int = 0, unit: str = "step") -> None:
            self.calls.append((total, done, unit))

        def update(self, done: int, detail: Callable[[], str]) -> None:
            self.calls.append(done)
            detail()

        def within(self, what: str, share: float | None = None) -> None:
            self.inside.append(what)

        def log(self, line: str) -> None: ...

        def stop(self) -> None:
            self.calls.append("stop")

    cut_off(lambda: search(files, tmp_path / "run"), 3)
    reporter = Noting()
    diswot.resume(tmp_path / "run", workers=1, reporter=reporter)
    assert reporter.calls == [(7, 3, "candidate"), 4, 5, 6, 7, "stop"]
    assert [what.split()[0] for what in reporter.inside] == ["making", "scoring", "scoring"], "before the first step and after the last too"
    with Session.resume(tmp_path / "run", replace(CPU, reporter=(again := Noting()))) as session:
        session.run()
    assert again.calls == [(7, 7, "candidate"), "stop"]
