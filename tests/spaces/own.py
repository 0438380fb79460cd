"""A search space of a user's own: a module that the tests write where they need one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

CODE = '''
import os

from diswot import Architecture, SearchSpace
from diswot.errors import ArchitectureError
from diswot.models.resnet import CifarResNet

class Own(SearchSpace):
    """Four networks; it has no `count`, so that its networks are traced."""

    def arch(self, width): return Architecture(self.name, width)
    def size(self): return 4
    def enumerate(self): return map(self.arch, (8, 16, 24, 32))
    def sample(self, rng): return self.arch(int(rng.choice([8, 16, 24, 32])))
    def mutate(self, arch, rng): return list(self.neighbours(arch))[int(rng.integers(3))]
    def neighbours(self, arch): return (a for a in self.enumerate() if a != arch)
    def check(self, arch):
        if type(arch.choices) is not int or arch.choices not in (8, 16, 24, 32): raise ArchitectureError("own: 8, 16, 24 or 32")
    def extremes(self): return self.arch(8), self.arch(32)
    def build(self, arch, num_classes, in_chans=3): return CifarResNet([1, 1], (8, 8, arch.choices), num_classes, in_chans)

class Logged(Own):
    """Writes down what it builds, and on which device, in whatever process."""

    def build(self, arch, num_classes, in_chans=3):
        model = super().build(arch, num_classes, in_chans)
        with open(os.environ["BUILDS"], "a") as log:
            log.write(f"{next(model.parameters()).device.type} {arch.choices}\\n")
        return model

own = Own()
'''


def write_own_space(folder: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the module, for this process and for those that it starts; each test gives it a name of its own. `BUILDS` is the log."""
    path = folder / f"{module}.py"
    path.write_text(CODE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("BUILDS", str(folder / "builds.log"))
    return path


def builds(folder: Path) -> dict[str, Counter[int]]:
    """How often `Logged` has built each width: on the `meta` device, which has no memory, and on the `cpu`."""
    found: dict[str, Counter[int]] = {"meta": Counter(), "cpu": Counter()}
    for line in (folder / "builds.log").read_text().splitlines():
        device, width = line.split()
        found[device][int(width)] += 1
    return found
