"""A teacher of other classes than the data's: which of its classes each of the data's stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from diswot.errors import TeacherError, brief_repr, suggest
from diswot.files import read_text

_FORMAT = "classes: {name in the data: name or number of the teacher's class, or a list of them}"
_IMAGENET = 1000
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class ClassMap:
    """A mapping from the data's classes to a teacher's.

    Attributes:
        source: the file it was read from, for messages.
        classes: by the data's name, the teacher's classes that it stands for: names, or numbers from 0.
        teacher_classes: the teacher's names in the order of its logits, their number, or None, where its weights say.
    """

    source: str
    classes: Mapping[str, Sequence[str | int]]
    teacher_classes: Sequence[str] | int | None = None

    def for_teacher(self, known: Sequence[str] | int | None) -> ClassMap:
        """The mapping with the teacher's classes filled in by what its weights say of them, where the file does not.

        Raises:
            TeacherError: neither says them.
        """
        if self.teacher_classes is None and known is None:
            raise TeacherError(f"{self.source}: how many classes the teacher knows is needed: teacher_classes: 1000, or their names")
        return self if self.teacher_classes is not None else replace(self, teacher_classes=known)

    @property
    def count(self) -> int:
        """The number of the teacher's classes, once they are known."""
        return self.teacher_classes if isinstance(self.teacher_classes, int) else len(self.teacher_classes or ())

    def groups(self, class_names: Sequence[str]) -> list[list[int]]:
        """The teacher's classes, by number, that each of the data's stands for.

        Raises:
            TeacherError: a class of the data is not in the mapping, one of the mapping is not in the data, or the teacher lacks one.

        >>> ClassMap("map.yaml", {"cat": [0, "tiger"], "dog": ["hound"]}, ["tabby", "hound", "tiger"]).groups(["dog", "cat"])
        [[1], [0, 2]]
        """
        if absent := [name for name in class_names if name not in self.classes]:
            raise TeacherError(f"{self.source}: {len(absent)} of the data's classes are not in it, such as {absent[0]!r}: map each")
        if unknown := [name for name in self.classes if name not in class_names]:
            raise TeacherError(f"{self.source}: the data has no class {unknown[0]!r}: {suggest(unknown[0], list(class_names))}")
        numbers = self._numbers()
        groups = [[self._number(member, numbers) for member in self.classes[name]] for name in class_names]
        twice = [number for number, times in Counter(number for group in groups for number in group).items() if times > 1]
        if twice:
            raise TeacherError(f"{self.source}: class {twice[0]} of the teacher is named twice: it can stand for one class only")
        return groups

    def _numbers(self) -> dict[str, int]:
        """The teacher's classes by name; ImageNet's also by WordNet's number, and by each of their synonyms that is theirs alone."""
        if not isinstance(self.teacher_classes, int):
            return {name: number for number, name in enumerate(self.teacher_classes or ())}
        return _imagenet_numbers() if self.count == _IMAGENET else {}

    def _number(self, member: str | int, numbers: Mapping[str, int]) -> int:
        if isinstance(member, str):
            if member not in numbers:
                remedy = suggest(member, list(numbers)) if numbers else "write its number, or list teacher_classes"
                raise TeacherError(f"{self.source}: the teacher has no class {brief_repr(member)}: {remedy}")
            return numbers[member]
        if not 0 <= member < self.count:
            raise TeacherError(f"{self.source}: the teacher has no class {member}: it knows 0 to {self.count - 1}")
        return member


def _imagenet_numbers() -> dict[str, int]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    synonyms = [info.index_to_description(number).split(", ") for number in range(_IMAGENET)]
    owners = Counter(name for names in synonyms for name in set(names))
    numbers = {name: number for number, names in enumerate(synonyms) for name in names if owners[name] == 1}
    return numbers | {info.index_to_label_name(number): number for number in range(_IMAGENET)}


def read_class_map(path: str | Path) -> ClassMap:
    """Read a mapping from a YAML file: `classes`, and, where the teacher's weights do not say them, `teacher_classes`.

    Raises:
        TeacherError: it is missing, or no such mapping.
    """
    try:
        document = yaml.safe_load(read_text(path, _MOST_BYTES))
    except (OSError, yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise TeacherError(f"--teacher-classes {path}: no readable YAML file of {_FORMAT}") from None
    if not isinstance(document, dict) or set(document) - {"classes", "teacher_classes"} or not isinstance(document.get("classes"), dict):
        raise TeacherError(f"{path}: {_FORMAT}, and teacher_classes, are what it may hold")
    classes = {_checked_name(path, name): _members(path, name, value) for name, value in document["classes"].items()}
    return ClassMap(str(path), classes, _teacher_classes(path, document.get("teacher_classes")))


def _checked_name(path: str | Path, name: Any) -> str:
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise TeacherError(f"{path}: {brief_repr(name)} is no name of a class: put it in quotes")
    return str(name)


def _members(path: str | Path, name: Any, value: Any) -> list[str | int]:
    members = value if isinstance(value, list) else [value]
    if not members or any(isinstance(member, bool) or not isinstance(member, str | int) for member in members):
        raise TeacherError(f"{path}: {brief_repr(name)}: a name or a number of the teacher's class, or a list of them, is needed")
    return members


def _teacher_classes(path: str | Path, value: Any) -> Sequence[str] | int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000):
        return value
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return value
    raise TeacherError(f"{path}: teacher_classes: the names of the teacher's classes in order, or their number")


class ClassGroups(nn.Module):
    """From logits (B, N) to those of groups of classes (B, len(groups)): a group's share of the softmax is that of its classes together.

    Args:
        groups: numbers of classes.

    >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
    >>> ClassGroups([[0, 1], [2]])(logits).softmax(1), logits.softmax(1)
    (tensor([[0.3348, 0.6652]]), tensor([[0.0900, 0.2447, 0.6652]]))
    """

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.groups = [list(group) for group in groups]

    def forward(self, logits: Tensor) -> Tensor:
        return torch.stack([logits[:, group].logsumexp(1) for group in self.groups], dim=1)


def with_classes(model: nn.Module, groups: Sequence[Sequence[int]]) -> nn.Module:
    """A network whose logits are those of groups of its classes.

    One with timm's protocol stays what it is but for its classifier: of one class for each group it is a linear layer still, so that every
    loss can be computed; of more, losses that read its weight cannot. Any other network shows logits alone.

    Args:
        model: from images to logits (B, N); it may be changed.
        groups: numbers of classes.
    """
    get_classifier = getattr(model, "get_classifier", None)
    classifier = get_classifier() if get_classifier is not None else None
    name = next((name for name, module in model.named_modules() if module is classifier), None)
    if not isinstance(classifier, nn.Linear) or name is None:
        return nn.Sequential(model, ClassGroups(groups))
    model.set_submodule(name, _grouped(classifier, groups))
    return model


def _grouped(classifier: nn.Linear, groups: Sequence[Sequence[int]]) -> nn.Module:
    if any(len(group) > 1 for group in groups):
        return nn.Sequential(classifier, ClassGroups(groups))
    chosen = torch.tensor([group[0] for group in groups])
    picked = nn.Linear(classifier.in_features, len(chosen), bias=classifier.bias is not None)
    with torch.no_grad():
        picked.weight.copy_(classifier.weight[chosen])
        if classifier.bias is not None:
            picked.bias.copy_(classifier.bias[chosen])
    return picked
