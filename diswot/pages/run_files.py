"""The files of a run, as its page reads them, and the parts that every page has."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from diswot import runs
from diswot.errors import RunError
from diswot.report.html import Listing, Part, Section
from diswot.runs import RESULT, RunDir

_MOST_STUDENTS = 8  # that have charts of their own on a page


class RunFiles:
    """What lies in the folder of a run. Nothing is written, and no lock is taken: another process may be at work in it.

    Attributes:
        path: the folder.
        run: the same, for functions that read journals.
        kind: the verb that began it.
        config: its options.
        result: what it came to, as plain values; empty while it is under way.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.kind = path, runs.kind_of(path)
        self.run, self.config = RunDir.open(path, self.kind, lock=False)
        self.result: Mapping[str, Any] = runs.read_object(path / RESULT) if (path / RESULT).exists() else {}

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    @property
    def data_name(self) -> str:
        """The data as it was asked for; of a file or folder its name alone."""
        return Path(str(self.config["data"])).name

    def journal(self, name: str) -> list[dict[str, Any]]:
        """The records of a journal, without a last line that is being written; none where there is no such file."""
        return self.run.read(name)

    def made_with(self) -> Section:
        """The section that says how to repeat the run: the command, the options, versions and machine."""
        environment: dict[str, Any] = {}
        with contextlib.suppress(RunError):
            environment = runs.read_object(self.path / "env.json")
        command = environment.pop("command", None)
        parts = [Listing(shlex.join(["diswot", *map(str, command[1:])]), "The command")] if isinstance(command, list) else []
        parts.append(Listing(yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True), "config.yaml"))
        parts.append(Listing(json.dumps(environment, indent=2), "Versions and machine"))
        return Section("To repeat it", parts)


def sentence(text: str) -> str:
    """A remark of the command line as a sentence of a page.

    >>> sentence("the journal is kept"), sentence("see (below).")
    ('The journal is kept.', 'See (below).')
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def with_charts(students: Sequence[str]) -> tuple[Sequence[str], list[Part]]:
    """The first of the students, those that have charts of their own, and a sentence that names the others.

    >>> with_charts("abcdefghij")
    ('abcdefgh', ['Left out, for want of room: i, j.'])
    """
    others = students[_MOST_STUDENTS:]
    return students[:_MOST_STUDENTS], [f"Left out, for want of room: {', '.join(others)}."] if others else []
