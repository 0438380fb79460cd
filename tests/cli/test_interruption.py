"""Ctrl-C, a full disk, kill -9: what is said, and what is left."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from diswot import runs
from diswot.cli.interruption import IMPATIENT, StopSignals
from diswot.runs import RunDir
from tests.cli.samples import QUICK
from tests.processes import count_lines, wait_for_line, workers_of

LONG = ["search", "--proxy", "diswot", *QUICK, "--iterations", "5000", "--params", "0.3M", "--name", "long"]
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_a_search_which_says_how_to_go_on(
    diswot: Any, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes while the third line is written; even if the exception is lost on its way, no line follows."""
    append = RunDir.append

    def signalled(run: RunDir, name: str, *records: Any, **options: Any) -> None:
        if records[0]["index"] == 2:
            signal.raise_signal(number)
        append(run, name, *records, **options)

    handlers = [signal.getsignal(one) for one in SIGNALS]
    monkeypatch.setattr(RunDir, "append", signalled)
    with pytest.raises(SystemExit) as ended:
        diswot(*LONG)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; go on with: diswot search --resume runs/long"
    assert count_lines(tmp_path / "runs" / "long" / "trials.jsonl") == 2
    assert not runs.interrupted.is_set() and [signal.getsignal(one) for one in SIGNALS] == handlers
    monkeypatch.undo()


def test_a_command_without_a_folder_is_stopped_without_a_word_on_resuming(
    diswot: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diswot.scoring.recipe.prepare_scoring", stop)
    with pytest.raises(SystemExit) as ended:
        diswot("score", "resnet8")
    assert ended.value.code == 130 and capsys.readouterr().err == "stopped\n"


def test_a_second_signal_does_not_disturb_what_is_being_put_away(
    diswot: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C twice within a tenth of a second used to interrupt the shutdown of the workers, and the process waited for them forever."""
    closed = []
    close, append = RunDir.close, RunDir.append

    def closing(run: RunDir) -> None:
        if not closed:  # it is closed by all who hold it
            signal.raise_signal(signal.SIGINT)
        close(run)
        closed.append(run)

    def signalled(run: RunDir, name: str, *records: Any, **options: Any) -> None:
        append(run, name, *records, **options)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunDir, "append", signalled)
    monkeypatch.setattr(RunDir, "close", closing)
    with pytest.raises(SystemExit) as ended:
        diswot(*LONG)
    assert ended.value.code == 130 and closed
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; go on with: diswot search --resume runs/long"


@pytest.mark.parametrize(("gap", "ends"), [(0.05, False), (IMPATIENT + 0.1, True)])
def test_a_later_signal_ends_the_process_at_once(
    gap: float, ends: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now, codes = [100.0], list[int]()
    monkeypatch.setattr("os._exit", codes.append)
    signals = StopSignals(clock=lambda: now[0])
    signals.last_words = "stopped; how to go on"
    with signals.handling():
        with pytest.raises(KeyboardInterrupt):
            signals.receive(signal.SIGTERM)
        now[0] += gap
        signals.receive(signal.SIGINT)
    assert codes == ([143] if ends else [])
    assert capfd.readouterr().err == ("stopped; how to go on\n" if ends else "")


def test_what_cannot_be_put_away_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr("diswot.cli.interruption.GRACE", 0.01)
    monkeypatch.setattr("os._exit", lambda code: ended.set())
    signals = StopSignals()
    with signals.handling():
        with pytest.raises(KeyboardInterrupt):
            signals.receive(signal.SIGINT)
        assert ended.wait(60)


@pytest.mark.slow
def test_an_interrupted_process_says_how_to_go_on(spawn: Any, tmp_path: Path) -> None:
    number = signal.SIGINT
    process = spawn(*LONG, "--workers", "2")
    wait_for_line(process, tmp_path / "runs" / "long" / "trials.jsonl")
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == "stopped; go on with: diswot search --resume runs/long"
    assert "Traceback" not in err


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(spawn: Any, tmp_path: Path) -> None:
    process = spawn(*LONG, "--workers", "2", "--quiet")
    wait_for_line(process, tmp_path / "runs" / "long" / "trials.jsonl")
    if not (workers := workers_of(process.pid)):
        process.kill()
        process.communicate()
        pytest.skip("this system does not list child processes")
    assert len(workers) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 600
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
