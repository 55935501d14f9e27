"""Loading of the compiled kernels: the library that fits this processor, or the reason why there is none."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from deconvseg.system import why_no_bfloat16 as why_no_instructions

__all__ = ["bfloat16_library", "instruction_set", "library", "unavailable", "why_no_bfloat16"]

_HERE = Path(__file__).resolve().parent
_BUILD = "python -m deconvseg.ops.native.build"


class _Loaded(NamedTuple):
    library: ctypes.CDLL | None
    instruction_set: str | None
    unavailable: str | None


def library() -> ctypes.CDLL | None:
    """Return the kernel library that fits this processor, or None; :func:`unavailable` then gives the reason.

    The instruction set is PyTorch's choice, which ``ATEN_CPU_CAPABILITY`` can override. ``DECONVSEG_NATIVE_LIBRARY``
    names a file to load instead, such as a sanitizer build.
    """
    return _loaded().library


def instruction_set() -> str | None:
    """Return the loaded library's instruction set, ``"avx512"``, ``"avx2"`` or ``"neon"``; None without a library."""
    return _loaded().instruction_set


def unavailable() -> str | None:
    """Return why there are no native kernels and what to do, in one line, or None if there are."""
    return _loaded().unavailable


def bfloat16_library() -> ctypes.CDLL | None:
    """Return the library of the kernels for bfloat16, or None; :func:`why_no_bfloat16` then gives the reason.

    It is taken from the folder of :func:`library`.
    """
    return _loaded_for_bfloat16().library


def why_no_bfloat16() -> str | None:
    """Return why there are no kernels for bfloat16, in one line, or None if there are.

    The reason is the processor (:func:`deconvseg.system.why_no_bfloat16`) or the library.
    """
    return _loaded_for_bfloat16().unavailable


@cache
def _loaded() -> _Loaded:
    named = os.environ.get("DECONVSEG_NATIVE_LIBRARY")
    return _load(Path(named)) if named else _find(_HERE, platform.machine(), torch.backends.cpu.get_cpu_capability())


def _find(folder: Path, machine: str, capability: str) -> _Loaded:
    """Load the best library in a folder for a machine, given the processor's capability as PyTorch reports it."""
    # Not at the top: ``python -m deconvseg.ops.native.build`` would warn that it is already imported.
    from deconvseg.ops.native.build import INSTRUCTION_SETS, BuildError, find_compiler, library_path, machine_name

    sets = list(INSTRUCTION_SETS.get(machine_name(machine), ()))
    if not sets:
        return _missing(f"there are none for {machine}: PyTorch computes instead")
    if machine_name(machine) == "x86_64":
        runs = {"AVX512": ["avx512", "avx2"], "AVX2": ["avx2"]}
        sets = runs.get(capability.partition("_")[0], [])
        if not sets:
            return _missing(f"they need AVX2, and PyTorch finds {capability} here: PyTorch computes instead")
    paths = [library_path(folder, name, platform.system().lower()) for name in sets]
    for path in paths:
        if path.exists():
            return _load(path)
    try:
        find_compiler()
    except BuildError as error:
        return _missing(f"not built: {error}; then run {_BUILD}")
    return _missing(f"not built: run {_BUILD}")


@cache
def _loaded_for_bfloat16() -> _Loaded:
    """Load the kernels for bfloat16 if the others are those for AVX-512 and the processor has AVX512-BF16."""
    from deconvseg.ops.native.build import BFLOAT16, library_path

    found, lacking = _loaded(), why_no_instructions("cpu")
    if lacking is not None:
        return _missing(lacking)
    if found.library is None:
        return _missing(f"its kernels are not there: {found.unavailable}")
    if found.instruction_set != "avx512":
        return _missing(
            f"it needs the kernels for AVX-512, and those here are for {found.instruction_set}: run {_BUILD}"
        )
    named = os.environ.get("DECONVSEG_NATIVE_LIBRARY")
    path = library_path(Path(named).parent if named else _HERE, BFLOAT16, platform.system().lower())
    return _load(path) if path.exists() else _missing(f"{path.name} is not built: run {_BUILD}")


def _load(path: Path) -> _Loaded:
    from deconvseg.ops.native.build import has_sources, source_version

    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        return _missing(f"{path.name} cannot be loaded ({error}): run {_BUILD}")
    instruction_set, sources = (_text(loaded, f"deconvseg_{what}") for what in ("instruction_set", "sources"))
    # A function whose arguments have changed would crash the process. Libraries without sources beside them are those
    # that the package was packed with.
    if instruction_set is None or sources is None or (has_sources() and sources != source_version(instruction_set)):
        return _missing(f"{path.name} was compiled from other sources than those of this version: run {_BUILD}")
    return _Loaded(loaded, instruction_set, None)


def _text(loaded: ctypes.CDLL, function: str) -> str | None:
    """Return the text that a function of a library returns; None if the library does not have it."""
    if not hasattr(loaded, function):
        return None
    getattr(loaded, function).restype = ctypes.c_char_p
    text: bytes = getattr(loaded, function)()
    return text.decode()


def _missing(why: str) -> _Loaded:
    return _Loaded(None, None, why)
