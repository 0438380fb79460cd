"""Imports go one way: a module or package of diswot imports only from floors below its own, wherever in a file the import stands."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import types
from pathlib import Path

import diswot

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "diswot"
FLOORS = [
    {"errors", "files"},
    {"plugins", "progress", "config"},
    {"registry", "architecture", "flops"},
    {"space", "statistics"},
    {"devices", "observe", "budget", "runs", "similarity", "processes"},
    {"executors"},
    {"execution", "report", "models", "schemes", "run_summaries"},
    {"data", "losses", "latency"},
    {"proxies"},
    {"benchmarks", "scoring", "training"},
    {"searching", "distillation", "consent"},
    {"studies", "tabulation", "finals", "inference", "describe", "model_card", "testing"},
    {"pages"},
    {"export", "sessions", "difference"},
    {"quantization"},
    {"api"},
    {"cli", "__init__"},  # `__init__` is what `import diswot` gives: the names of `api`, looked up when they are asked for
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
NEEDED_BY_SPACES = {"architecture", "errors", "registry", "space", "models"}


def imported(path: Path) -> set[str]:
    """The modules and packages of diswot that a file imports: at its top, in functions and under TYPE_CHECKING; `__init__` for a name of
    `import diswot` itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: write the whole name of the module"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in found]
    return {module_of(names[1] if len(names) > 1 else "__init__") for names in parts if names[0] == "diswot"}


def module_of(name: str) -> str:
    """The name itself where it is a module or package of diswot, else `__init__`, which it is a name in."""
    return name if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir() else "__init__"


def owner(path: Path) -> str:
    """The module or package that a file is, or is part of."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> set[str]:
    return {owner(path) for path in PACKAGE.rglob("*.py")}


def test_every_module_stands_on_one_floor_and_every_floor_exists() -> None:
    assert sorted(name for floor in FLOORS for name in floor) == sorted(modules())


def test_imports_lead_only_to_lower_floors() -> None:
    upward = [
        f"{path.relative_to(ROOT)}: {owner(path)} imports {name}, which does not stand below it"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in imported(path) - {owner(path)}
        if FLOOR[name] >= FLOOR[owner(path)]
    ]
    assert not upward, "\n".join(upward)


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text(
        "import numpy, diswot.runs\n"
        "from diswot import api, Architecture\n"
        "from diswotted import cli\n"
        "if TYPE_CHECKING:\n    from diswot.data.images import Dataset\n"
        "def late():\n    import diswot.export as export\n    from diswot.losses import base\n"
    )
    assert imported(tmp_path / "part.py") == {"runs", "api", "__init__", "data", "export", "losses"}


def test_spaces_need_only_the_lower_floors_and_are_found_by_name_alone() -> None:
    files = list((ROOT / "search_spaces").glob("*.py"))
    assert len(files) > 8
    for path in files:
        assert imported(path) <= NEEDED_BY_SPACES, path
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            assert not any(name.split(".")[0] in ("search_spaces", "tests") for name in names), path


def test_no_module_has_the_name_of_a_public_function() -> None:
    """Importing the module would put it in the function's place, or find the function where the module is meant."""
    assert not modules() & set(diswot.__all__)
    everything = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in PACKAGE.rglob("*.py"))
    assert len(everything) > 100
    for name in everything:
        importlib.import_module(name)
    packages = [name.rpartition(".") for name in everything[1:]]
    hidden = [name for package, _, name in packages if getattr(sys.modules[package], name) is not sys.modules[f"{package}.{name}"]]
    shown = [name for name in diswot.__all__ if isinstance(getattr(diswot, name), types.ModuleType)]
    assert hidden == [] and shown == []


def test_torch_stays_out_of_what_help_and_search_strategies_need() -> None:
    needed = "diswot, diswot.cli.app, diswot.searching.proposals, diswot.searching.strategies, diswot.budget, diswot.runs"
    code = f"import sys, {needed}; print('torch' in sys.modules, 'click' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "False True\n", found.stderr
