"""Winograd convolutions as operators of ``torch.library``; they have no derivatives, which PyTorch's own have."""

from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.layout import CHANNELS_LAST
from deconvseg.ops.winograd import native

# Defined by its schema: ``torch.library.custom_op`` would import PyTorch's compiler at the first call.
_SCHEMA = "(Tensor x, Tensor packed, Tensor? bias, int written, int[] kernel) -> Tensor"
torch.library.define("deconvseg::winograd_conv", _SCHEMA)
torch.library.impl("deconvseg::winograd_conv", "CPU")(native.conv)

conv: Any = torch.ops.deconvseg.winograd_conv


def _fake(x: Tensor, packed: Tensor, bias: Tensor | None, written: int, kernel: list[int]) -> Tensor:
    return torch.empty_like(x.new_empty((x.shape[0], written, *x.shape[2:])), memory_format=CHANNELS_LAST[x.ndim])


torch.library.register_fake("deconvseg::winograd_conv", _fake)
