"""What can go wrong, and the exit code that the command line gives it."""

from collections.abc import Iterable
from difflib import get_close_matches


class DeconvsegError(Exception):
    """The work failed: one line that says what was found, where, and what to do next."""

    exit_code = 1


class InputError(DeconvsegError, ValueError):
    """Wrong usage or bad input: a file, a value or a shape that the caller can mend."""

    exit_code = 2


class MissingPackageError(InputError):
    """What was asked for needs an optional package that is not installed."""


class InterruptionError(DeconvsegError):
    """The user stopped the work; what was finished is kept."""

    exit_code = 130


def check_choice(value: str, known: Iterable[str], what: str) -> None:
    """Refuse a name that is not known, suggesting the nearest ones."""
    choices = list(known)
    if value in choices:
        return
    nearest = get_close_matches(str(value), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    raise InputError(f"{what} {value!r} is unknown: {hint}choose from {', '.join(choices) or 'none'}")
