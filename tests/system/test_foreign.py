"""How errors of other libraries become one line."""

import pytest

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.system import first_line, naming, one_line


@pytest.mark.parametrize(
    ("error", "first", "whole"),
    [
        (ValueError("one\n  two\n"), "one", "one two"),
        (RuntimeError("\n\nCUDA error: no\ndevice"), "CUDA error: no", "CUDA error: no device"),
        (KeyError("name"), "'name'", "'name'"),
        (AssertionError(), "AssertionError", "AssertionError"),
    ],
)
def test_a_message_in_one_line(error: Exception, first: str, whole: str) -> None:
    assert first_line(error) == first
    assert one_line(error) == whole


def test_naming_tells_what_an_error_was_about_and_keeps_ours() -> None:
    with pytest.raises(DeconvsegError, match=r"^case a: ValueError: first$") as named, naming("case a"):
        raise ValueError("first\nsecond")
    assert isinstance(named.value.__cause__, ValueError)
    with pytest.raises(InputError, match="^kept$"), naming("case a"):
        raise InputError("kept")
