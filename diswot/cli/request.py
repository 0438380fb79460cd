"""The request that a user makes of a verb: words, flags and a configuration file, made into a session that is run to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from diswot.cli.interruption import stop_signals
from diswot.config import resolve
from diswot.config.fields import flag_of
from diswot.errors import ConfigError, RunError, brief_repr
from diswot.files import is_there
from diswot.processes import is_main_process
from diswot.progress.terminal import progress_shown

if TYPE_CHECKING:
    from diswot.execution import Execution
    from diswot.progress import Reporter
    from diswot.sessions import Plan


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a session.

    Attributes:
        result: what the verb's function returns.
        folder: the run's folder, or None.
        is_main: whether this process is the one that prints.
    """

    result: Any
    folder: Path | None
    is_main: bool


def _is_option(word: str) -> bool:
    """Whether a word is `key=value`, and no network with options.

    >>> _is_option("epochs=2"), _is_option("vit_tiny_patch16_224(img_size=32)")
    (True, False)
    """
    key, equals, _ = word.partition("=")
    return bool(equals) and "(" not in key


class Request:
    """A verb with its words and flags.

    Args:
        verb: its name.
        config: its configuration.
        words: the arguments: what the verb is about, and `key=value` words, which are told apart by the `=`.
        flags: all flags by name.
        needed: the error of a new run without anything to be about; None where nothing is needed.
    """

    def __init__(self, verb: str, config: type, words: tuple[str, ...], flags: dict[str, Any], needed: str | None = None) -> None:
        self.verb, self.config_type, self.flags = verb, config, flags
        self.subjects = [word for word in words if not _is_option(word) or is_there(word)]
        self.words = [word for word in words if word not in self.subjects]
        names = [field.name for field in dataclasses.fields(config)]
        self.options = {name: flags[name] for name in names}
        self.resumes: str | None = flags.get("resume")
        if self.resumes is not None:
            self._refuse_changes()
        elif flags.get("allow"):
            raise ConfigError("--allow is of a run that is resumed: add --resume, or leave it out")
        elif needed is not None and not self.subjects:
            raise ConfigError(needed)
        if (name := flags.get("name")) is not None and (Path(name).name != name or name == ".."):
            raise ConfigError(f"--name {brief_repr(name)}: a name without a path is needed; --runs says in which folder it stands")

    def _refuse_changes(self) -> None:
        apart = {"name": self.flags.get("name"), "from": self.flags.get("from"), "config": self.flags.get("config_file")}
        named = {**self.options, **apart}
        given = [flag_of(name) for name, value in named.items() if value is not None]
        if given := [*given, *self.subjects, *self.words]:
            raise RunError(f"--resume goes on with the run's own options; leave {', '.join(given)} out, or start a new run")

    def config(self) -> Any:
        """The configuration that was asked for."""
        return resolve(self.config_type, self.flags["config_file"], self.words, self.options)

    def refuse_subjects(self, most: int = 0) -> None:
        """Refuse more words without `=` than the verb is about."""
        if len(self.subjects) > most:
            raise ConfigError(f"{brief_repr(self.subjects[most])} is not key=value")

    def carry_out(self, make_plan: Callable[[], Plan], name_parts: Callable[[], list[str | None]], keep: bool = True) -> Outcome:
        """Run a new session, or one that is resumed, to its end.

        Args:
            make_plan: makes the plan of a new session.
            name_parts: what the folder of a new session is named after, where it has no `--name`.
            keep: whether a session without a name is kept in a folder.
        """
        flags = self.flags
        with progress_shown(flags.get("quiet", False), silent=not is_main_process()) as reporter:
            reporter.within("loading torch")
            from diswot.sessions import Session

            execution = self._execution(reporter)
            if self.resumes is not None:
                session = Session.resume(self.resumes, execution, self.verb, flags["allow"])
            else:
                plan, named = make_plan(), flags.get("name")
                folder = Path(flags["runs_folder"]) / (named or _run_name(*name_parts())) if named or keep else None
                session = Session.create(plan, folder, execution)
            with session, _resumable(session.folder, self.verb, reporter):
                return Outcome(session.run(), session.folder, session.is_main)

    def _execution(self, reporter: Reporter) -> Execution:
        from diswot.execution import Execution

        names = ("device", "workers", "executor", "patience", "cache", "tensorboard", "report")
        given = {name: self.flags[name] for name in names if self.flags.get(name) is not None}
        return Execution(reporter=reporter, **given)


def _run_name(*parts: str | None) -> str:
    """A name that is readable and new: what was asked for, and the time to the second."""
    plain = "-".join(part for part in parts if part)
    return re.sub(r"[^a-zA-Z0-9_.-]+", "_", plain)[:60] + time.strftime("-%Y%m%d-%H%M%S") + f"-{os.getpid()}"


@contextlib.contextmanager
def _resumable(folder: Path | None, verb: str, reporter: Reporter) -> Iterator[None]:
    """Inside, Ctrl-C, or being asked to end (SIGTERM, as schedulers do), says how to go on, and exits as interrupted programs do."""
    how = f"; go on with: diswot {verb} --resume {folder}" if folder is not None else ""
    with stop_signals() as signals:
        signals.last_words = f"stopped{how}"
        try:
            yield
        except KeyboardInterrupt:
            reporter.stop()  # how to go on is the last line
            click.echo(signals.last_words, err=True)
            signals.last_words = ""
            raise SystemExit(signals.exit_code) from None
