"""Checks before the launch of Triton kernels, and descriptions of tensors for them."""

import importlib
import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

from deconvseg.ops.layout import is_channels_last

OLDEST_TRITON = (3, 3)
STORED = (torch.float32, torch.bfloat16, torch.float16)
_MAX_INT32 = 2**31 - 1


def decline(*tensors: Tensor) -> str | None:
    """Return why Triton cannot take these tensors, in one line, or ``None``."""
    if reason := why_no_triton():
        return reason
    if len({tensor.device for tensor in tensors}) > 1:
        return "tensors on different devices: " + ", ".join(sorted({str(tensor.device) for tensor in tensors}))
    device = tensors[0].device
    if os.environ.get("TRITON_INTERPRET") != "1":
        if device.type != "cuda":
            return f"tensors on {device}: Triton's kernels need a GPU"
        if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
            return f"{torch.cuda.get_device_name(device)} is older than compute capability 8.0"
    for tensor in tensors:
        if tensor.dtype not in STORED:
            return f"{tensor.dtype}: Triton's kernels store float32, bfloat16 or float16"
    return None


@cache
def why_no_triton() -> str | None:
    """Return why Triton is unavailable here, in one line, or ``None``."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: PyTorch's CUDA builds bring it"
    version: str = importlib.import_module("triton").__version__
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TRITON:
        return f"triton {version} cannot compile the kernels: 3.3 (PyTorch 2.7) or newer can"
    return None


def device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which the tensor's GPU is the current device, on which Triton launches."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def strides(tensor: Tensor) -> tuple[int, ...]:
    """Return the element strides of a (B, C, \\*S) tensor for 3 spatial axes; a missing axis has stride 0."""
    batch, channel, *spatial = tensor.stride()
    return (batch, channel, *(0,) * (3 - len(spatial)), *spatial)


def spatial_size(tensor: Tensor) -> tuple[int, ...]:
    """Return the depth, height and width of a (B, C, \\*S) tensor; a missing axis has size 1."""
    spatial = tensor.shape[2:]
    return (*(1,) * (3 - len(spatial)), *spatial)


def needs_int64(*tensors: Tensor) -> bool:
    """Return whether offsets within one sample need 64 bits.

    The kernels always use 64 bits for the offsets between samples.
    """
    return any(
        sum((length - 1) * stride for length, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))
        > _MAX_INT32
        for tensor in tensors
    )


def empty_image(like: Tensor, channels: int, dtype: torch.dtype, size: torch.Size | None = None) -> Tensor:
    """Return an uninitialised (B, channels, \\*size) tensor in the memory format, by default the size, of ``like``."""
    batch, size = like.shape[0], like.shape[2:] if size is None else size
    if is_channels_last(like):
        return torch.empty((batch, *size, channels), dtype=dtype, device=like.device).movedim(-1, 1)
    return torch.empty((batch, channels, *size), dtype=dtype, device=like.device)
