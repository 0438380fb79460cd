"""The options of a score, a search and a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from diswot.config.fields import check_ranges, option
from diswot.errors import ConfigError

Init = Literal["kaiming", "gaussian", "torch", "orthogonal"]
Combine = Literal["rank", "log", "sum"]
MAX_SEED = 2**31 - 1


def seed_option(default: int, help: str, group: str) -> Any:
    """A field for a random seed: 0 to 2^31 - 1, what every generator takes."""
    return option(default, help, group, ge=0, le=MAX_SEED)


FEWEST_ROWS = 10  # of a table, below which a rank correlation says nothing


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The options that choose the images."""

    data_dir: str | None = option(None, "folder of the named data sets", "Images")
    download: bool = option(False, "download a named data set that is not in --data-dir", "Images")
    num_classes: int | None = option(None, "number of classes of generated images [100]", "Images", ge=1, le=100_000)
    input_size: int | None = option(
        None, "side in pixels that images are generated at, or files decoded to [the space's]", "Images", ge=1, le=4096
    )

    def image_options(self) -> dict[str, Any]:
        """The arguments of `diswot.data.load_data` besides the source."""
        return {name: getattr(self, name) for name in ("data_dir", "download", "num_classes", "input_size")}

    def check(self) -> None:
        """Refuse numbers outside their ranges, and options that exclude each other, with a `ConfigError`."""
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ImageOptions):
    """Everything that decides a score."""

    teacher: str = option("resnet56", "teacher: a CIFAR network, any timm network, or your own module:name", "What to find")
    data: str = option("synthetic", "images: see `diswot list data`, or your own module:name", "Images")
    proxy: str = option(
        "diswot+", "ranking, or proxies separated by commas: see `diswot list proxies`; module:name for your own", "Scoring"
    )
    combine: Combine | None = option(
        None, "how several proxies make one score: sum of ranks, of log ranks, or of raw scores [the ranking's own]", "Scoring"
    )
    seeds: int | None = option(
        None, "random initialisations that scores are averaged over [the ranking's: 1 for diswot+, 2 or 4 for others]", "Scoring", ge=1
    )
    batch_size: int | None = option(
        None, "images for each initialisation [the ranking's: 16 for diswot+, 4 for diswot, 32 for most]", "Scoring", ge=2
    )
    init: Init = option("kaiming", "initialisation of candidates, and of a teacher without weights", "Scoring")
    teacher_weights: str = option("random", "the teacher's weights: random, pretrained (timm's), or a file", "Scoring")
    teacher_norm: str = option("data", "normalisation of the teacher's images: data, imagenet, half, or m,m,m/s,s,s", "Scoring")
    seed: int = seed_option(0, "random seed", "Scoring")


@dataclass(frozen=True, kw_only=True)
class SearchConfig(ScoreConfig):
    """Everything that decides the outcome of a search."""

    params: str | None = option(
        None, "maximum number of parameters: 1M, or a range 0.8M..1M; none for no limit [the teacher's]", "What to find"
    )
    flops: str | None = option(
        None, "maximum number of FLOPs (multiply-accumulates) for one image: 100M; none for no limit [the teacher's]", "What to find"
    )
    depth: str | None = option(None, "maximum number of layers on the longest path: 20", "What to find")
    latency: str | None = option(None, "maximum time of a forward pass on the device (median): 5ms", "What to find")
    latency_batch_size: int = option(1, "images in the forward pass that --latency limits", "What to find", ge=1)
    latency_table: str | None = option(
        None, "a table that `diswot latency --table` measured: --latency is then read from it, and nothing is run", "What to find"
    )
    space: str = option("resnet_width", "search space: see `diswot list spaces`, or your own module:name", "What to find")
    strategy: str = option(
        "evolution",
        "evolution (the worst member leaves the population), aging (the oldest leaves), random, or your own module:name",
        "Search",
    )
    iterations: int = option(1000, "number of candidates to score; those outside the budget are not counted", "Search", ge=1)
    population_size: int = option(64, "members of the population; as many random candidates begin the search", "Search", ge=1)
    tournament_size: int = option(16, "members drawn at random to choose a parent from", "Search", ge=1)
    top_k: int = option(4, "the parent is one of the best k of those drawn", "Search", ge=1)
    pareto: str | None = option(
        None, "find a front of networks, of which none has both less of these and a better rank: params, flops, latency", "Search"
    )
    trial_epochs: int = option(
        0,
        "epochs that the finalists are trained for, to choose among them on held-out training images; the search is then not training-free",
        "Search",
        ge=0,
    )
    generation_size: int = option(16, "candidates bred from the same history, and scored side by side", "Search", ge=1)
    asynchronous: bool = option(
        False,
        "keep --generation-size candidates under way: no worker waits for the others, and the outcome depends on which was the fastest",
        "Search",
    )

    def check(self) -> None:
        super().check()
        if self.latency_table is not None and self.latency in (None, "none") and "latency" not in self.pareto_costs:
            raise ConfigError(f"--latency-table {self.latency_table} needs a limit: add --latency 5ms, or --pareto latency")

    @property
    def pareto_costs(self) -> tuple[str, ...]:
        """The costs of the front; none where a single winner is looked for."""
        return tuple(name.strip() for name in (self.pareto or "").split(",") if name.strip())

    def limits(self) -> dict[str, str | None]:
        """The budget as it was asked for: params, flops, depth and latency."""
        return {"params": self.params, "flops": self.flops, "depth": self.depth, "latency": self.latency}


@dataclass(frozen=True, kw_only=True)
class StudyConfig(ScoreConfig):
    """Everything that decides the outcome of a study."""

    proxy: str = option(
        "diswot+,diswot,az_nas,nwot,synflow,jacov",
        "rankings and proxies to compare, separated by commas: see `diswot list proxies`; module:name for your own",
        "What to study",
    )
    space: str | None = option(
        None, "search space of the table, or your own module:name [recognised from the architectures of the benchmarks]", "What to study"
    )
    arch_column: str | None = option(None, "column of the architectures [arch_str, arch, choices, ...]", "What to study")
    accuracy_column: str | None = option(None, "column of the accuracies [those named DATASET_SPLIT_acc]", "What to study")
    dataset: str | None = option(None, "data sets of the table, separated by commas [all]", "What to study")
    split: str = option("test", "which accuracy: test, valid, or that of a shorter training, such as valid_12ep", "What to study")
    num_classes: int | None = option(
        None, "number of classes of generated images [that of the table's data set, else 100]", "Images", ge=1, le=100_000
    )
    rows: Literal["all", "even", "odd", "unseen", "distinct"] = option(
        "all",
        "rows by index; unseen: odd rows whose network is in no even row; distinct: one row for each different network",
        "What to study",
    )
    sample_rows: int | None = option(None, "study this many of the rows, drawn at random [all]", "What to study", ge=FEWEST_ROWS)

    top_k: int = option(10, "k of precision at k, and of the best and worst rank among the first k", "Figures", ge=1)
    num_budgets: int = option(10, "number of FLOPs budgets that the regret is averaged over", "Figures", ge=1, le=1000)
    num_bands: int = option(5, "groups of similar FLOPs, inside each of which the correlation is measured", "Figures", ge=1, le=1000)
    bootstrap_resamples: int = option(200, "resamples of the bootstrap that gives the intervals", "Figures", ge=20, le=100_000)
    simulated_searches: int = option(0, "simulated searches for each budget and ranking", "Figures", ge=0, le=10_000)
    search_evaluations: int = option(500, "networks that a simulated search scores", "Figures", ge=1, le=1_000_000)

    def check(self) -> None:
        super().check()
        for name in ("proxy", "dataset"):
            if getattr(self, name) is not None and not getattr(self, name).strip(" ,"):
                raise ConfigError(f"--{name} {getattr(self, name)!r}: name at least one, or leave it out")
