"""The options of every recipe, with their defaults and the words that explain them. The command line's flags are made from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from diswot.config import option, positive
from diswot.errors import ConfigError
from diswot.evolution import Algorithm, Evolution

Init = Literal["kaiming", "gaussian", "torch", "orthogonal"]
Schedule = Literal["step", "cosine", "constant"]
Supervision = Literal["ce", "bce"]
Augment = Literal["crop", "flip", "resized", "none"]
Precision = Literal["fp32", "bf16", "fp16"]


def check_seed(seed: int) -> None:
    """`ConfigError` for a seed that a generator would not take."""
    if not 0 <= seed < 2**31:
        raise ConfigError(f"seed {seed}: 0 to {2**31 - 1:,}")


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which images."""

    data_dir: str | None = option(None, "where named data sets lie", "Images")
    download: bool = option(False, "fetch a named data set that is not there", "Images")
    num_classes: int | None = option(None, "classes of drawn images [100]", "Images")
    input_size: int | None = option(None, "side that images are drawn at, or files decoded to [the space's]", "Images")

    def image_options(self) -> dict[str, Any]:
        """What `diswot.data.load_data` wants to know besides the source."""
        return {name: getattr(self, name) for name in ("data_dir", "download", "num_classes", "input_size")}


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ImageOptions):
    """Everything that decides a score."""

    teacher: str = option("resnet56", "teacher: a CIFAR network, any timm network, or module:function", "What to find")
    data: str = option("synthetic", "images: see `diswot list data`", "Images")
    proxy: str = option("diswot+", "ranking, or proxies with commas between: see `diswot list proxies`", "Scoring")
    combine: Literal["rank", "log", "sum"] | None = option(
        None, "how proxies are put together: add up ranks, their logarithms, or raw scores [the ranking's]", "Scoring"
    )
    seeds: int | None = option(
        None, "initialisations that scores are averaged over [the ranking's: 1 for diswot+, 4 for diswot, 2 for most]", "Scoring"
    )
    batch: int | None = option(None, "images for each initialisation [the ranking's: 8 for diswot+, 4 for diswot, 32 for most]", "Scoring")
    init: Init = option("kaiming", "initialisation of candidates and of a random teacher", "Scoring")
    teacher_weights: str = option("random", "random, pretrained (timm's), or a file", "Scoring")
    teacher_norm: str = option("data", "normalisation of the teacher's images: data, imagenet, half, or m,m,m/s,s,s", "Scoring")
    seed: int = option(0, "of everything random", "Scoring")

    def check(self) -> None:
        """`ConfigError` for numbers that cannot be."""
        if self.seeds is not None:
            positive(self, "seeds")
        if self.batch is not None:
            positive(self, "batch", least=2)
        check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class SearchConfig(ScoreConfig):
    """Everything that decides the outcome of a search."""

    params: str | None = option(None, "most parameters: 1M, or a range 0.8M..1M", "What to find")
    flops: str | None = option(None, "most FLOPs (multiply-accumulates): 100M", "What to find")
    depth: str | None = option(None, "most layers on the longest path: 20", "What to find")
    latency: str | None = option(None, "longest forward pass on the device, median: 5ms", "What to find")
    latency_batch: int = option(1, "images in the forward pass that --latency limits", "What to find")
    space: str = option("resnet_width", "search space: see `diswot list spaces`, or your own module", "What to find")
    algorithm: Algorithm = option(
        "evolution", "who leaves the population: the worst (evolution), the oldest (aging); or random search", "Search"
    )
    iterations: int = option(1000, "candidates scored in all; those outside the budget are not counted", "Search")
    population: int = option(64, "members kept, and random candidates to begin with", "Search")
    sample: int = option(16, "members drawn to choose a parent from", "Search")
    top_k: int = option(4, "the best of the drawn, one of which becomes the parent", "Search")
    generation: int = option(16, "candidates bred from the same history, and scored side by side", "Search")

    def check(self) -> None:
        super().check()
        positive(self, "iterations", "population", "sample", "top_k", "generation", "latency_batch")

    @property
    def evolution(self) -> Evolution:
        """How candidates are bred."""
        return Evolution(self.algorithm, self.population, self.sample, self.top_k)


@dataclass(frozen=True, kw_only=True)
class StudyConfig(ScoreConfig):
    """Everything that decides the outcome of a study."""

    proxy: str = option(
        "diswot+,diswot,az_nas,nwot,synflow,jacov",
        "rankings and proxies to compare, with commas between: see `diswot list proxies`",
        "What to study",
    )
    space: str | None = option(None, "search space of the table [recognised, for the benchmarks]", "What to study")
    arch_column: str | None = option(None, "the table's column of architectures [arch_str, arch, choices, ...]", "What to study")
    accuracy_column: str | None = option(None, "the table's column of accuracies [those named DATASET_SPLIT_acc]", "What to study")
    dataset: str | None = option(None, "data sets of the table, with commas between [all]", "What to study")
    split: str = option("test", "which accuracy: test, valid, or of a shorter training as valid_12ep", "What to study")
    rows: Literal["all", "even", "odd", "unseen", "distinct"] = option(
        "all", "by index; unseen: odd rows whose network no even row has; distinct: one row for each different network", "What to study"
    )
    sample: int | None = option(None, "study so many of the rows, drawn at random", "What to study")

    top: int = option(10, "k of precision at k, and of best and worst rank among the first k", "Figures")
    budgets: int = option(10, "FLOPs budgets of the regret", "Figures")
    bands: int = option(5, "groups of like FLOPs, for the correlation inside each", "Figures")
    resamples: int = option(200, "of the bootstrap", "Figures")
    searches: int = option(0, "simulated searches for each budget and ranking", "Figures")
    evaluations: int = option(500, "networks that a simulated search scores", "Figures")

    def check(self) -> None:
        super().check()
        for name in ("proxy", "dataset"):
            if getattr(self, name) is not None and not getattr(self, name).strip(" ,"):
                raise ConfigError(f"{name} {getattr(self, name)!r}: name at least one, or leave it out")
        positive(self, "top", "budgets", "bands", "evaluations")
        positive(self, "resamples", least=20)
        positive(self, "searches", least=0)
        if self.sample is not None:
            positive(self, "sample", least=10)
        for name, most in (("budgets", 1000), ("bands", 1000), ("resamples", 100_000), ("searches", 10_000), ("evaluations", 1_000_000)):
            if getattr(self, name) > most:
                raise ConfigError(f"{name} {getattr(self, name):,}: at most {most:,}")


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(ImageOptions):
    """How networks are trained, and on which images."""

    data: str | None = option(None, "images: see `diswot list data` [the search's, where it had real ones, else cifar100]", "Images")
    limit: int | None = option(None, "use this many training images, drawn at random", "Images")
    held_out: float | None = option(None, "share of the training images kept for validation [0, or 0.1 without test images]", "Images")
    label_noise: float = option(0.0, "share of the training images that are given a wrong label, drawn by the seed", "Images")

    epochs: int = option(240, "passes over the training images; learning-rate drops move in proportion", "Recipe")
    batch: int = option(64, "images a step", "Recipe")
    optimizer: str = option("sgd", "sgd, or timm's name of another: adamw, lamb, ...", "Recipe")
    lr: float = option(0.05, "learning rate to begin with; .01 suits MobileNet and ShuffleNet", "Recipe")
    momentum: float = option(0.9, "of SGD", "Recipe")
    nesterov: bool = option(False, "Nesterov's momentum", "Recipe")
    weight_decay: float = option(5e-4, "L2 penalty (decoupled where the optimizer says so)", "Recipe")
    decay_norms: bool = option(True, "weight decay on biases and normalisation too", "Recipe")
    layer_decay: float = option(1.0, "factor of the learning rate from each layer to the one below it", "Recipe")
    schedule: Schedule = option("step", "of the learning rate", "Recipe")
    milestones: str = option("0.625,0.75,0.875", "where `step` drops, as shares of the training", "Recipe")
    decay: float = option(0.1, "what each drop of `step` multiplies by", "Recipe")
    warmup_epochs: int = option(0, "epochs of linear warm-up", "Recipe")
    warmup_lr: float = option(1e-6, "where the warm-up begins", "Recipe")
    min_lr: float = option(0.0, "where `cosine` ends", "Recipe")
    clip: float = option(0.0, "largest norm of the gradient, 0 for any", "Recipe")
    accumulate: int = option(
        1, "parts that a batch is computed in, to save memory; batch norm and losses that relate images see a part", "Recipe"
    )
    ema: float = option(0.0, "decay of a moving average of the weights, which is then measured and kept; 0 for none", "Recipe")
    supervision: Supervision = option("ce", "cross-entropy, or binary cross-entropy of every class", "Recipe")
    smoothing: float = option(0.0, "of the labels", "Recipe")
    seed: int = option(0, "of everything random", "Recipe")

    augment: Augment | None = option(
        None,
        "crop (shifts by up to 4 pixels) and mirror, mirror alone, resized crops, or none [crop, resized above 64 pixels]",
        "Augmentation",
    )
    cutout: int = option(0, "side of a square that is blacked out", "Augmentation")
    mixup: float = option(0.0, "alpha of mixup, 0 for none; with cutmix, one of the two by chance", "Augmentation")
    cutmix: float = option(0.0, "alpha of CutMix, 0 for none", "Augmentation")
    auto_augment: str = option("", "timm's automatic augmentation: rand-m7-mstd0.5, ...", "Augmentation")
    erase: float = option(0.0, "share of the images that lose a random rectangle", "Augmentation")
    drop_path: float = option(0.0, "share of residual paths that are left out in a step; timm's networks only", "Augmentation")
    repeats: int = option(1, "times an image stands in a batch, augmented anew; an epoch stays as long", "Augmentation")
    crop_share: float = option(1.0, "share of its shorter side that is kept of a test image that is a file", "Augmentation")

    measure_every: int = option(1, "epochs from one measurement on the test images to the next; the last epoch is always measured", "Speed")
    precision: Precision = option("fp32", "of the forward pass; fp16 with loss scaling", "Speed")
    channels_last: bool = option(True, "the memory layout that convolutions like", "Speed")
    compile: bool = option(False, "torch.compile", "Speed")
    deterministic: bool = option(False, "only algorithms that give the same to the bit (on a CPU they all do)", "Speed")
    sync_norms: bool = option(True, "under torchrun, batch norm over the whole batch", "Speed")
    loader_workers: int = option(4, "processes that decode images which are not held in memory; the outcome is the same", "Speed")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RecipeOptions):
    """Everything that decides the outcome of plain training."""

    weights: str | None = option(None, "a file of weights to begin with [drawn by the seed]", "What to train")
    space: str | None = option(None, "allows an arch.json of a space that is your own module", "What to train")


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """Everything that decides the outcome of a distillation."""

    loss: str = option(
        "kd",
        "what students learn from: a name, with options as dkd(beta=2), or several as kd+0.5*rkd; see `diswot list losses`",
        "What to train",
    )
    teacher: str | None = option(
        None, "teacher [the one the student was searched for, else resnet56]; self for one like the student", "What to train"
    )
    teacher_weights: str | None = option(
        None, "a file, or pretrained (timm's) [trained first, and kept for the next time]", "What to train"
    )
    teacher_norm: str = option(
        "data", "normalisation of the teacher's images: data (or what its file says), imagenet, half, or m,m,m/s,s,s", "What to train"
    )
    teacher_seed: int = option(1000, "of a teacher that is trained first; not a student's, or `self` would be its twin", "What to train")
    teacher_epochs: int | None = option(None, "epochs of a teacher that is trained first [as the student's]", "What to train")
    assistants: str | None = option(
        None, "networks between teacher and student, each distilled from the one before: resnet32,resnet20", "What to train"
    )
    until: float = option(1.0, "share of the training after which the labels alone are left (early-stopped distillation)", "What to train")
    unlabelled: str | None = option(None, "more images, without labels: a folder, an .npz or a list; for losses that need none", "Images")
    cache: bool = option(True, "keep the teacher's logits where the augmentation leaves few different images", "Speed")


@dataclass(frozen=True, kw_only=True)
class CompareConfig(DistillConfig):
    """Everything that decides the outcome of a comparison."""

    seeds: int = option(3, "trainings of each, with seeds from --seed on", "What to train")
