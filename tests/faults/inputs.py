"""Bad inputs of every kind, made by hypothesis, and the refusal that each must end with."""

from __future__ import annotations

import io
import json
import shlex
import string
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from diswot.cli.flags import _VERBS
from tests.faults.commands import run_command

_WORDS = ["", "nan", "inf", "-inf", "-1", "0", "1e999", "1e-999", "9" * 400, "0x10", "1_000", "1..2", "2..1", "1M..", "true", "None"]
_SIGNS = ["\0", "\x1b[31m", "\u202e", "é", "😀", "..", "/", "~", "-", "--", "'", '"', "\\", "%s", "{0}", "[]", "{}", "a:b", "!!timestamp x"]
ODD = st.sampled_from([*_WORDS, *_SIGNS, "x" * 300])
Case = tuple[Callable[[Path], None], list[str]]
"""What writes the files of an input into a folder, and the words of the command that is given it."""
TEXT = st.one_of(ODD, st.text(max_size=8), st.integers().map(str), st.floats().map(str))
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
NOT_THERE = {"search": [], "score": ["resnet8"], "study": ["none.csv"], "tabulate": [], "train": ["resnet8"], "distill": ["resnet8"]}
"""Words of each verb with which it is refused sooner or later, whatever else it is asked for: with `--data none.npz`."""


def _fields(verb: str) -> list[str]:
    from dataclasses import fields

    return [field.name for field in fields(_VERBS[verb]) if field.name not in ("data", "download", "data_dir")]


@st.composite
def command_lines(draw: Any) -> Case:
    """A verb with one to three options of odd values, as flags or as words."""
    verb = draw(st.sampled_from(sorted(NOT_THERE)))
    words: list[str] = []
    for name in draw(st.lists(st.sampled_from([*_fields(verb), "nonsense"]), min_size=1, max_size=3)):
        value = draw(TEXT).replace("\0", "")
        words += [f"{name}={value}"] if draw(st.booleans()) else [f"--{name.replace('_', '-')}", value]
    return lambda folder: None, [verb, *NOT_THERE[verb], *words, "--data", "none.npz", "--quiet"]


@st.composite
def yaml_files(draw: Any) -> Case:
    """A configuration of odd values, or a text that is none."""
    verb = draw(st.sampled_from(sorted(NOT_THERE)))
    document = draw(st.dictionaries(st.one_of(st.sampled_from(_fields(verb)), TEXT), PLAIN, min_size=1, max_size=3))
    text = draw(st.one_of(st.just(yaml.safe_dump(document, allow_unicode=True)), st.text(string.printable, max_size=40)))
    return _writes("c.yaml", text.encode(errors="replace")), [verb, *NOT_THERE[verb], "--config", "c.yaml", "--data", "none.npz", "--quiet"]


@st.composite
def arch_files(draw: Any) -> Case:
    """An arch.json with a field changed, left out or added, or cut short."""
    good: dict[str, Any] = {
        "format": 2,
        "space": "resnet_depth",
        "choices": {"depths": [1, 1, 1]},
        "provenance": {"data": {"num_classes": 4}},
    }
    field = draw(st.sampled_from([*good, "depths", "extra"]))
    value = draw(PLAIN)
    document = {**good, "choices": {"depths": value}} if field == "depths" else {**good, field: value}
    text = json.dumps(document)
    if draw(st.booleans()):
        text = text[: draw(st.integers(0, len(text)))]
    return _writes("a.json", text.encode(errors="replace")), ["score", "a.json", "--proxy", "params", "--data", "none.npz"]


@st.composite
def tables(draw: Any) -> Case:
    """A CSV of odd cells, names and lengths."""
    header = draw(st.lists(st.one_of(st.sampled_from(["arch", "toy_test_acc", "x_valid_acc", ""]), TEXT), min_size=1, max_size=4))
    rows = draw(st.lists(st.lists(st.one_of(st.sampled_from(["resnet8", "50", "-5", "1e300"]), TEXT), max_size=4), max_size=4))
    text = "\n".join(draw(st.sampled_from(",;\t")).join(row) for row in [header, *rows])
    return _writes("t.csv", text.encode(errors="replace")), ["study", "t.csv", "--space", "zoo", "--proxy", "params", "--quiet"]


@st.composite
def archives(draw: Any) -> Case:
    """An .npz whose arrays are odd in shape, type or header, or that is cut short."""
    content = io.BytesIO()
    kinds = st.sampled_from(["|u1", "<i8", "<f4", "|b1", "<U3", "<c8", "<M8[s]", "|V4"])
    shapes = st.lists(st.sampled_from([0, 1, 2, 6, 8, 2**31, 2**62]), max_size=5).map(tuple)
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in draw(st.sets(st.sampled_from(["x_train", "y_train", "x_test", "classes"]))):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": draw(kinds), "fortran_order": False, "shape": draw(shapes)})
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(draw(st.integers(0, 64))))
    data = content.getvalue()
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    return _writes("d.npz", data), ["score", "resnet8", "--proxy", "params", "--data", "d.npz"]


@st.composite
def image_lists(draw: Any) -> Case:
    """A list of paths and labels with odd lines."""
    lines = draw(st.lists(st.one_of(TEXT, st.tuples(TEXT, TEXT).map(" ".join)), min_size=1, max_size=4))
    return _writes("l.txt", "\n".join(lines).encode(errors="replace")), ["score", "resnet8", "--proxy", "params", "--data", "l.txt"]


def _writes(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


KINDS: dict[str, st.SearchStrategy[Case]] = {
    "command lines": command_lines(),
    "configurations": yaml_files(),
    "architectures": arch_files(),
    "tables": tables(),
    "archives": archives(),
    "image lists": image_lists(),
}


def fault_of(folder: Path, prepare: Callable[[Path], None], words: list[str]) -> str:
    """Run a command on an input, in the current folder; return what is wrong with how it ends, or ""."""
    prepare(folder)
    before = sorted(folder.iterdir())
    code, errors = run_command(words)
    said = f"$ diswot {shlex.join(words)}\n{errors[-400:]}"
    lines = [line for line in errors.splitlines() if line.startswith("diswot: ")]
    if code not in (0, 2):
        return f"exit code {code}: {said}"
    if code == 2 and (len(lines) != 1 or len(errors) > 2000 or (not errors.isprintable() and set(errors) & set("\x1b\x07\u202e"))):
        return f"no single line: {said}"
    if "Traceback" in errors:
        return f"a traceback: {said}"
    left = [path.name for path in sorted(folder.iterdir()) if path not in before and path.name != ".hypothesis"]  # which is not ours
    return f"left behind, {', '.join(left)}: {said}" if left else ""
