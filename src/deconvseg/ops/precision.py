"""The precision in which every operator computes."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import overload

import torch
from torch import Tensor

from deconvseg.ops.torch_internals import constant_to_compilers
from deconvseg.system import why_no_bfloat16

# The types of numbers by the names of the option `precision`.
PRECISION_NAMES: Mapping[str, str] = {"32": "float32", "bf16": "bfloat16", "16": "float16"}

_HALF = (torch.float16, torch.bfloat16)


def in_full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert tensors to their common type; half types become float32."""
    common = tensors[0].dtype
    for tensor in tensors[1:]:
        common = torch.promote_types(common, tensor.dtype)
    if common in _HALF:
        common = torch.float32
    return tuple(tensor.to(common) for tensor in tensors)


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a context that disables autocast, or an empty one where autocast is off."""
    return torch.autocast(device_type, enabled=False) if autocast_is_on(device_type) else nullcontext()


def autocast_is_on(device_type: str) -> bool:
    """Return whether autocast is enabled for this type of device."""
    return _has_autocast(device_type) and torch.is_autocast_enabled(device_type)


def layers_compute_in_bfloat16(device_type: str, tensors: Sequence[Tensor | None]) -> bool:
    """Return whether PyTorch's layers would compute these tensors in bfloat16.

    They do under an autocast to bfloat16, and if all tensors are bfloat16. The kernels of layers follow the same rule.
    """
    if autocast_is_on(device_type):
        return torch.get_autocast_dtype(device_type) == torch.bfloat16
    return all(tensor.dtype == torch.bfloat16 for tensor in tensors if tensor is not None)


def why_bfloat16_is_slow(device: str) -> str | None:
    """Return why networks of PyTorch are not faster in bfloat16 on a device, in one line; None if they are.

    Beside the processor a CPU needs the compiled kernels: without them layers convert to float32 and back.
    """
    # Importing operators loads no kernels.
    from deconvseg.ops import native

    return native.why_no_bfloat16() if device == "cpu" else why_no_bfloat16(device)


@overload
def as_computed(*tensors: Tensor, images: int = 1) -> tuple[Tensor, ...]: ...


@overload
def as_computed(*tensors: Tensor | None, images: int = 1) -> tuple[Tensor | None, ...]: ...


def as_computed(*tensors: Tensor | None, images: int = 1) -> tuple[Tensor | None, ...]:
    """Convert the tensors of layers to the types that the kernels on a CPU take.

    In float32 nothing changes. Where layers compute in bfloat16, the first ``images`` become bfloat16 and all others,
    the parameters, float32: autocast keeps them in it, and the kernels round them while they reorder them.
    """
    if not layers_compute_in_bfloat16("cpu", tensors):
        return tensors
    types = [torch.bfloat16 if index < images else torch.float32 for index in range(len(tensors))]
    return tuple(tensor if tensor is None else tensor.to(dtype) for tensor, dtype in zip(tensors, types, strict=True))


@constant_to_compilers
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)
