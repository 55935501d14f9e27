"""Memory of this process and machine: available, total and peak bytes, and out-of-memory errors."""

import ctypes
import platform
from collections.abc import Iterator
from pathlib import Path

# Parameters of glibc's mallopt, from its malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# Fragments of the RuntimeErrors with which PyTorch's allocators and oneDNN report failed allocations.
_OUT_OF_MEMORY = ("ried to allocate", "could not create a primitive", "could not create a memory", "bad_alloc")
# A process's use of memory varies by some percent between runs, and other processes need memory too.
_PLANNED_SHARE = 0.9


def available_memory(device: str = "cpu") -> int:
    """Return the bytes that this process may still allocate on a device, within the limits of its control groups."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free = min([int(psutil.virtual_memory().available), *control_group_room()])
    if device == "mps":
        import torch

        return min(free, int(torch.mps.recommended_max_memory()))
    return free


def total_memory() -> int:
    """Return the bytes of the machine's memory."""
    import psutil

    return int(psutil.virtual_memory().total)


def plannable_memory(device: str = "cpu") -> int:
    """Return the bytes that a plan may use: 90 % of the available memory."""
    return int(_PLANNED_SHARE * available_memory(device))


def control_group_room(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """Yield the bytes left in every limited control group (Linux, version 1 or 2) that contains this process.

    The kernel's page cache counts as free, because the kernel reclaims it when memory is needed.
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
        # A container may see the path of its group outside the container; its own group is the root then.
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


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        rows = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
        return int(rows["VmHWM"].split()[0]) * 1024
    if platform.system() == "Windows":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # macOS counts in bytes. Linux, which counts in kilobytes, is handled above.
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def keep_freed_memory() -> None:
    """Make the allocator keep freed memory instead of returning it to the system (glibc only).

    A training step on a CPU frees and allocates the same gigabytes again and again; without this, page faults take a
    large part of its time. The process keeps its peak memory until it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error reports a lack of memory: ``MemoryError``, PyTorch's ``OutOfMemoryError``, or a known text."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)
