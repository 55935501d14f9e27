"""What the machine at hand can do."""

import ctypes
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from deconvseg.errors import InputError

# Parameters of glibc's mallopt, from its malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


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


def measure_step(name: str, config: Mapping[str, Any], patch: Sequence[int], batch: int, device: str) -> float | None:
    """Return the seconds of one training step (forward, backward) of a network; None where memory does not suffice."""
    import torch

    from deconvseg.models import create_model

    with torch.random.fork_rng(devices=[]):
        network = create_model(name, **config).to(device)
        image = torch.rand(batch, config["in_channels"], *patch).to(device)
    seconds = float("inf")
    try:
        for _ in range(3):
            start = time.perf_counter()
            network(image).square().mean().backward()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            elif device == "mps":
                torch.mps.synchronize()
            seconds = min(seconds, time.perf_counter() - start)
    except torch.OutOfMemoryError:
        return None
    return seconds
