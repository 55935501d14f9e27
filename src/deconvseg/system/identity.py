"""Identity of a process beyond its pid, because the system reuses pids."""

import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

_LONGEST_COMMAND = 120
# Start time of a process for which the system reports none.
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class ProcessIdentity:
    """A process: its machine, pid, start time and command, and the time of this record."""

    host: str
    pid: int
    started: str
    command: str
    time: str

    @classmethod
    def own(cls) -> "ProcessIdentity":
        """Return the identity of this process."""
        now = datetime.now(timezone.utc).astimezone()
        return cls(
            _host(), os.getpid(), _started(os.getpid()) or _UNKNOWN, _command(), now.isoformat(timespec="seconds")
        )

    @classmethod
    def from_json(cls, tree: Any) -> "ProcessIdentity":
        """Return the identity that :meth:`to_json` wrote; ``ValueError`` for anything else."""
        kinds = {"host": str, "pid": int, "started": str, "command": str, "time": str}
        if not isinstance(tree, dict) or any(not isinstance(tree.get(key), kind) for key, kind in kinds.items()):
            raise ValueError("not the record of a process")
        # No system has pids beyond this range, and psutil raises an error for them.
        if isinstance(tree["pid"], bool) or not 0 < tree["pid"] < 2**31:
            raise ValueError("not the pid of a process")
        return cls(**{key: tree[key] for key in kinds})

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @property
    def here(self) -> bool:
        """Whether the process belongs to this machine (or to this container)."""
        return self.host == _host()

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended; always False for processes of other machines."""
        if not self.here:
            return False
        started = _started(self.pid)
        return started is None or started not in (self.started, _UNKNOWN)

    def __str__(self) -> str:
        place = "" if self.here else f" on {_printable(self.host.partition(' ')[0])}"
        return f"process {self.pid}{place} ({_printable(self.command)}, since {_printable(self.time)})"


@cache
def _host() -> str:
    """Return the machine's name and, on Linux, its pid namespace, because containers have pids of their own."""
    try:
        return f"{platform.node()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _started(pid: int) -> str | None:
    """Return a process's start time, independent of changes of the clock; None if there is no such process."""
    try:
        # Fields after the name, which may contain spaces and brackets: the state is the first, the start time the 20th.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # A zombie has ended, but its parent has not read its exit code yet.
        return None if fields[0] in (b"Z", b"X") else f"{boot} {int(fields[19])}"
    except (OSError, IndexError, ValueError):
        return _started_elsewhere(pid)


def _started_elsewhere(pid: int) -> str | None:
    """Return the start time by psutil: on systems without /proc, or where it hides other users' processes."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return _UNKNOWN if psutil.pid_exists(pid) else None
    except psutil.AccessDenied:
        return _UNKNOWN


def _command() -> str:
    text = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return text if len(text) <= _LONGEST_COMMAND else text[: _LONGEST_COMMAND - 1] + "…"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)
