"""Calls of the compiled kernels from Python: pointers, numbers and errors."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.ops import native
from deconvseg.ops.native import bfloat16_library, instruction_set, library
from deconvseg.ops.precision import layers_compute_in_bfloat16

# Starting a thread costs about as much as this many multiplications.
OPERATIONS_PER_THREAD = 4_000_000
# End of the names of the functions in the library for bfloat16.
_OF_BFLOAT16 = "_bfloat16"
LANES = {"avx512": 16, "avx2": 8, "neon": 4}


class KernelMemoryError(DeconvsegError, MemoryError):
    """A kernel could not allocate its memory."""


def lanes() -> int:
    """Return the number of floats per vector of the loaded library; multiples of it are fast numbers of channels."""
    return LANES[instruction_set() or "neon"]


def threads_for(operations: int) -> int:
    """Return the number of threads, up to PyTorch's, that are worth starting for this many multiplications."""
    return max(1, min(torch.get_num_threads(), operations // OPERATIONS_PER_THREAD))


def why_unreadable(names: str, *tensors: Tensor | None, bfloat16: bool = False) -> str | None:
    """Return why the kernels cannot read the named tensors (None for an omitted one), or None.

    ``bfloat16`` says that there is a kernel for bfloat16, which is taken where layers compute in it
    (:func:`~deconvseg.ops.precision.layers_compute_in_bfloat16`).
    """
    lowered = bfloat16 and layers_compute_in_bfloat16("cpu", tensors)
    types = (torch.float32, torch.bfloat16) if lowered else (torch.float32,)
    for index, tensor in enumerate(tensors):
        if tensor is None or (tensor.is_cpu and tensor.dtype in types and tensor.layout == torch.strided):
            continue
        name = names.split()[index]
        if tensor.device.type != "cpu":
            return f"{name} is on {tensor.device}, and the native kernels run on the CPU"
        if tensor.dtype not in types:
            return f"{name} is {tensor.dtype}, and the native kernels compute in torch.float32"
        return f"{name} is {tensor.layout}, and the native kernels take torch.strided"
    return native.why_no_bfloat16() if lowered else native.unavailable()


def pointer(tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> ctypes.c_void_p:
    """Return the address of a tensor's data, or null for None; :class:`InputError` unless ``dtype`` on a CPU."""
    return ctypes.c_void_p(_address(tensor, dtype))


def pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    """Return the addresses of the tensors' data, like :func:`pointer` for float32."""
    return (ctypes.c_void_p * len(tensors))(*[_address(tensor, torch.float32) for tensor in tensors])


def _address(tensor: Tensor | None, dtype: torch.dtype) -> int | None:
    if tensor is None:
        return None
    if tensor.dtype != dtype or not tensor.is_cpu:
        raise InputError(f"the native kernels compute in {dtype}, not {tensor.dtype}, and on cpu")
    return tensor.data_ptr()


def integers(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    """Return an array of int64."""
    return (ctypes.c_int64 * len(values))(*values)


def floats(values: Sequence[float]) -> ctypes.Array[ctypes.c_float]:
    """Return an array of float32."""
    return (ctypes.c_float * len(values))(*values)


def call(function: str, *arguments: object) -> None:
    """Call a kernel; those whose names end in ``_bfloat16`` are in a library of their own.

    Raises :class:`~deconvseg.errors.DeconvsegError` without a library, and :class:`KernelMemoryError` if memory runs
    out.
    """
    lowered = function.endswith(_OF_BFLOAT16)
    kernels = bfloat16_library() if lowered else library()
    if kernels is None:
        raise DeconvsegError(f"no native kernels: {native.why_no_bfloat16() if lowered else native.unavailable()}")
    if getattr(kernels, function)(*arguments):
        raise KernelMemoryError(f"{function}: not enough memory for its work: use smaller patches or fewer threads")
