"""Exit codes of processes, described in words."""

import signal
import sys

_CAUSES = {
    "SIGKILL": "the system sends it when memory runs out",
    "SIGABRT": "native code raises it when memory runs out",
    "SIGBUS": "shared memory (/dev/shm) or the disk may be full",
}


def ending_signal(exit_code: int) -> str | None:
    """Return the name of the signal behind an exit code: -N, or 128 + N where the process handled the signal."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    return signal.Signals(number).name if number in set(signal.Signals) else None


def lacked_memory(exit_code: int) -> bool:
    """Whether lack of memory explains an exit code: the kernel sends SIGKILL, a failed native allocation SIGABRT."""
    return exit_code < 0 and ending_signal(exit_code) in ("SIGKILL", "SIGABRT")


def ended(exit_code: int, *, said: str = "", advice: str = "") -> str:
    """Describe how a process ended, from its exit code (negative: a signal), with the usual cause and the remedy.

    ``said`` is the last line that the process printed; ``advice`` follows a known cause. Example: ``was ended by
    SIGKILL; the system sends it when memory runs out: take fewer workers``.
    """
    if exit_code >= 0:
        return f"ended with exit code {exit_code}" + (f" ({said})" if said else "; see its output for the reason")
    name = ending_signal(exit_code) or f"signal {-exit_code}"
    cause = f"; {_CAUSES[name]}{f': {advice}' if advice else ''}" if name in _CAUSES else ""
    return f"was ended by {name}{f' ({said})' if said else ''}{cause}"


def exit_on(number: int) -> None:
    """Make a signal raise `SystemExit` with exit code 128 + its number, so that cleanup code runs."""
    signal.signal(number, lambda received, frame: sys.exit(128 + received))
