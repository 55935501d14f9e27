"""The compiled kernels: which library fits this processor, and why there is none."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["ABI_VERSION", "instruction_set", "library", "unavailable"]

# The same number as in abi.h.
ABI_VERSION = 5

_HERE = Path(__file__).resolve().parent
_BUILD = "python -m deconvseg.ops.native.build"


class _Loaded(NamedTuple):
    library: ctypes.CDLL | None
    instruction_set: str | None
    unavailable: str | None


def library() -> ctypes.CDLL | None:
    """Return the library of kernels that fits this processor, or None: then :func:`unavailable` says why.

    It follows PyTorch's choice, hence ``ATEN_CPU_CAPABILITY``. ``DECONVSEG_NATIVE_LIBRARY`` names a file to load
    instead, such as one built with a sanitizer.
    """
    return _loaded().library


def instruction_set() -> str | None:
    """Return ``"avx512"``, ``"avx2"`` or ``"neon"``, as the library was compiled, or None where there is none."""
    return _loaded().instruction_set


def unavailable() -> str | None:
    """Say in one line why there are no native kernels and what to do, or None where there are."""
    return _loaded().unavailable


@cache
def _loaded() -> _Loaded:
    named = os.environ.get("DECONVSEG_NATIVE_LIBRARY")
    return _load(Path(named)) if named else _find(_HERE, platform.machine(), torch.backends.cpu.get_cpu_capability())


def _find(folder: Path, machine: str, capability: str) -> _Loaded:
    """Load the best library in a folder for a machine with what PyTorch found its processor to be capable of."""
    # Not at the top, or ``python -m deconvseg.ops.native.build`` would find itself imported before it runs.
    from deconvseg.ops.native.build import INSTRUCTION_SETS, BuildError, find_compiler, library_path, machine_name

    sets = list(INSTRUCTION_SETS.get(machine_name(machine), ()))
    if not sets:
        return _missing(f"there are none for {machine}: PyTorch computes in their place")
    if machine_name(machine) == "x86_64":
        runs = {"AVX512": ["avx512", "avx2"], "AVX2": ["avx2"]}
        sets = runs.get(capability.partition("_")[0], [])
        if not sets:
            return _missing(f"they need AVX2, and PyTorch finds {capability} here: PyTorch computes in their place")
    paths = [library_path(folder, name, platform.system().lower()) for name in sets]
    for path in paths:
        if path.exists():
            return _load(path)
    try:
        find_compiler()
    except BuildError as error:
        return _missing(f"not built: {error}; then run {_BUILD}")
    return _missing(f"not built: run {_BUILD}")


def _load(path: Path) -> _Loaded:
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        return _missing(f"{path.name} cannot be loaded ({error}): run {_BUILD}")
    version = loaded.deconvseg_abi_version() if hasattr(loaded, "deconvseg_abi_version") else None
    if version != ABI_VERSION:
        return _missing(f"{path.name} has interface {version} and this version needs {ABI_VERSION}: run {_BUILD}")
    loaded.deconvseg_instruction_set.restype = ctypes.c_char_p
    return _Loaded(loaded, loaded.deconvseg_instruction_set().decode(), None)


def _missing(why: str) -> _Loaded:
    return _Loaded(None, None, why)
