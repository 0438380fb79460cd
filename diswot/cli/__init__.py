"""The command line. torch is imported inside the verbs, so that help answers at once."""

from __future__ import annotations

import sys
import warnings

from diswot.cli.interruption import own_signals
from diswot.processes import end_process


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; every mistake of the user's is one line on stderr and code 2."""
    from diswot.cli.app import run

    return run(arguments)


def entry() -> None:
    """The console script."""
    signals = own_signals()  # before anything else is imported, which Ctrl-C may interrupt too
    if not sys.warnoptions:  # of libraries on their own insides, and of images and arrays that are odd; ours are logged
        warnings.simplefilter("ignore")
    try:
        code = main()
    except KeyboardInterrupt:
        code = signals.exit_code
    finally:
        if signals.number is not None:
            signals.say_last_words()
            signals.ignore()
    try:
        end_process(code if signals.number is None else signals.exit_code)
    except KeyboardInterrupt:  # while it waits for a thread
        signals.end_at_once()


__all__ = ["entry", "main"]
