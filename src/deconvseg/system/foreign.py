"""Errors of other people's code, and how they become one line of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from deconvseg.errors import DeconvsegError

# What running or tracing somebody else's code with an input that it may not be made for can raise.
FOREIGN_ERRORS = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(AssertionError, ArithmeticError, NameError, SyntaxError),
)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """Return the whole message of an error in one line, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Let every error of the block name what it was about, in one line: a :class:`DeconvsegError` stays as it is."""
    try:
        yield
    except DeconvsegError:
        raise
    except Exception as error:
        raise DeconvsegError(f"{what}: {type(error).__name__}: {first_line(error)}") from error
