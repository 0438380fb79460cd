"""What `import diswot` offers: the verbs as functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from diswot.architecture import Architecture, read_arch_json
from diswot.config import CompareConfig, DistillConfig, ScoreConfig, SearchConfig, StudyConfig, TabulateConfig, TrainConfig, resolve
from diswot.distillation.compare import Comparison, plan_comparison
from diswot.distillation.plan import plan_distillation, plan_training
from diswot.distillation.recipe import DistillResult
from diswot.distillation.students import StudentEntry, load_student, read_entry
from diswot.errors import ConfigError, brief_repr
from diswot.execution import Execution
from diswot.executors.named import LOCAL
from diswot.progress import NullReporter, Reporter
from diswot.progress.terminal import progress_shown
from diswot.scoring.recipe import ScorePlan, ScoreRow
from diswot.searching.recipe import SearchPlan, SearchResult
from diswot.sessions import Plan, Session
from diswot.space import BUILT_IN, load_space
from diswot.studies.recipe import StudyPlan, StudyResult
from diswot.tabulation.recipe import TabulateResult, plan_tabulation

ArchLike = Architecture | str | Path
_MOST = 100_000  # classes or channels


def _run(plan: Plan, folder: str | Path | None, execution: Execution, progress: bool = False) -> Any:
    return _carried_out(lambda shown: Session.create(plan, _optional_path("folder", folder), shown), execution, progress)


def _carried_out(begin: Callable[[Execution], Session], execution: Execution, progress: bool) -> Any:
    """What a session gives, with its progress shown on stderr where that is asked for."""
    if not isinstance(progress, bool):
        raise ConfigError(f"progress {brief_repr(progress)}: True or False is needed")
    shown = progress_shown() if progress else contextlib.nullcontext(execution.reporter)
    with shown as reporter, begin(replace(execution, reporter=reporter)) as session:
        return session.run()


def _entry(arch: ArchLike) -> StudentEntry:
    """An architecture, an arch.json, or the name of a hand-made network, as a student."""
    if not isinstance(arch, Architecture | str | Path):
        raise ConfigError(f"arch {brief_repr(arch)}: an Architecture, the path of an arch.json or a name is needed")
    return StudentEntry(arch) if isinstance(arch, Architecture) else read_entry(str(arch))


def _listed(name: str, values: Any, kinds: tuple[type, ...], what: str) -> list[Any]:
    """The values of an argument that takes several; a text is one, not its letters."""
    if isinstance(values, str | bytes | Path | Architecture) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} {brief_repr(values)}: a list of {what} is needed")
    found = list(values)
    if wrong := [value for value in found if not isinstance(value, kinds)]:
        raise ConfigError(f"{name}: {brief_repr(wrong[0])} among them: each must be one of {what}")
    return found


def _entries(name: str, archs: Any) -> list[StudentEntry]:
    listed = _listed(name, archs, (Architecture, str, Path), "architectures, paths or names")
    if not listed:
        raise ConfigError(f"{name}: no architecture was given: name an arch.json, a NAS-Bench-201 string or a network such as resnet20")
    return [_entry(arch) for arch in listed]


def _path(name: str, value: Any) -> Path:
    """An argument that names a file or a folder."""
    if not isinstance(value, str | Path) or not str(value):
        raise ConfigError(f"{name} {brief_repr(value)}: a path is needed")
    return Path(value)


def _optional_path(name: str, value: Any) -> Path | None:
    return None if value is None else _path(name, value)


def _optional_text(name: str, value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise ConfigError(f"{name} {brief_repr(value)}: text is needed, as module:name")
    return value


def _execution(device: str, reporter: Reporter | None = None, **given: Any) -> Execution:
    return Execution(device, reporter=NullReporter() if reporter is None else reporter, **given)


def search(
    *,
    folder: str | Path | None = None,
    device: str = "auto",
    workers: int = 0,
    executor: str | Executor = LOCAL,
    patience: float | None = None,
    cache: bool = True,
    reporter: Reporter | None = None,
    progress: bool = False,
    **options: Any,
) -> SearchResult:
    """Find the student that should distil best within a budget; `diswot search` as a function.

    Args:
        folder: where the run is kept; None keeps nothing. A folder that exists is an error: go on with `diswot.resume`.
        device: auto, cpu, cuda or mps; cuda:0,cuda:1 for several.
        workers: processes or jobs side by side, 0 for one a core of a CPU, one an accelerator, or as many as the executor has. In a script,
            call from under `if __name__ == "__main__":` unless it is 1.
        executor: local, dask:tcp://HOST:8786, slurm, module:name, or a `concurrent.futures.Executor` that is open.
        patience: seconds that one candidate may take before its worker is taken for hung; None for half an hour.
        cache: whether scores of earlier runs are taken from the user's store, and new ones kept there.
        reporter: shown the progress.
        progress: show it on stderr, as the command line does, in place of `reporter`.
        options: the fields of `SearchConfig`: teacher, params, flops, depth, latency, space, data, proxy, seeds, ...

    >>> result = search(space="resnet_depth", params="0.2M", iterations=4, seeds=1, workers=1)
    >>> result.winner.space, result.table[0].cost.params <= 200_000
    ('resnet_depth', True)
    """
    plan = SearchPlan(resolve(SearchConfig, None, [], options))
    result: SearchResult = _run(
        plan, folder, _execution(device, reporter, workers=workers, executor=executor, patience=patience, cache=cache), progress
    )
    return result


def score(
    archs: Iterable[ArchLike],
    *,
    space: str | None = None,
    folder: str | Path | None = None,
    device: str = "auto",
    workers: int = 1,
    executor: str | Executor = LOCAL,
    patience: float | None = None,
    cache: bool = True,
    progress: bool = False,
    **options: Any,
) -> list[ScoreRow]:
    """Score architectures, arch.json files, NAS-Bench-201 strings and hand-made networks; `diswot score` as a function.

    Args:
        archs: what to score.
        space: `module:name` of a space of your own that may be imported.
        folder, device, workers, executor, patience, cache, progress: as in `search`.
        options: the fields of `ScoreConfig`: teacher, data, proxy, seeds, batch_size, init, ...

    >>> [row.rank for row in score(["resnet20", "resnet8"], proxy="params")]
    [1, 2]
    """
    plan = ScorePlan(
        resolve(ScoreConfig, None, [], options), tuple(entry.arch for entry in _entries("archs", archs)), _optional_text("space", space)
    )
    rows: list[ScoreRow] = _run(
        plan, folder, _execution(device, workers=workers, executor=executor, patience=patience, cache=cache), progress
    )
    return rows


def study(
    table: str | Path,
    *,
    folder: str | Path | None = None,
    scores_of: str | Path | None = None,
    device: str = "auto",
    workers: int = 0,
    executor: str | Executor = LOCAL,
    patience: float | None = None,
    cache: bool = True,
    reporter: Reporter | None = None,
    progress: bool = False,
    **options: Any,
) -> StudyResult:
    """Measure how well proxies rank the networks of a table whose accuracies are known; `diswot study` as a function.

    Args:
        table: a CSV with a column of architectures and columns of accuracies.
        folder: where the run and its report are kept; None keeps nothing.
        scores_of: folder of an earlier study under the same setting, whose scores are taken over where it has them.
        device, workers, executor, patience, cache, reporter, progress: as in `search`.
        options: the fields of `StudyConfig`: proxy, rows, sample_rows, dataset, split, seeds, batch_size, teacher, ...

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "mine.csv"
    >>> names = "resnet8 resnet14 resnet20 resnet32 resnet44 resnet56 resnet110 wrn_16_1 wrn_16_2 vgg8".split()
    >>> _ = path.write_text("arch,toy_test_acc\\n" + "".join(f"{name},{50 + n}\\n" for n, name in enumerate(names)))
    >>> (report,) = study(path, space="zoo", proxy="params", bootstrap_resamples=20).reports
    >>> report.dataset, round(report.statistics["params"]["Spearman"].value, 2)
    ('toy', 0.68)
    """
    plan = StudyPlan(resolve(StudyConfig, None, [], options), str(_path("table", table)), _optional_path("scores_of", scores_of))
    result: StudyResult = _run(
        plan, folder, _execution(device, reporter, workers=workers, executor=executor, patience=patience, cache=cache), progress
    )
    return result


def distill(
    arch: ArchLike | Sequence[ArchLike],
    *,
    folder: str | Path,
    device: str = "auto",
    reporter: Reporter | None = None,
    progress: bool = False,
    tensorboard: bool = False,
    **options: Any,
) -> DistillResult:
    """Distil a student, or several side by side; `diswot distill` as a function.

    Args:
        arch: an architecture, an arch.json, or the name of a hand-made network; or a list of these.
        folder: where the run is kept; a student is left in `folder / "student"` (`load_student`), several in `folder / "students"`.
        device, reporter, progress: as in `search`.
        tensorboard: write TensorBoard's files into the folder too.
        options: the fields of `DistillConfig`: loss, teacher, teacher_weights, data, epochs, ...
    """
    several = [arch] if isinstance(arch, Architecture | str | Path) else arch
    plan = plan_distillation(resolve(DistillConfig, None, [], options), _entries("arch", several))
    result: DistillResult = _run(plan, folder, _execution(device, reporter=reporter, tensorboard=tensorboard), progress)
    return result


def train(
    arch: ArchLike,
    *,
    folder: str | Path,
    device: str = "auto",
    reporter: Reporter | None = None,
    progress: bool = False,
    **options: Any,
) -> DistillResult:
    """Train a network by the labels alone; `diswot train` as a function.

    Args:
        arch, folder, device, reporter, progress: as in `distill`.
        options: the fields of `TrainConfig`: data, epochs, batch_size, lr, ...
    """
    plan = plan_training(resolve(TrainConfig, None, [], options), [_entry(arch)])
    result: DistillResult = _run(plan, folder, _execution(device, reporter=reporter), progress)
    return result


def compare(
    archs: Sequence[ArchLike],
    *,
    folder: str | Path,
    device: str = "auto",
    workers: int = 1,
    executor: str | Executor = LOCAL,
    patience: float | None = None,
    reporter: Reporter | None = None,
    progress: bool = False,
    **options: Any,
) -> Comparison:
    """Train students by the same recipe, on the same seeds, under one teacher; `diswot compare` as a function.

    Args:
        archs: two or more; as in `distill`.
        folder, device, reporter, progress: as in `distill`.
        workers, executor, patience: who trains the seeds; 1 of `local`, the default, trains them one after the other in this process.
        options: the fields of `CompareConfig`: seeds, and those of `DistillConfig`.
    """
    plan = plan_comparison(resolve(CompareConfig, None, [], options), _entries("archs", archs))
    result: Comparison = _run(plan, folder, _execution(device, reporter, workers=workers, executor=executor, patience=patience), progress)
    return result


def tabulate(
    *,
    folder: str | Path,
    searches: Sequence[str | Path] = (),
    device: str = "auto",
    workers: int = 0,
    executor: str | Executor = LOCAL,
    patience: float | None = None,
    reporter: Reporter | None = None,
    progress: bool = False,
    **options: Any,
) -> TabulateResult:
    """Train networks of a space by a short recipe, and write a table of their accuracies; `diswot tabulate` as a function.

    Args:
        folder: where the run is kept; the table is `folder / "table.csv"`, and `diswot.study` reads it.
        searches: folders of searches that a part of the networks are taken from.
        device, executor, patience, reporter, progress: as in `search`.
        workers: trainings side by side, 0 for one a core. In a script, call from under `if __name__ == "__main__":`.
        options: the fields of `TabulateConfig`: space, networks, params, flops, loss, teacher, data, epochs, ...
    """
    plan = plan_tabulation(resolve(TabulateConfig, None, [], options), _listed("searches", searches, (str, Path), "folders"))
    result: TabulateResult = _run(
        plan, folder, _execution(device, reporter, workers=workers, executor=executor, patience=patience), progress
    )
    return result


def resume(
    folder: str | Path,
    *,
    device: str = "auto",
    workers: int = 0,
    executor: str | Executor = LOCAL,
    patience: float | None = None,
    cache: bool = True,
    reporter: Reporter | None = None,
    progress: bool = False,
    allow: Sequence[str] = (),
) -> Any:
    """Go on with a run of any verb that was cut off, and return what it gives: `diswot VERB --resume FOLDER` as a function.

    Args:
        folder: of the run.
        device, workers, executor, patience, cache, reporter, progress: as in `search`.
        allow: parts of your own, as `module:name`, that may be imported although the run was begun elsewhere.

    Returns:
        What the verb's function returns.

    Raises:
        RunError: there is no run in the folder, or one that this version cannot resume.
    """
    execution = _execution(device, reporter, workers=workers, executor=executor, patience=patience, cache=cache)
    path, allowed = _path("folder", folder), _listed("allow", allow, (str,), "texts such as module:name")
    return _carried_out(lambda shown: Session.resume(path, shown, allow=allowed), execution, progress)


def write_report(folder: str | Path, *, allow: Sequence[str] = ()) -> Path:
    """Write the page of a run, also while it is under way: `diswot report FOLDER` as a function.

    Args:
        folder: of the run. The page is `folder / "report.html"`; every figure is left in `folder / "report"` as SVG and PNG, and its
            numbers as CSV.
        allow: parts of your own, as `module:name`, that the run names and that may be imported although it was begun elsewhere.

    Returns:
        The path of the page.

    Raises:
        RunError: there is no run in the folder, or a file of it is damaged.
    """
    from diswot.pages import write_page  # matplotlib with it, which takes a second

    return write_page(_path("folder", folder), _listed("allow", allow, (str,), "texts such as module:name"))


def load_arch(path: str | Path) -> Architecture:
    """Read the architecture in an arch.json; its choices are checked where its space is built in."""
    arch, _ = read_arch_json(_path("path", path))
    if arch.space in BUILT_IN:
        load_space(arch.space).check(arch)
    return arch


def build(arch: Architecture, num_classes: int, in_chans: int = 3, *, space: str | None = None) -> nn.Module:
    """Build the network of an architecture, with torch's own initialisation.

    Args:
        arch: the architecture.
        num_classes, in_chans: of the images.
        space: `module:name` of a space of your own that may be imported.

    >>> build(Architecture("zoo", "resnet20"), num_classes=10).num_features
    64
    """
    if not isinstance(arch, Architecture):
        raise ConfigError(f"arch {brief_repr(arch)}: an Architecture is needed; `load_arch` reads one")
    for name, count in (("num_classes", num_classes), ("in_chans", in_chans)):
        if type(count) is not int or not 1 <= count <= _MOST:
            raise ConfigError(f"{name} {brief_repr(count)}: a whole number from 1 to {_MOST:,} is needed")
    found = load_space(arch.space, trusted=arch.space == _optional_text("space", space))
    found.check(arch)
    return found.build(arch, num_classes, in_chans)


__all__ = ["build", "compare", "distill", "load_arch", "load_student", "resume", "score", "search", "study", "tabulate", "train"]
