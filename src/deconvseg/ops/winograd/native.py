"""Winograd convolutions on a CPU in float32 or bfloat16: channels innermost, no gradients."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.layout import CHANNELS_LAST, channels_last
from deconvseg.ops.native.interface import call, integers, lanes, pointer, threads_for, why_unreadable
from deconvseg.ops.precision import layers_compute_in_bfloat16

_KERNELS = ((3, 3), (3, 3, 3), (1, 3, 3), (3, 1, 3), (3, 3, 1))
BFLOAT16 = True

# With fewer channels the transforms take longer than the products that they save; PyTorch's convolution is then faster.
_FEWEST_IN_BFLOAT16 = 32
# Ends of the names of the C functions.
_ENDS = {torch.float32: "", torch.bfloat16: "_bfloat16"}
_PANEL = 2  # vectors per panel of packed weights: kTileVectors of matmul.h


def decline_weight(weight: Tensor) -> str | None:
    """Return why weights (O, I, \\*K) cannot be packed, or None."""
    if unreadable := why_unreadable("weight", weight):
        return unreadable
    if tuple(weight.shape[2:]) not in _KERNELS:
        return "they are for kernels of 3 x 3, 3 x 3 x 3, and that with 1 along one axis"
    if any(channels % lanes() or not channels for channels in weight.shape[:2]):
        return f"{weight.shape[1]} or {weight.shape[0]} channels are not a multiple of {lanes()}"
    return None


def decline(x: Tensor, weight: Tensor, bias: Tensor | None) -> str | None:
    """Return why the kernels cannot convolve an image, or None."""
    if unreadable := why_unreadable("x weight bias", x, weight, bias, bfloat16=True):
        return unreadable
    if x.ndim != weight.ndim or x.shape[1] != weight.shape[1]:
        return f"they take images of {weight.shape[1]} channels"
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return "gradients are plain PyTorch's"
    if layers_compute_in_bfloat16("cpu", (x, weight, bias)) and min(weight.shape[:2]) < _FEWEST_IN_BFLOAT16:
        return f"PyTorch's convolutions in bfloat16 are faster with fewer than {_FEWEST_IN_BFLOAT16} channels"
    if weight.is_inference():
        return "changes of weights made in inference mode cannot be detected"
    return decline_weight(weight)


def pack(weight: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return U, the transformed weights (O, I, \\*K), as ``dtype``, in the order that this processor's kernels use."""
    if reason := decline_weight(weight):
        raise InputError(f"weights of shape {tuple(weight.shape)} cannot be packed: {reason}")
    weight, packed = weight.detach().contiguous(), weight.new_empty(_packed_size(weight.shape, dtype), dtype=dtype)
    sizes = _sizes((1, weight.shape[1], 1, 1, 1)[: weight.ndim], weight.shape, threads=1)
    call(f"deconvseg_winograd_pack{_ENDS[dtype]}", pointer(weight), pointer(packed, dtype), sizes)
    return packed


def conv(x: Tensor, packed: Tensor, bias: Tensor | None, written: int, kernel: Sequence[int]) -> Tensor:
    """Convolve (B, I, \\*S) with packed weights (``written``, I, \\*K) of its type; the result has the image's size."""
    x, dtype = channels_last(x), packed.dtype
    shape = (x.shape[0], written, *x.shape[2:])
    out = torch.empty(shape, dtype=dtype, memory_format=CHANNELS_LAST[x.ndim])
    if packed.numel() != _packed_size((written, x.shape[1], *kernel), dtype):
        raise InputError(f"{packed.numel()} packed weights are not those of {x.shape[1]} and {written} channels")
    if out.numel():
        threads = threads_for(x.numel() * written * math.prod(kernel))
        sizes = _sizes(x.shape, (written, x.shape[1], *kernel), threads)
        bias = None if bias is None else bias.contiguous()
        images = pointer(x, dtype), pointer(packed, dtype), pointer(bias), pointer(out, dtype)
        call(f"deconvseg_winograd_conv{_ENDS[dtype]}", *images, sizes)
    return out


def _packed_size(weight: Sequence[int], dtype: torch.dtype) -> int:
    """Return the number of packed weights: for each place of a tile a matrix with columns in full panels.

    In bfloat16 a tile has two axes, and the taps along the third one are rows of the matrix.
    """
    written, read, *kernel = weight
    panel, filtered = _PANEL * lanes(), kernel.count(3)
    rows = math.prod(kernel) // 9 * read if dtype == torch.bfloat16 else read
    places = 16 if dtype == torch.bfloat16 else 4**filtered
    return places * rows * -(-written // panel) * panel


def _sizes(image: Sequence[int], weight: Sequence[int], threads: int) -> object:
    """Return the sizes in the order of Shape in native.cpp; a 2D image gets a first axis of size 1."""
    ones = [1] * (5 - len(image))
    batch, read, *size = image
    return integers([batch, read, weight[0], *ones, *size, *ones, *weight[2:], threads])
