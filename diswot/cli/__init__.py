"""The command line. torch is imported inside the verbs, so that help answers at once."""

from diswot.cli.main import entry, main

__all__ = ["entry", "main"]
