"""Winograd convolutions as a ``torch.library`` operator without derivatives; only PyTorch's convolutions have them."""

from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.layout import CHANNELS_LAST
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend
from deconvseg.ops.winograd.packing import packed

WINOGRAD = define_operator("winograd_conv", 3, images=1, of_layers=True)
register_backend("winograd_conv", "native", device="cpu", kernels="deconvseg.ops.winograd.native")


def _conv(kernels: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = kernels.conv(x, packed(weight, kernels, x.dtype), bias, weight.shape[0], list(weight.shape[2:]))
    return result


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    like = x.new_empty((x.shape[0], weight.shape[0], *x.shape[2:]))
    return torch.empty_like(like, memory_format=CHANNELS_LAST[x.ndim])


define_in_torch(
    WINOGRAD,
    "winograd_conv",
    "(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    *(_conv, _fake),
)

conv: Any = torch.ops.deconvseg.winograd_conv
