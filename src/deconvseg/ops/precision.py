"""The precision in which every operator computes."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from deconvseg.ops.torch_internals import constant_to_compilers

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


@constant_to_compilers
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)
