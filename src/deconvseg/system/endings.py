"""How a process ended, in words."""

import signal
import sys

_CAUSES = {
    "SIGKILL": "the system does so when memory runs out",
    "SIGABRT": "native code does so when memory runs out",
    "SIGBUS": "shared memory (/dev/shm) or the disk may be full",
}


def ending_signal(exit_code: int) -> str | None:
    """Return the name of the signal that ended a process: by -N, or by 128 + N where the process answered it."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    return signal.Signals(number).name if number in set(signal.Signals) else None


def lacked_memory(exit_code: int) -> bool:
    """Whether lack of memory explains how a process ended: the kernel kills, and a failed native allocation aborts."""
    return exit_code < 0 and ending_signal(exit_code) in ("SIGKILL", "SIGABRT")


def ended(exit_code: int, *, said: str = "", advice: str = "") -> str:
    """Say how a process ended, by its exit code (negative: a signal), what usually causes that, and what to do then.

    ``said`` is the last line that it printed; ``advice`` follows a cause. For example ``was ended by SIGKILL; the
    system does so when memory runs out: take fewer workers``.
    """
    if exit_code >= 0:
        return f"ended with exit code {exit_code}" + (f" ({said})" if said else "; what it printed says why")
    name = ending_signal(exit_code) or f"signal {-exit_code}"
    cause = f"; {_CAUSES[name]}{f': {advice}' if advice else ''}" if name in _CAUSES else ""
    return f"was ended by {name}{f' ({said})' if said else ''}{cause}"


def exit_on(number: int) -> None:
    """Let a signal end this process by `SystemExit`, which tidies up, with the exit code 128 + its number."""
    signal.signal(number, lambda received, frame: sys.exit(128 + received))
