"""How much memory a process may still take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def free_memory() -> int:
    """Return the bytes of memory that are free, within the limits of this process's control groups."""
    import psutil

    return min([int(psutil.virtual_memory().available), *control_group_room()])


def control_group_room(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """Give the bytes that are left in every control group (Linux, version 1 or 2) around this process that has a limit.

    What the kernel holds of files there does not count: it gives that up where memory is wanted.
    """
    if not membership.is_file():
        return
    for line in membership.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", ("active_file", "inactive_file"))
        elif "memory" in controllers.split(","):
            base = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))
        else:
            continue
        group = base / path.lstrip("/")
        # Inside a container the path may be that of the machine outside, which is not to be seen: the root is its own.
        for folder in dict.fromkeys([group, *group.parents, base]):
            if folder.is_relative_to(base) and (folder / names[0]).is_file():
                limit = (folder / names[0]).read_text(encoding="utf-8").strip()
                if limit != "max":
                    used = int((folder / names[1]).read_text(encoding="utf-8"))
                    yield max(0, int(limit) - used + _held_of_files(folder / "memory.stat", names[2]))


def _held_of_files(statistics: Path, names: tuple[str, str]) -> int:
    if not statistics.is_file():
        return 0
    rows = (line.split() for line in statistics.read_text(encoding="utf-8").splitlines())
    return sum(int(value) for name, value in rows if name in names)
