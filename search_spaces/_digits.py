"""The common base of search spaces whose architectures are a few digits, one for each choice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from diswot.architecture import Architecture
from diswot.errors import ArchitectureError
from diswot.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np


class DigitSpace(SearchSpace):
    """A search space whose choices are the benchmark's own string of digits, such as `01210221`.

    Attributes:
        digits: what each digit may be, in order.
        num_digits: length of the string.
    """

    digits: str
    num_digits: int

    def size(self) -> int:
        return len(self.digits) ** self.num_digits

    def enumerate(self) -> Iterator[Architecture]:
        """Return all architectures in the order of their numbers."""
        return (Architecture(self.name, "".join(word)) for word in itertools.product(self.digits, repeat=self.num_digits))

    def sample(self, rng: np.random.Generator) -> Architecture:
        picks = rng.integers(len(self.digits), size=self.num_digits)
        return Architecture(self.name, "".join(self.digits[pick] for pick in picks))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        near = list(self.neighbours(arch))
        return near[int(rng.integers(len(near)))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        text = arch.choices
        for index, digit in itertools.product(range(self.num_digits), self.digits):
            if digit != text[index]:
                yield Architecture(self.name, text[:index] + digit + text[index + 1 :])

    def check(self, arch: Architecture) -> None:
        self.parse(arch.choices)

    def parse(self, choices: Any) -> tuple[int, ...]:
        """Return the digits as numbers.

        Raises:
            ArchitectureError: the choices are no such string.
        """
        if not (isinstance(choices, str) and len(choices) == self.num_digits and set(choices) <= set(self.digits)):
            first, last = self.digits[0], self.digits[-1]
            raise ArchitectureError(f"{self.name}: {choices!r:.80} is not {self.num_digits} digits from {first} to {last}")
        return tuple(map(int, choices))
