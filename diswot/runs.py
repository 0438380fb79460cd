"""A run's folder, which survives Ctrl-C, kill -9 and a full disk, and is resumed by reading it again."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from diswot.architecture import canonical_json
from diswot.errors import DiswotError, RunError, first_line
from diswot.files import read_text, require_regular

FORMAT = 2
RESULT = "result.json"  # what a run came to, written at its end
_MOST_TEXT = 64 << 20  # bytes of config.yaml and other files that are written once
interrupted = threading.Event()  # set on Ctrl-C: the exception itself may be lost in a callback of a library
_BEFORE_CONFIG = re.compile(r"lock|env\.json|arch(-\d+)?\.json|.*\.tmp")  # files that are there before config.yaml is
_WORTHLESS = ("config.yaml", "inputs.json")  # and these before anything was computed


def version() -> str:
    """The version of diswot."""
    return importlib.metadata.version("diswot")


@functools.cache
def versions() -> str:
    """The versions of all that decides how a network is built and trained."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("diswot", "torch", "timm"))


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, flushed to the disk, then renamed over it.

    Raises:
        OSError: it could not be written; `filename` is `path`, and not the temporary file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a folder that cannot be read, in which there is none then
            temporary.unlink(missing_ok=True)
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: the file is missing or holds none.
    """
    try:
        found = json.loads(read_text(path, _MOST_TEXT))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged or missing ({first_line(error, 80)}): restore it, or start a new run") from None
    if not isinstance(found, dict):
        raise RunError(f"{path}: damaged (no object in it): restore it, or start a new run")
    return found


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as a compressed .npz file, whole or not at all."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    write_atomic(path, out.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of an .npz file of a run; None where there is no such file, or none that can be read."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error):
        return None


def is_count(value: Any) -> bool:
    """Whether something read from a journal is a whole number from 0 on.

    >>> is_count(3), is_count(True), is_count(-1), is_count("3")
    (True, False, False, False)
    """
    return type(value) is int and 0 <= value < 1 << 63


def is_number(value: Any) -> bool:
    """Whether something read from a journal is a finite number.

    >>> is_number(0.5), is_number(float("nan")), is_number(10**400), is_number("0.5"), is_number(False)
    (True, False, False, False, False)
    """
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def finite(value: Any) -> Any:
    """Plain values with None for each number that JSON cannot hold.

    >>> finite({"low": float("nan"), "seeds": [0.5, float("inf")]})
    {'low': None, 'seeds': [0.5, None]}
    """
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_journal(path: Path) -> bytes:
    try:
        require_regular(path)
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}): restore it, or start a new run") from None


def back_up_file(path: Path) -> Path | None:
    """Move an existing file aside (arch.json becomes arch-1.json, or the first number that is free) and return where to, or None."""
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    os.replace(path, aside)
    return aside


def kind_of(path: Path) -> str:
    """The verb that began a run: search, study, ...

    Raises:
        RunError: there is no run in the folder, or one of another version.
    """
    return str(_read_document(path).get("kind"))


def _read_document(path: Path) -> dict[str, Any]:
    config_path = path / "config.yaml"
    try:
        document = yaml.safe_load(read_text(config_path, _MOST_TEXT))
    except FileNotFoundError:
        raise RunError(f"{path}: no run is there (it has no config.yaml)") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError, RecursionError) as error:
        raise RunError(f"{config_path}: cannot be read ({first_line(error)})") from None
    if isinstance(document, dict) and not all(isinstance(key, str) for key in document):
        raise RunError(f"{config_path}: cannot be read (a key is no text)")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise RunError(f"{path}: a run of format {found}, and this version resumes format {FORMAT}: use the version that began it")
    return document


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run, which decides its outcome.

    Raises:
        RunError: there is no run in the folder, or one of another version.
    """
    return {key: value for key, value in _read_document(path).items() if key not in ("format", "kind", "diswot")}


def is_in_use(path: Path) -> bool:
    """Whether another process is writing to a run."""
    if not (path / "lock").exists():
        return False
    lock = FileLock(path / "lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a folder that only can be read is nobody's to write to
        return False
    lock.release()
    return False


class RunDir:
    """The folder of a run: config.yaml and env.json, written once, and journals, of which every line is on the disk before the next is
    begun. One process at a time may write to it."""

    def __init__(self, path: Path, made: Sequence[Path] = ()) -> None:
        self.path, self._made = path, made  # `made`: the folders this run brought into being, the innermost first
        self._found: set[str] = set()  # names that were there before
        self._lock = FileLock(path / "lock", timeout=0, thread_local=False)

    @classmethod
    def create(
        cls,
        path: Path,
        kind: str,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        files: Mapping[str, str] | None = None,
        remedy: str = "choose another --runs",
    ) -> RunDir:
        """Create a new run. config.yaml is written last: where it is, the run is whole.

        Args:
            path: the folder.
            kind: the verb: search, study, ...
            config: what decides the outcome.
            environment: what made the run, from `environment`.
            files: texts to keep with the run, by name.
            remedy: what is said where nothing can be written.

        Raises:
            RunError: the folder exists or cannot be written.
        """
        run = cls(path, made=[path, *(parent for parent in path.parents if not parent.exists())])
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be made ({error.strerror}): {remedy}") from None
        run._refuse_if_begun()
        run._found = {p.name for p in path.iterdir()}
        run._take_lock()
        run._refuse_if_begun()  # another process may have begun and ended between the two
        document = {"format": FORMAT, "kind": kind, "diswot": version(), **config}
        try:
            for name, text in {"env.json": json.dumps(dict(environment), indent=2) + "\n", **(files or {})}.items():
                write_atomic(path / name, text)
            write_atomic(path / "config.yaml", yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        except BaseException as error:
            run._discard_if_empty()
            run.close()
            if isinstance(error, OSError):
                raise RunError(f"{path}: {error.strerror or first_line(error)}; nothing was begun: {remedy}") from None
            raise
        return run

    @classmethod
    def open_or_create(cls, path: Path, kind: str, config: Mapping[str, Any], environment: Mapping[str, Any], **more: Any) -> RunDir:
        """Open the run in a folder, or create one; `more` is for `create`."""
        if (path / "config.yaml").exists():
            return cls.open(path, kind)[0]
        return cls.create(path, kind, config, environment, **more)

    def _refuse_if_begun(self) -> None:
        """A folder that a crash left without a config.yaml holds nothing and is taken over; anything else is somebody's."""
        if not all(_BEFORE_CONFIG.fullmatch(p.name) for p in self.path.iterdir()):
            self.close()
            raise RunError(f"{self.path} exists: resume it with --resume {self.path}, or choose another --name")

    @classmethod
    def open(cls, path: Path, kind: str, lock: bool = True) -> tuple[RunDir, dict[str, Any]]:
        """Open an existing run.

        Args:
            lock: False for a process that only reads what another one writes.

        Returns:
            The run and its configuration.

        Raises:
            RunError: there is none, it is of another kind or version, or it is in use.
        """
        document = _read_document(path)
        if document.get("kind") != kind:
            raise RunError(f"{path}: a run of `diswot {document.get('kind')}`, not of `diswot {kind}`")
        if document.get("diswot") != version():
            raise RunError(
                f"{path}: begun by diswot {document.get('diswot')}, this is {version()}: install that version to resume, or start a new run"
            )
        run = cls(path)
        if lock:
            run._take_lock()
        return run, {k: v for k, v in document.items() if k not in ("format", "kind", "diswot")}

    def _take_lock(self) -> None:
        """Take the lock, which is held until the process ends, however it ends."""
        try:
            self._lock.acquire()
        except Timeout:
            raise RunError(f"{self.path} is being written by another process: wait for it, or stop it") from None
        except OSError as error:
            raise RunError(f"{self.path} cannot be written ({error.strerror}): copy it to a folder that can be") from None

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Take the folder of a new run away again where a mistake of the user's ends it before anything was computed."""
        if self._made and kind is not None and issubclass(kind, DiswotError):
            self._discard_if_empty()
        self.close()

    def _discard_if_empty(self) -> None:
        names = {p.name for p in self.path.iterdir()}
        if all(name in _WORTHLESS or _BEFORE_CONFIG.fullmatch(name) for name in names):
            for name in names - self._found:
                (self.path / name).unlink()
            with contextlib.suppress(OSError):  # another run may have begun beside it
                for folder in self._made:
                    folder.rmdir()

    def append(self, name: str, *records: Mapping[str, Any], sync: bool = True) -> None:
        """Add lines to the journal `name` and return once they are on the disk; after Ctrl-C nothing is added any more.

        Args:
            name: of the file.
            records: the lines.
            sync: False where `sync` is called later: what was added survives the end of this process, but not yet that of the machine.
        """
        if interrupted.is_set():
            raise KeyboardInterrupt
        line = "".join(canonical_json(dict(record)) + "\n" for record in records).encode()
        with open(self.path / name, "ab", buffering=0) as file:  # a buffer would be written once more on closing
            start = file.tell()
            try:
                while line:
                    line = line[file.write(line) or 0 :]
                if sync:
                    os.fsync(file.fileno())
            except OSError:  # a full disk: leave no half line behind
                with contextlib.suppress(OSError):
                    os.truncate(self.path / name, start)
                raise

    def sync(self, name: str) -> None:
        """Return once all that was added to a journal is on the disk."""
        if (path := self.path / name).exists():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())

    def read(self, name: str, repair: bool = False) -> list[dict[str, Any]]:
        """The records of a journal, without a last line that a crash cut short; with `repair` that line is cut off the file too."""
        path = self.path / name
        if not path.exists():
            return []
        whole, sound = _read_journal(path), 0
        records = []
        for number, line in enumerate(whole.splitlines(keepends=True), 1):
            try:
                record = json.loads(line, parse_constant=_refuse_constant)
                if not line.endswith(b"\n") or not isinstance(record, dict):
                    raise ValueError
            except (ValueError, RecursionError):
                if sound + len(line) == len(whole):
                    break
                raise RunError(f"{path}, line {number}: damaged, and not the last line: restore it, or start a new run") from None
            records.append(record)
            sound += len(line)
        if repair and sound < len(whole):
            os.truncate(path, sound)
        return records

    def write_result(self, summary: Mapping[str, Any]) -> None:
        """Write what the run came to, as plain values, into `RESULT`."""
        write_atomic(self.path / RESULT, json.dumps(dict(summary), indent=2) + "\n")

    def check_inputs(self, name: str, values: Mapping[str, Any]) -> None:
        """Write values down the first time; after that they must be the same, or the run would go on as another.

        Raises:
            RunError: one of them has changed.
        """
        path = self.path / name
        if not path.exists():
            write_atomic(path, json.dumps(dict(values), indent=2) + "\n")
            return
        kept = read_object(path)
        for key, value in values.items():
            if kept.get(key) != value:
                raise RunError(f"{self.path}: begun with other {key} ({kept.get(key)}, now {value}): bring them back, or start a new run")

    def truncate_journal(self, name: str, count: int) -> None:
        """Cut a journal down to its first `count` records."""
        path = self.path / name
        if path.exists():
            write_atomic(path, b"".join(_read_journal(path).splitlines(keepends=True)[:count]))


@contextlib.contextmanager
def disk_errors(path: Path, remedy: str = "") -> Iterator[None]:
    """Inside, a full or read-only disk is a `RunError` that says how to go on: by a resume, unless another remedy is given."""
    try:
        yield
    except OSError as error:
        remedy = remedy or f"what was done is kept, go on with --resume {path}"
        raise RunError(f"{error.filename or path}: {error.strerror or first_line(error)}; {remedy}") from None


def environment(device: str) -> dict[str, Any]:
    """Return the environment of a run: versions, machine, device. Without it a number cannot be traced back."""
    packages = ("torch", "timm", "numpy", "scipy")
    return {
        "diswot": version(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "processor": processor_name(),
        "device": device,
        "threads": os.environ.get("OMP_NUM_THREADS") or os.cpu_count(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def processor_name() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
