"""`python -m diswot` is `diswot`; so that torchrun can start it."""

from diswot.cli import entry

if __name__ == "__main__":
    entry()
