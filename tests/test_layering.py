"""Imports go one way: a module imports only from its own layer or from those before it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [
    {"errors", "registry"},
    {"architecture", "config", "progress"},
    {"space"},
    {"evolution"},
    {"options"},
    {"devices", "budget", "observe", "ranking", "similarity", "models", "runs"},
    {"data", "proxies", "losses", "teacher", "testing"},
    {"engine", "benchmarks", "training"},
    {"recipes"},
    {"report", "api"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    """What a file imports of diswot, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "diswot":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("diswot."):
            found.add(node.module.split(".")[1])
    return found


def test_imports_go_one_way() -> None:
    files = [p for p in (ROOT / "diswot").rglob("*.py") if p.name != "__init__.py" or p.parent.name != "diswot"]
    assert len(files) > 30
    for path in files:
        own = path.relative_to(ROOT / "diswot").parts[0].removesuffix(".py")
        for name in imports(path):
            type_checking_only = own == "report"
            assert LEVEL[name] <= LEVEL[own] or type_checking_only, f"{path}: {own} imports {name}, which stands above it"


def test_spaces_need_only_the_lower_layers() -> None:
    for path in (ROOT / "search_spaces").glob("*.py"):
        assert imports(path) <= {"architecture", "errors", "registry", "space", "models"}, path


def test_torch_stays_out_of_what_help_and_evolution_need() -> None:
    import subprocess
    import sys

    code = "import sys, diswot, diswot.cli, diswot.evolution, diswot.budget, diswot.runs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
