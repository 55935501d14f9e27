"""Convolutions by PyTorch's oneDNN kernels, called by name, on images with the channels innermost: no gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.ops.layout import channels_last, is_dense

_IS_AVAILABLE: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def decline(x: Tensor, weight: Tensor, bias: Tensor | None) -> str | None:
    """Return why oneDNN cannot or should not be called by name, or None."""
    given = [tensor for tensor in (x, weight, bias) if tensor is not None]
    if not (_IS_AVAILABLE and torch.backends.mkldnn.enabled):
        return "oneDNN is not available or switched off"
    if any(tensor.dtype != torch.float32 or tensor.layout != torch.strided for tensor in given):
        return "it is called by name for dense tensors in torch.float32"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        return "gradients are plain PyTorch's"
    return None if is_dense(x, last=True) else "it is called by name for images with the channels innermost in memory"


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I / groups, \\*K)."""
    return channels_last(torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups))
