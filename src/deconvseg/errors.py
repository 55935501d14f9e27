"""Exceptions of this package, and their exit codes on the command line."""

from collections.abc import Iterable
from difflib import get_close_matches

# The least similarity of a suggested name.
_ALIKE = 0.5


class DeconvsegError(Exception):
    """Base class of all errors: a one-line message with what was found, where, and what to do."""

    exit_code = 1


class InputError(DeconvsegError, ValueError):
    """Wrong usage or bad input: a file, a value or a shape that the caller can correct."""

    exit_code = 2


class UnknownLayoutError(InputError):
    """A folder is a dataset of no known layout: ``found`` says what it holds, ``arguments`` may open it."""

    def __init__(self, found: str, arguments: str) -> None:
        self.found, self.arguments = found, arguments
        super().__init__(f"{found}; try {arguments}")


class MissingPackageError(InputError):
    """The requested feature needs an optional package that is not installed."""


class InterruptionError(DeconvsegError):
    """The user interrupted the work; finished parts are kept."""

    exit_code = 130


def nearest_names(value: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names most similar to a value, the most similar first, ignoring case.

    Example:
        >>> from deconvseg.errors import nearest_names
        >>> nearest_names("DTC", ["dtc", "transposed"])
        ['dtc']

    """
    spelt: dict[str, str] = {}
    for name in known:
        spelt.setdefault(name.lower(), name)
    return [spelt[name] for name in get_close_matches(str(value).lower(), spelt, n=count, cutoff=_ALIKE)]


def suggest(value: str, known: Iterable[str]) -> str:
    """Return a question with the most similar names, such as ``"did you mean 'dtc'? "``; empty if none is similar.

    Example:
        >>> from deconvseg.errors import suggest
        >>> suggest("dct", ["dtc", "transposed"])
        "did you mean 'dtc'? "

    """
    nearest = nearest_names(value, known)
    return f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""


def check_choice(value: str, known: Iterable[str], what: str) -> None:
    """Raise :class:`InputError` for a value that is not in ``known``, with the nearest known names as suggestions.

    Example:
        >>> from deconvseg.errors import check_choice
        >>> check_choice("unt", ["nnunet", "unet"], "model")
        Traceback (most recent call last):
        deconvseg.errors.InputError: model 'unt' is unknown: did you mean 'unet' or 'nnunet'? choose from nnunet, unet

    """
    choices = list(known)
    if value not in choices:
        listed = ", ".join(choices) or "none"
        raise InputError(f"{what} {value!r} is unknown: {suggest(value, choices)}choose from {listed}")
