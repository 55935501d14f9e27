"""Exceptions of this package, and their exit codes on the command line."""

from collections.abc import Iterable
from difflib import get_close_matches


class DeconvsegError(Exception):
    """Base class of all errors: a one-line message with what was found, where, and what to do."""

    exit_code = 1


class InputError(DeconvsegError, ValueError):
    """Wrong usage or bad input: a file, a value or a shape that the caller can correct."""

    exit_code = 2


class MissingPackageError(InputError):
    """The requested feature needs an optional package that is not installed."""


class InterruptionError(DeconvsegError):
    """The user interrupted the work; finished parts are kept."""

    exit_code = 130


def check_choice(value: str, known: Iterable[str], what: str) -> None:
    """Raise :class:`InputError` for a value that is not in ``known``, with the nearest known names as suggestions."""
    choices = list(known)
    if value in choices:
        return
    nearest = get_close_matches(str(value), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    raise InputError(f"{what} {value!r} is unknown: {hint}choose from {', '.join(choices) or 'none'}")
