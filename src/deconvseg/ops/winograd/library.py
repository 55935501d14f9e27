"""Winograd convolutions as a ``torch.library`` operator without derivatives; only PyTorch's convolutions have them."""

from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.layout import CHANNELS_LAST
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend

WINOGRAD = define_operator("winograd_conv", 3, images=1, of_layers=True)
register_backend("winograd_conv", "native", device="cpu", kernels="deconvseg.ops.winograd.native")


def _fake(x: Tensor, packed: Tensor, bias: Tensor | None, written: int, kernel: list[int]) -> Tensor:
    return torch.empty_like(x.new_empty((x.shape[0], written, *x.shape[2:])), memory_format=CHANNELS_LAST[x.ndim])


define_in_torch(
    WINOGRAD,
    "winograd_conv",
    "(Tensor x, Tensor packed, Tensor? bias, int written, int[] kernel) -> Tensor",
    *(lambda kernels, *given: kernels.conv(*given), _fake),
)

conv: Any = torch.ops.deconvseg.winograd_conv
