"""Processors, devices and installed packages of this machine."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import cast

from deconvseg.errors import InputError

_VECTORS = (("avx512_bf16", "AVX512-BF16"), ("avx512f", "AVX-512"), ("avx2", "AVX2"))


def choose_device(name: str = "auto") -> str:
    """Return ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` selects CUDA if available, and the CPU otherwise."""
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
        raise InputError(f"`device={name!r}`: not available here; choose one of auto, {', '.join(available)}")
    return name


def why_no_bfloat16(device: str) -> str | None:
    """Return why a device has no fast bfloat16, in words for the middle of a sentence; None if it has.

    A CPU needs AVX512-BF16: on others bfloat16 is computed by way of float32.
    """
    import torch

    if device.startswith("cuda"):
        return None if torch.cuda.is_bf16_supported() else "this GPU has no bfloat16"
    if device != "cpu":
        return f"bfloat16 is not used on {device}"
    # ATEN_CPU_CAPABILITY can forbid instructions that the processor has.
    capability = torch.backends.cpu.get_cpu_capability()
    if not _has_avx512_bf16():
        return "this processor has no AVX512-BF16"
    return (
        None if capability.startswith("AVX512") else f"AVX512-BF16 is not used, because PyTorch is set to {capability}"
    )


def _has_avx512_bf16() -> bool:
    import torch

    if hasattr(torch.cpu, "get_capabilities"):  # not in older versions
        return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return any("avx512_bf16" in line for line in _processor_lines())


def usable_cores() -> int:
    """Return the number of processors that this process may use, by its CPU affinity where the system supports it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_cores(*, physical: bool = False) -> int | None:
    """Return the machine's number of logical processors, or of physical cores; None if the system reports none."""
    import psutil

    return cast("int | None", psutil.cpu_count(logical=not physical))


def processor_name() -> str:
    """Return the processor's name with its family, model and widest vectors, of /proc/cpuinfo where the system has it.

    The name alone does not tell generations apart on many virtual machines.

    Example:
        >>> processor_name()  # doctest: +SKIP
        'AMD EPYC (family 25, model 1, AVX2)'

    """
    facts: dict[str, str] = {}
    for line in _processor_lines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    vectors = next((title for flag, title in _VECTORS if flag in flags), None)
    known = [f"{word} {facts[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if facts.get(key)]
    known += [vectors] if vectors else []
    return f"{name} ({', '.join(known)})" if known else name


def _processor_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def package_version(name: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
