"""The command line: ``deconvseg``."""

from deconvseg.cli.app import main

__all__ = ["main"]
