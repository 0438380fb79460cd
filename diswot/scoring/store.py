"""Scores that are kept from one run to the next, in a file of SQLite that several processes may use at once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diswot import plugins
from diswot.architecture import Architecture
from diswot.data.sources import cache_dir
from diswot.devices import kind_of_device
from diswot.errors import first_line
from diswot.proxies import NetworkSummary, get_proxy
from diswot.proxies.base import part_name
from diswot.runs import versions
from diswot.scoring.context import ScoringContext

logger = logging.getLogger(__name__)
OFF = "DISWOT_CACHE"  # environment variable: `off` keeps and uses nothing
MOST_BYTES = 500_000_000
_WAIT = 30.0  # seconds for another process that writes
_TOGETHER = 64  # scores that are written at once
_DECIDE = ("proxies", "models", "losses", "schemes", "scoring", "data", "observe.py", "similarity.py", "devices.py")  # code behind a score
_TABLES = """
create table if not exists contexts (id integer primary key, digest blob unique not null, label text not null, used real not null);
create table if not exists scores (context integer not null, arch blob not null, score blob not null, primary key (context, arch))
    without rowid;
"""


@dataclass(frozen=True)
class Usage:
    """What a store holds.

    Attributes:
        path: of its file.
        bytes: its size; 0 where there is none.
        scores: the number of scores; each is of one proxy and architecture, for all seeds.
        settings: the number of settings (proxy, teacher, images, seeds, code, ...) that they were made in.
    """

    path: Path
    bytes: int
    scores: int
    settings: int


def store_path() -> Path:
    """The file: scores.sqlite in $DISWOT_HOME, else in ~/.cache/diswot."""
    return cache_dir() / "scores.sqlite"


class ScoreStore:
    """The scores of earlier runs. Whatever goes wrong with it is told once, and costs nothing but time.

    A score is known under everything that decides its bits: the code, torch and the kind of processor, the proxy and what else the same
    passes were asked for, images, labels and seeds, initialisation, what the teacher showed, and the architecture.

    Args:
        path: of the file; made where there is none.
        most_bytes: above which the settings that were used longest ago are dropped.
    """

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self.path, self._most_bytes = path, most_bytes
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[tuple[int, bytes, bytes]] = []
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
            self._connection.executescript(_TABLES)

    @classmethod
    def open(cls, wanted: bool) -> ScoreStore | None:
        """The user's own store; None where it is not wanted, by an option or by the environment."""
        return cls(store_path()) if wanted and os.environ.get(OFF) != "off" else None

    def settings(self, context: ScoringContext) -> dict[str, int]:
        """The number of the setting of each proxy of a context that runs networks; those that only count are not worth keeping."""
        found: dict[str, int] = {}
        with self._told():
            for name, digest in setting_digests(context).items():
                now = time.time()
                row = (digest, name, now, now)
                self._execute(
                    "insert into contexts (digest, label, used) values (?, ?, ?) on conflict (digest) do update set used = ?", row
                )
                found[name] = self._execute("select id from contexts where digest = ?", (digest,))[0][0]
            return found
        return {}

    def get(self, settings: Sequence[int], arch: Architecture) -> list[list[float]] | None:
        """The scores of an architecture in each of these settings, a number for each seed; None where one is missing."""
        with self._told():
            marks = ",".join("?" * len(settings))
            query = f"select context, score from scores where arch = ? and context in ({marks})"
            found = dict(self._execute(query, (_key(arch), *settings)))
            if all(setting in found for setting in settings):
                return [np.frombuffer(found[setting], np.float64).tolist() for setting in settings]
        return None

    def put(self, setting: int, arch: Architecture, scores: Sequence[float]) -> None:
        """Keep the scores (seeds,) of an architecture; they are written a few dozen at a time, and in the end."""
        self._waiting.append((setting, _key(arch), np.asarray(scores, np.float64).tobytes()))
        if len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        rows, self._waiting = self._waiting, []
        if self._connection is None or not rows:
            return
        with self._told():
            self._execute("begin immediate")
            self._connection.executemany("insert or replace into scores values (?, ?, ?)", rows)
            self._execute("commit")

    def close(self) -> None:
        """Write what waits, and make room."""
        self.flush()
        with self._told():
            self._make_room()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def usage(self) -> Usage:
        """Return what is in it."""
        counts = [0, 0]
        with self._told():
            counts = [self._execute(f"select count(*) from {table}")[0][0] for table in ("scores", "contexts")]
        return Usage(self.path, self.path.stat().st_size if self.path.exists() else 0, *counts)

    def _make_room(self) -> None:
        """Drop the settings that were used longest ago, until a fifth of the room is free."""
        if self._connection is None or self.path.stat().st_size <= self._most_bytes:
            return
        self._execute("begin immediate")
        counts = self._execute("select id, (select count(*) from scores where context = id) from contexts order by used")
        left = sum(count for _, count in counts)
        keep = int(left * 0.8 * self._most_bytes / self.path.stat().st_size)
        for setting, count in counts:
            if left <= keep:
                break
            self._execute("delete from scores where context = ?", (setting,))
            self._execute("delete from contexts where id = ?", (setting,))
            left -= count
        self._execute("commit")
        self._execute("vacuum")

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        if self._connection is None:
            raise sqlite3.ProgrammingError("it is closed")
        return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Inside, what goes wrong is logged once, and the store is then left alone."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if self._connection is not None or not isinstance(error, sqlite3.ProgrammingError):
                full = isinstance(error, OSError) or "disk" in str(error)
                remedy = (
                    "make room, or do without by --no-cache" if full else "`diswot cache --clear` begins it anew, --no-cache does without"
                )
                logger.warning("the store of scores %s cannot be used (%s): %s", self.path, first_line(error, 80), remedy)
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()


def store_usage() -> Usage:
    """Return what is in the user's store."""
    path = store_path()
    if not path.exists():
        return Usage(path, 0, 0, 0)
    store = ScoreStore(path)
    usage = store.usage()
    store.close()
    return usage


def clear_store() -> Usage:
    """Remove the user's store, and return what was in it."""
    usage = store_usage()
    for suffix in ("", "-journal"):
        usage.path.with_name(usage.path.name + suffix).unlink(missing_ok=True)
    return usage


def _key(arch: Architecture) -> bytes:
    return hashlib.blake2b(arch.key.encode(), digest_size=16).digest()


def setting_digests(context: ScoringContext) -> dict[str, bytes]:
    """Return for each proxy that runs networks the digest of everything but the architecture that decides its scores."""
    proxies = {name: get_proxy(name) for name in context.proxies}
    running = {name: proxy for name, proxy in proxies.items() if proxy.runs_network}
    kept = sorted(frozenset().union(*(proxy.needs for proxy in running.values())))  # by all proxies, of the passes that they share
    shared = hashlib.sha256()
    own = plugins.code_digests(*map(part_name, context.proxies), *context.own_spaces)
    for fact in (environment(context.device), own, context.init, context.spec, kept):
        shared.update(f"{fact}\n".encode())
    for batch in context.batches:
        shared.update(f"{batch.seed}\n".encode() + _bytes(batch.images) + _bytes(batch.target))
    of_teacher = shared.copy()
    for tensor in (tensor for teacher in context.teachers for tensor in _tensors(teacher)):
        of_teacher.update(f"{tuple(tensor.shape)}\n".encode() + _bytes(tensor))
    digests = {}
    for name, proxy in running.items():
        digest = (of_teacher if "teacher" in proxy.needs else shared).copy()
        digest.update(name.encode())
        digests[name] = digest.digest()[:16]
    return digests


def environment(device: str) -> str:
    """What else decides the bits of a score: versions, code, and the kind of processor that a device of this process has."""
    kind = kind_of_device(device)
    processor = torch.cuda.get_device_name(device) if kind == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"{versions()}; code {code_digest()}; {kind} {processor}"


@functools.cache
def code_digest() -> str:
    """Digest of the code that decides scores."""
    spaces = importlib.util.find_spec("search_spaces")
    folders = [Path(place) for place in (spaces.submodule_search_locations if spaces is not None else None) or ()]
    files = []
    for path in (*folders, *(Path(__file__).parents[1] / name for name in _DECIDE)):
        files += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _tensors(teacher: NetworkSummary) -> Iterator[torch.Tensor]:
    """What a teacher showed, from which all its summaries follow."""
    seen = teacher.observation
    yield from (seen.features, seen.pooled, seen.logits, seen.weight, teacher.target, *teacher.blocks)
    yield from (vars(teacher)[name] for name in ("jacobian_gram", "stem_grad_gram") if name in vars(teacher))


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
