"""The command line. torch is imported inside the verbs, so that help answers at once."""

from diswot.cli.app import entry, main

__all__ = ["entry", "main"]
