"""Errors of third-party code, converted to one-line errors of this package."""

from collections.abc import Iterator
from contextlib import contextmanager

from deconvseg.errors import DeconvsegError

# Exceptions that third-party code may raise when it is run or traced with an unsuitable input.
FOREIGN_ERRORS = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(AssertionError, ArithmeticError, NameError, SyntaxError),
)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """Return an error's whole message as one line, or the name of its class if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Convert every error of the block to a one-line :class:`DeconvsegError` that begins with ``what``."""
    try:
        yield
    except DeconvsegError:
        raise
    except Exception as error:
        raise DeconvsegError(f"{what}: {type(error).__name__}: {first_line(error)}") from error
