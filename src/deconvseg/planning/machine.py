"""What the machine at hand can do."""

import ctypes
import platform
from pathlib import Path

from deconvseg.data.free_memory import free_memory
from deconvseg.errors import InputError

# Parameters of glibc's mallopt, from its malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# How PyTorch's allocators and oneDNN say in a plain RuntimeError that memory was refused.
_OUT_OF_MEMORY = ("ried to allocate", "could not create a primitive", "could not create a memory", "bad_alloc")
# What a process takes varies by some percent from run to run; the rest of the machine needs some too.
_PLANNED_SHARE = 0.9


def choose_device(name: str = "auto") -> str:
    """Return ``cpu``, ``cuda`` (or ``cuda:N``) or ``mps``; ``auto`` takes CUDA where it is, and the CPU elsewhere."""
    import torch

    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.append("mps")
    if torch.cuda.is_available():
        available.append("cuda")
    if name == "auto":
        return available[-1] if available[-1] == "cuda" else "cpu"
    kind, _, index = name.partition(":")
    if kind not in available or (
        index and not (kind == "cuda" and index.isdigit() and int(index) < torch.cuda.device_count())
    ):
        raise InputError(f"--device {name}: not available here; choose one of auto, {', '.join(available)}")
    return name


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors give back, instead of returning it to the system (glibc only).

    A training step on a CPU frees and takes the same gigabytes again and again; without this a large part of its time
    goes into page faults. The process keeps its peak of memory until it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def available_memory(device: str = "cpu") -> int:
    """Return the bytes that a process on this device may still take: free memory, within its control groups' limits."""
    if device == "cpu":
        return free_memory()
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    free = free_memory()
    if device == "mps":
        return min(free, int(torch.mps.recommended_max_memory()))
    return free


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: CUDA's own kind, Python's, or those of other allocators of PyTorch."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def plannable_memory(device: str = "cpu") -> int:
    """Return the bytes that a plan may count on: 90 % of what is available."""
    return int(_PLANNED_SHARE * available_memory(device))


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had at one time."""
    import psutil

    status = Path("/proc/self/status")
    if status.is_file():
        rows = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
        return int(rows["VmHWM"].split()[0]) * 1024
    if platform.system() == "Windows":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # macOS counts in bytes; what counts in kilobytes (Linux) was answered above.
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
