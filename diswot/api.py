"""What `import diswot` offers: the recipes as functions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from diswot import runs
from diswot.architecture import Architecture, arch_json, read_arch_json
from diswot.config import resolve, to_dict
from diswot.devices import choose_device
from diswot.options import CompareConfig, DistillConfig, ScoreConfig, SearchConfig, StudyConfig, TrainConfig
from diswot.progress import Reporter, Silent
from diswot.recipes.compare import Comparison, complete_comparison, run_compare
from diswot.recipes.distill import DistillResult, Subject, complete_config, digests, identity, resume_config, run_distill
from diswot.recipes.findings import Findings, find
from diswot.recipes.scoring import ScoreRow, read_architecture, run_score
from diswot.recipes.search import SearchResult, run_search
from diswot.recipes.students import load_student
from diswot.recipes.study import Study, run_study
from diswot.report.study import write_report
from diswot.space import BUILT_IN, load_space
from diswot.training.parallel import Parallel, join

Student = Architecture | str | Path


def search(
    *, folder: str | Path | None = None, device: str = "auto", workers: int = 0, reporter: Reporter | None = None, **options: Any
) -> SearchResult:
    """Finds the student that should distil best within a budget; `diswot search` as a function.

    Args:
        folder: where the run is kept; None keeps nothing. A folder that exists is an error: resume from the command line.
        device: auto, cpu, cuda or mps.
        workers: processes on a CPU, 0 for one a core. In a script, call from under `if __name__ == "__main__":` unless it is 1.
        reporter: told of the progress.
        options: the fields of `SearchConfig`: teacher, params, flops, depth, latency, space, data, proxy, seeds, ...

    >>> result = search(space="resnet_depth", params="0.2M", iterations=4, seeds=1, workers=1)
    >>> result.winner.space, result.table[0].cost.params <= 200_000
    ('resnet_depth', True)
    """
    config = resolve(SearchConfig, None, [], options)
    if folder is None:
        return run_search(config, device=device, workers=workers, reporter=reporter)
    with runs.RunDir.create(Path(folder), "search", to_dict(config), runs.environment(choose_device(device))) as run:
        return run_search(config, run, device=device, workers=workers, reporter=reporter)


def score(
    archs: Iterable[Architecture | str], *, space: str | None = None, device: str = "auto", workers: int = 1, **options: Any
) -> list[ScoreRow]:
    """Scores architectures, arch.json files, NAS-Bench-201 strings and hand-made networks; `diswot score` as a function.

    Args:
        archs: what to score.
        space: name of a space of your own that may be imported.
        device, workers: as in `search`.
        options: the fields of `ScoreConfig`: teacher, data, proxy, seeds, batch, init, ...

    >>> [row.place for row in score(["resnet20", "resnet8"], proxy="params")]
    [1, 2]
    """
    config = resolve(ScoreConfig, None, [], options)
    parsed = [arch if isinstance(arch, Architecture) else read_architecture(arch)[0] for arch in archs]
    return run_score(config, parsed, space=space, device=device, workers=workers)


def distill(
    arch: Student | Sequence[Student],
    *,
    folder: str | Path,
    device: str = "auto",
    reporter: Reporter | None = None,
    tensorboard: bool = False,
    **options: Any,
) -> DistillResult:
    """Distils a student, or several side by side; `diswot distill` as a function.

    Args:
        arch: an architecture, an arch.json, or the name of a hand-made network; or a list of these.
        folder: where the run is kept; a student is left in `folder / "student"` (`load_student`), several in `folder / "students"`.
        device, reporter: as in `search`.
        tensorboard: write TensorBoard's files into the folder too.
        options: the fields of `DistillConfig`: loss, teacher, teacher_weights, data, epochs, ...
    """
    several = [arch] if isinstance(arch, Architecture | str | Path) else list(arch)
    config = resolve(DistillConfig, None, [], options)
    return begin_distill("distill", Path(folder), config, [_subject(one) for one in several], device)(reporter, tensorboard)


def train(arch: Student, *, folder: str | Path, device: str = "auto", reporter: Reporter | None = None, **options: Any) -> DistillResult:
    """Trains a network by the labels alone; `diswot train` as a function.

    Args:
        arch, folder, device, reporter: as in `distill`.
        options: the fields of `TrainConfig`: data, epochs, batch, lr, ...
    """
    config = DistillConfig(**to_dict(resolve(TrainConfig, None, [], options)), loss="none")
    return begin_distill("train", Path(folder), config, [_subject(arch)], device)(reporter, False)


class Distilling:
    """A run that has begun: called, it goes on to its end from where it is."""

    def __init__(self, run: runs.RunDir, config: DistillConfig, subjects: Sequence[Subject], device: str, parallel: Parallel) -> None:
        self.run, self.config, self.subjects, self.device, self.parallel = run, config, subjects, device, parallel

    def __call__(self, reporter: Reporter | None, tensorboard: bool) -> DistillResult:
        with self.run:
            return run_distill(
                self.config,
                self.subjects,
                self.run,
                device=self.device,
                parallel=self.parallel,
                reporter=reporter if self.parallel.main else None,
                tensorboard=tensorboard,
            )


def begin_distill(kind: str, folder: Path, config: DistillConfig, subjects: Sequence[Subject], device: str) -> Distilling:
    """A new run folder for a training, with the arch.json of every student; under torchrun all processes share that of the first."""
    config = complete_config(config, subjects[0][1])
    parallel, device = join(choose_device(device))
    if parallel.main:
        run = runs.RunDir.create(folder, kind, identity(config), runs.environment(device), _arch_files(subjects))
    folder = Path(parallel.share(str(folder)))
    return Distilling(run if parallel.main else runs.RunDir(folder), config, subjects, device, parallel)


def resume_distill(kind: str, folder: Path, device: str) -> Distilling:
    """A run of `begin_distill` that was cut off."""
    parallel, device = join(choose_device(device))
    run, stored = runs.RunDir.open(folder, kind, lock=parallel.main)
    return Distilling(run, resume_config(stored, DistillConfig), _read_archs(folder), device, parallel)


def compare(
    archs: Sequence[Student], *, folder: str | Path, device: str = "auto", reporter: Reporter | None = None, **options: Any
) -> Comparison:
    """Trains students by the same recipe, on the same seeds, under one teacher; `diswot compare` as a function.

    Args:
        archs: two or more; as in `distill`.
        folder, device, reporter: as in `distill`.
        options: the fields of `CompareConfig`: seeds, and those of `DistillConfig`.
    """
    subjects = [_subject(arch) for arch in archs]
    return begin_compare(Path(folder), resolve(CompareConfig, None, [], options), subjects, device)(reporter)


def _subject(arch: Student) -> Subject:
    return (arch, {}) if isinstance(arch, Architecture) else read_architecture(str(arch))


class Comparing:
    """A comparison that has begun: called, it goes on to its end from where it is."""

    def __init__(self, run: runs.RunDir, config: CompareConfig, subjects: Sequence[Subject], device: str) -> None:
        self.run, self.config, self.subjects, self.device = run, config, subjects, device

    def __call__(self, reporter: Reporter | None) -> Comparison:
        with self.run:
            return run_compare(self.config, self.subjects, self.run, device=self.device, reporter=reporter)


def begin_compare(folder: Path, config: CompareConfig, subjects: Sequence[Subject], device: str) -> Comparing:
    """A new run folder for a comparison."""
    device = choose_device(device)
    config = complete_comparison(config, subjects)
    document = {**to_dict(config), **digests(config)}
    run = runs.RunDir.create(folder, "compare", document, runs.environment(device), _arch_files(subjects))
    return Comparing(run, config, subjects, device)


def resume_compare(folder: Path, device: str) -> Comparing:
    """A run of `begin_compare` that was cut off."""
    run, stored = runs.RunDir.open(folder, "compare")
    return Comparing(run, resume_config(stored, CompareConfig), _read_archs(folder), choose_device(device))


def _arch_files(subjects: Sequence[Subject]) -> dict[str, str]:
    names = ["arch.json"] if len(subjects) == 1 else [f"arch-{number}.json" for number in range(1, len(subjects) + 1)]
    return {name: arch_json(arch, found_by) for name, (arch, found_by) in zip(names, subjects, strict=True)}


def _read_archs(folder: Path) -> list[Subject]:
    numbered = (folder / f"arch-{number}.json" for number in itertools.count(1))
    several = list(itertools.takewhile(Path.exists, numbered))
    return [read_arch_json(path) for path in several or [folder / "arch.json"]]


def study(
    table: str | Path,
    *,
    folder: str | Path | None = None,
    scores_of: str | Path | None = None,
    device: str = "auto",
    workers: int = 0,
    reporter: Reporter | None = None,
    **options: Any,
) -> tuple[Study, list[Findings]]:
    """Measures how well proxies rank the networks of a table whose accuracies are known; `diswot study` as a function.

    Args:
        table: a CSV with a column of architectures and columns of accuracies.
        folder: where the run and its report are kept; None keeps nothing.
        scores_of: folder of an earlier study under the same setting, whose scores are taken over where it has them.
        device, workers, reporter: as in `search`.
        options: the fields of `StudyConfig`: proxy, rows, sample, dataset, split, seeds, batch, teacher, ...

    Returns:
        The study: what was scored, and the fitness of every ranking; and for each data set what was found.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "mine.csv"
    >>> names = "resnet8 resnet14 resnet20 resnet32 resnet44 resnet56 resnet110 wrn_16_1 wrn_16_2 vgg8".split()
    >>> _ = path.write_text("arch,toy_test_acc\\n" + "".join(f"{name},{50 + n}\\n" for n, name in enumerate(names)))
    >>> _, (found,) = study(path, space="zoo", proxy="params", resamples=20)
    >>> found.dataset, round(found.statistics["params"]["Spearman"].value, 2)
    ('toy', 0.68)
    """
    config = resolve(StudyConfig, None, [], options)
    earlier = Path(scores_of) if scores_of is not None else None
    if folder is None:
        measured = run_study(config, str(table), earlier=earlier, device=device, workers=workers, reporter=reporter)
        return measured, find(measured)
    with start_study(Path(folder), config, table, device) as run:
        return finish_study(config, str(table), run, earlier=earlier, device=device, workers=workers, reporter=reporter)


def start_study(folder: Path, config: StudyConfig, table: str | Path, device: str) -> runs.RunDir:
    """A new run folder for a study."""
    config.check()
    document = {**to_dict(config), "table": str(Path(table).resolve())}
    return runs.RunDir.create(folder, "study", document, runs.environment(choose_device(device)))


def finish_study(
    config: StudyConfig,
    table: str,
    run: runs.RunDir,
    *,
    earlier: Path | None = None,
    device: str = "auto",
    workers: int = 0,
    reporter: Reporter | None = None,
    searching: Reporter | None = None,
) -> tuple[Study, list[Findings]]:
    """Scores, measures and reports, from where the run was left; `searching` is told of the simulated searches."""
    reporter = reporter or Silent()
    measured = run_study(config, table, run, earlier=earlier, device=device, workers=workers, reporter=reporter)
    reporter.say("all scored; now the intervals, the figures and the report")
    findings = find(measured, run, searching)
    write_report(measured, findings, run.path)
    return measured, findings


def load_arch(path: str | Path) -> Architecture:
    """The architecture in an arch.json; its choices are checked where its space is built in."""
    arch, _ = read_arch_json(path)
    if arch.space in BUILT_IN:
        load_space(arch.space).check(arch)
    return arch


def build(arch: Architecture, num_classes: int, in_chans: int = 3) -> nn.Module:
    """The network of an architecture of a built-in space, with torch's own initialisation.

    >>> build(Architecture("zoo", "resnet20"), num_classes=10).num_features
    64
    """
    space = load_space(arch.space)
    space.check(arch)
    return space.build(arch, num_classes, in_chans)


__all__ = ["build", "compare", "distill", "load_arch", "load_student", "score", "search", "study", "train"]
