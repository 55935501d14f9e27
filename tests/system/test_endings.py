"""How a process ended, in words."""

import signal
import subprocess
import sys

import pytest

from deconvseg.system import ended, ending_signal, lacked_memory

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_the_signal_that_ended_a_process_is_named(name: str) -> None:
    code = subprocess.run(
        [sys.executable, "-c", f"import os; os.kill(os.getpid(), {signal.Signals[name]:d})"]
    ).returncode
    assert ending_signal(code) == name
    assert ended(code).startswith(f"was ended by {name}")
    assert lacked_memory(code) == (name == "SIGKILL")


@posix
def test_a_process_that_answered_a_signal_ended_by_it() -> None:
    assert [ending_signal(128 + number) for number in (signal.SIGINT, signal.SIGTERM)] == ["SIGINT", "SIGTERM"]
    assert [ending_signal(code) for code in (0, 1, 2, 128, 255)] == [None] * 5
    assert not lacked_memory(128 + signal.SIGKILL)


@posix
def test_a_known_cause_comes_with_the_advice() -> None:
    assert ended(-signal.SIGKILL, advice="take less") == (
        "was ended by SIGKILL; the system sends it when memory runs out: take less"
    )
    assert ended(-signal.SIGSEGV, said="Segmentation fault", advice="take less") == (
        "was ended by SIGSEGV (Segmentation fault)"
    )


def test_an_exit_code_refers_to_what_was_printed() -> None:
    assert ended(3) == "ended with exit code 3; see its output for the reason"
    assert ended(3, said="ValueError: x", advice="take less") == "ended with exit code 3 (ValueError: x)"
