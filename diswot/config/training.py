"""The options of a training, a distillation and a comparison."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from diswot.config.fields import option
from diswot.config.scoring import ImageOptions, seed_option
from diswot.errors import ConfigError

Schedule = Literal["step", "cosine", "constant"]
Supervision = Literal["ce", "bce"]
Augment = Literal["crop", "flip", "resized", "none"]
Precision = Literal["fp32", "bf16", "fp16"]
SGD = "sgd"
_MAX_CROP_SIZE = 64  # pixels: up to here images are shifted, above they are cropped at random sizes


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The options of a training, with or without a teacher; the defaults are the standard CIFAR recipe of the distillation literature."""

    epochs: int = option(240, "passes over the training images; learning-rate drops move in proportion", "Recipe", ge=1)
    batch_size: int = option(64, "images in a training step", "Recipe", ge=2)
    opt: str = option(SGD, "optimizer: sgd, or timm's name of another (adamw, lamb, ...)", "Recipe")
    lr: float = option(0.05, "initial learning rate; 0.01 suits MobileNet and ShuffleNet", "Recipe", gt=0)
    momentum: float = option(0.9, "momentum of SGD", "Recipe", ge=0, lt=1)
    dot_delta: float = option(
        0.0,
        "DOT: momentum that the labels' gradient has less, and the teacher's more, than --momentum; 0.075 for CIFAR, 0.09 for ImageNet; "
        "0 for plain SGD",
        "Recipe",
        ge=0,
        lt=0.5,
    )
    nesterov: bool = option(False, "use Nesterov's momentum", "Recipe")
    weight_decay: float = option(5e-4, "L2 penalty on the weights (decoupled where the optimizer does that)", "Recipe", ge=0)
    norm_weight_decay: bool = option(True, "apply weight decay to biases and normalisation layers too", "Recipe")
    layer_decay: float = option(1.0, "learning-rate factor from each layer to the one below it", "Recipe", gt=0, le=1)
    sched: Schedule = option("step", "learning-rate schedule", "Recipe")
    decay_milestones: str = option("0.625,0.75,0.875", "where the step schedule drops, as fractions of the training", "Recipe")
    decay_rate: float = option(0.1, "factor of each drop of the step schedule", "Recipe", gt=0, le=1)
    warmup_epochs: int = option(0, "epochs of linear warm-up", "Recipe", ge=0)
    warmup_lr: float = option(1e-6, "learning rate that the warm-up begins with", "Recipe", ge=0)
    min_lr: float = option(0.0, "learning rate that the cosine schedule ends with", "Recipe", ge=0)
    clip_grad: float = option(0.0, "largest norm of the gradient; 0 for no clipping", "Recipe", ge=0)
    grad_accum_steps: int = option(
        1,
        "parts that a batch is computed in, to save memory; batch norm and losses that relate images see one part at a time",
        "Recipe",
        ge=1,
    )
    model_ema_decay: float = option(
        0.0, "decay of a moving average of the weights, which is then what is measured and kept; 0 for none", "Recipe", ge=0, lt=1
    )
    supervised_loss: Supervision = option("ce", "loss on the labels: cross-entropy, or binary cross-entropy of every class", "Recipe")
    smoothing: float = option(0.0, "label smoothing", "Recipe", ge=0, lt=1)
    seed: int = seed_option(0, "random seed", "Recipe")

    augment: Augment | None = option(
        None,
        "crop (shift by up to 4 pixels, and mirror), flip (mirror), resized (random resized crop, and mirror), or none "
        "[crop; resized above 64 pixels]",
        "Augmentation",
    )
    crop_views: int = option(
        0,
        "number of crops that each image is shown in, drawn once, instead of a new one in every epoch, so that the teacher's logits can be "
        "kept; 0 for new ones",
        "Augmentation",
        ge=0,
        le=1000,
    )
    cutout: int = option(0, "side in pixels of a square that is blacked out; 0 for none", "Augmentation", ge=0)
    mixup: float = option(0.0, "alpha of mixup, 0 for none; with --cutmix, one of the two is chosen at random", "Augmentation", ge=0)
    cutmix: float = option(0.0, "alpha of CutMix, 0 for none", "Augmentation", ge=0)
    aa: str = option("", "timm's automatic augmentation policy: rand-m7-mstd0.5, ...", "Augmentation")
    reprob: float = option(0.0, "probability that a random rectangle of an image is erased", "Augmentation", ge=0, le=1)
    aug_repeats: int = option(
        1, "times that an image is in a batch, augmented anew each time; the length of an epoch stays", "Augmentation", ge=1
    )

    val_interval: int = option(1, "epochs between two measurements on the test images; the last epoch is always measured", "Speed", ge=1)
    precision: Precision = option("fp32", "number format of the forward pass; fp16 with loss scaling", "Speed")
    channels_last: bool = option(True, "use the memory layout that convolutions prefer", "Speed")
    torchcompile: bool = option(False, "use torch.compile", "Speed")
    deterministic: bool = option(False, "use only algorithms that are reproducible to the bit (on a CPU they all are)", "Speed")
    sync_bn: bool = option(True, "under torchrun, compute batch norm over the batch of all processes", "Speed")

    @property
    def mixes(self) -> bool:
        """Whether the images of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def milestones(self) -> tuple[float, ...]:
        """The fractions of the training at which the step schedule drops.

        Raises:
            ConfigError: the option is no list of fractions.

        >>> Recipe(decay_milestones="0.75, 0.5").milestones
        (0.5, 0.75)
        """
        try:
            shares = tuple(sorted(float(word) for word in self.decay_milestones.split(",") if word.strip()))
        except ValueError:
            shares = (math.nan,)
        if not all(0 < share < 1 for share in shares):
            raise ConfigError(f"--decay-milestones {self.decay_milestones!r}: fractions of the training between 0 and 1, as 0.5,0.75")
        return shares

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0. Milestones are fractions of all epochs, warm-up included.

        >>> [round(Recipe().learning_rate(e), 8) for e in (0, 149, 150, 180, 239)]
        [0.05, 0.05, 0.005, 0.0005, 5e-05]
        >>> [round(Recipe(epochs=4, sched="cosine", lr=1.0).learning_rate(e), 3) for e in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        if epoch < self.warmup_epochs:
            return self.warmup_lr + (self.lr - self.warmup_lr) * epoch / self.warmup_epochs
        if self.sched == "cosine":
            return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        if self.sched == "constant" or self.epochs == 1:
            return self.lr
        return float(self.lr * self.decay_rate ** sum(epoch >= math.floor(round(share * self.epochs, 9)) for share in self.milestones))

    def for_images(self, input_size: int) -> Recipe:
        """The recipe with the augmentation for images of this side in pixels, where none was asked for."""
        default: Augment = "crop" if input_size <= _MAX_CROP_SIZE else "resized"
        return dataclasses.replace(self, augment=self.augment or default)

    def check_combinations(self) -> None:
        """Refuse options that exclude each other.

        Raises:
            ConfigError: names them.
        """
        _ = self.milestones
        if self.warmup_epochs and not self.warmup_epochs < self.epochs:
            raise ConfigError(f"--warmup-epochs {self.warmup_epochs}: fewer than the {self.epochs} epochs are needed")
        if self.dot_delta:
            self._check_dot()
        if self.crop_views:
            self._check_crop_views()
        if self.grad_accum_steps > max(self.batch_size // 2, 1):
            most = self.batch_size // 2
            raise ConfigError(
                f"--grad-accum-steps {self.grad_accum_steps}: a batch of {self.batch_size} has only {most} parts of two images"
            )

    def _check_crop_views(self) -> None:
        uses = {f"--augment {self.augment}": self.augment not in (None, "crop"), "--aa": self.aa, "--reprob": self.reprob}
        uses |= {"--cutout": self.cutout, "--mixup": self.mixup, "--cutmix": self.cutmix}
        if odd := next((flag for flag, used in uses.items() if used), ""):
            raise ConfigError(f"--crop-views {self.crop_views}: crops and mirroring alone can be drawn once: leave {odd} out")

    def _check_dot(self) -> None:
        delta = f"--dot-delta {self.dot_delta}"
        if not self.dot_delta <= self.momentum < 1 - self.dot_delta:
            raise ConfigError(f"{delta}: momentum {self.momentum} less and more that must lie between 0 and 1")
        if odd := next((flag for flag, used in self._unlike_dot().items() if used), ""):
            raise ConfigError(f"{delta}: it is SGD with two backward passes, and {odd} cannot be had with it: leave one of them out")

    def _unlike_dot(self) -> dict[str, bool]:
        """By flag, whether an option is used that DOT has no definition for."""
        return {
            f"--opt {self.opt}": self.opt != SGD,
            "--nesterov": self.nesterov,
            "--clip-grad": self.clip_grad > 0,
            "--precision fp16": self.precision == "fp16",
        }


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ImageOptions, Recipe):
    """Everything that decides the outcome of a training by the labels alone."""

    weights: str | None = option(
        None, "weights to begin with: a file, or pretrained (timm's, for a network of timm) [random, from the seed]", "What to train"
    )
    space: str | None = option(None, "allow an arch.json of your own space: its module:name", "What to train")

    data: str | None = option(None, "images: see `diswot list data` [the search's, if it had real ones; else cifar100]", "Images")
    limit: int | None = option(None, "number of training images to use, drawn at random [all]", "Images", ge=1)
    val_fraction: float | None = option(
        None, "fraction of the training images held out for validation [0; 0.1 where there are no test images]", "Images", ge=0, lt=1
    )
    label_noise: float = option(0.0, "fraction of the training images that get a wrong label, drawn by the seed", "Images", ge=0, lt=1)
    crop_pct: float = option(1.0, "fraction of the shorter side that is kept of a test image that is a file", "Augmentation", gt=0, le=1)
    drop_path: float = option(
        0.0, "probability that a residual path is dropped in a step; timm's networks only", "Augmentation", ge=0, lt=1
    )
    loader_workers: int = option(4, "processes that decode images which do not fit in memory; the outcome is the same", "Speed", ge=0)

    def recipe(self) -> Recipe:
        """The part of the configuration that says how a network is trained."""
        return Recipe(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)})

    def check(self) -> None:
        super().check()
        self.check_combinations()


def _for_each(value: str | None, count: int, option: str) -> list[str | None]:
    parts = [value] if value is None or count == 1 else [part.strip() for part in value.split("+")]
    if len(parts) not in (1, count):
        raise ConfigError(f"{option} {value:.120}: {len(parts)} values for {count} networks: give one for each, or one for all")
    return list(parts) * (count if len(parts) == 1 else 1)


@dataclass(frozen=True)
class TeacherMember:
    """One network of a teacher: its name, its weights (None where it is trained first) and how its images are normalised."""

    name: str
    weights: str | None
    norm: str


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """Everything that decides the outcome of a distillation."""

    loss: str = option(
        "kd",
        "distillation loss: a name, with options as dkd(beta=2), or several as kd+0.5*rkd: see `diswot list losses`; "
        "module:name for your own",
        "What to train",
    )
    teacher: str | None = option(
        None,
        "teacher [the one that the student was searched for, else resnet56]; self for a twin of the student; several that teach by the "
        "mean of their logits, as resnet56+resnet110",
        "What to train",
    )
    teacher_weights: str | None = option(
        None,
        "the teacher's weights: a file, or pretrained (timm's); of several, one for each, as a.pt+b.pt [it is trained first, and kept for "
        "the next time]",
        "What to train",
    )
    teacher_norm: str = option(
        "data", "normalisation of the teacher's images: data (or what its file says), imagenet, half, or m,m,m/s,s,s", "What to train"
    )
    teacher_classes: str | None = option(
        None,
        "a YAML file that says which of a teacher's classes each of the data's stands for, where they differ: classes: {cat: [tabby, 282]}",
        "What to train",
    )
    teacher_seed: int = seed_option(
        1000, "random seed of a teacher that is trained first; another than --seed, so that `self` is no exact copy", "What to train"
    )
    teacher_epochs: int | None = option(None, "epochs of a teacher that is trained first [as the student's]", "What to train", ge=1)
    assistants: str | None = option(
        None, "networks between teacher and student, each distilled from the one before it: resnet32,resnet20", "What to train"
    )
    distill_fraction: float = option(
        1.0,
        "fraction of the training under the teacher; after it only the labels teach (early-stopped distillation)",
        "What to train",
        gt=0,
        le=1,
    )
    sweep: str | None = option(
        None,
        "strengths of the loss to try, as 0.1,0.3,1,3: each is trained beside the labels alone, on a part of the training images, and "
        "measured on the rest (--val-fraction, by default 0.1), never on test images",
        "What to train",
    )
    unlabelled: str | None = option(
        None, "more images, without labels, for losses that need none: a folder, an .npz or a list of paths", "Images"
    )
    teacher_cache: bool = option(True, "keep the teacher's outputs where the augmentation leaves few different images", "Speed")

    @property
    def teacher_members(self) -> tuple[TeacherMember, ...]:
        """The networks that `teacher` names: one, or those of an ensemble, joined by +; weights and normalisations are for all, or one for
        each.

        Raises:
            ConfigError: another number of weights or normalisations.

        >>> DistillConfig(teacher="resnet56", teacher_weights="a.pt").teacher_members
        (TeacherMember(name='resnet56', weights='a.pt', norm='data'),)
        >>> [member.weights for member in DistillConfig(teacher="resnet56+resnet110", teacher_weights="a.pt + b.pt").teacher_members]
        ['a.pt', 'b.pt']
        """
        names = [name.strip() for name in (self.teacher or "").split("+")]
        weights = _for_each(self.teacher_weights, len(names), "--teacher-weights")
        norms = _for_each(self.teacher_norm, len(names), "--teacher-norm")
        return tuple(TeacherMember(name, given, str(norm)) for name, given, norm in zip(names, weights, norms, strict=True))

    @property
    def strengths(self) -> tuple[float, ...]:
        """The factors of `sweep`, each once.

        Raises:
            ConfigError: the option is no list of numbers above 0.

        >>> DistillConfig(sweep="0.1, 1").strengths
        (0.1, 1.0)
        """
        try:
            found = tuple(dict.fromkeys(float(word) for word in (self.sweep or "").split(",") if word.strip()))
        except ValueError:
            found = (math.nan,)
        if self.sweep is not None and not (found and all(0 < factor < math.inf for factor in found)):
            raise ConfigError(f"--sweep {self.sweep!r}: factors above 0, as 0.1,0.3,1,3")
        return found

    def check(self) -> None:
        super().check()
        if self.strengths and self.val_fraction == 0:
            raise ConfigError("--val-fraction 0: --sweep measures on training images that are held out: leave it out")

    def refuse_sweep(self, verb: str) -> None:
        """Refuse `sweep` in a verb that trains by the losses as they are named.

        Raises:
            ConfigError: it is given.
        """
        if self.sweep is not None:
            raise ConfigError(f"--sweep {self.sweep}: diswot distill sweeps, {verb} trains by the loss as it is named: leave it out")

    def distillation(self, **changes: Any) -> DistillConfig:
        """The part of the configuration that one distillation has, with some of its options changed."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(DistillConfig)}
        return DistillConfig(**{**fields, **changes})


@dataclass(frozen=True, kw_only=True)
class CompareConfig(DistillConfig):
    """Everything that decides the outcome of a comparison."""

    seeds: int = option(3, "number of trainings of each student, with random seeds from --seed on", "What to train", ge=1)
    losses: str | None = option(
        None,
        "losses to compare, separated by semicolons: none; kd; dist(weight=2) [that of --loss; of a single student also none and kd]",
        "What to train",
    )

    def training(self, seed: int, loss: str | None = None) -> DistillConfig:
        """The configuration of the training with this seed, by another loss if one is given."""
        return self.distillation(seed=seed, **({"loss": loss} if loss is not None else {}))

    def check(self) -> None:
        super().check()
        self.refuse_sweep("compare")
        self.training(self.seed + self.seeds - 1).check()
