"""Adapters for networks of other packages: names of normalisations, and replacement of upsamplings."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deconvseg.nn.upsampling import Upsampling, UpsamplingChoice, choose_upsampling, upsample
from deconvseg.ops.torch_internals import ConvTransposeNd

# MONAI's names of the normalisations in `deconvseg.nn.norm.NORMS`.
MONAI_NORMS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "instance": ("INSTANCE", {"affine": False}),
    "batch": ("BATCH", {}),
    "instance_affine": ("INSTANCE", {"affine": True}),
}


class UpBlock(nn.Module):
    """MONAI's decoder block with any upsampling: upsampling, concatenation, convolutions; with MONAI's names."""

    def __init__(self, upsampling: nn.Module, convs: nn.Module) -> None:
        super().__init__()
        self.transp_conv = upsampling
        self.conv_block = convs

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, channels below, \\*(S / stride)) and the encoder's (B, width, \\*S) to (B, width, \\*S)."""
        out: Tensor = self.conv_block(torch.cat([upsample(self.transp_conv, x, skip), skip], dim=1))
        return out


def use_upsampling(network: nn.Module, names: Sequence[str], upsampling: Upsampling) -> None:
    """Replace the upsampling of named decoder blocks of MONAI (``UnetUpBlock``, ``UnetrUpBlock``), coarsest first."""
    for name, chosen in zip(names, choose_upsampling(upsampling).per_stage(len(names)), strict=True):
        block = network.get_submodule(name)
        layer = other_upsampling(block.get_submodule("transp_conv"), chosen)
        network.set_submodule(name, UpBlock(layer, block.get_submodule("conv_block")))


def other_upsampling(transposed: nn.Module, chosen: UpsamplingChoice) -> nn.Module:
    """Return an upsampling that replaces a transposed convolution, which may be wrapped.

    ``"transposed"`` is that layer itself, and ``"dtc+transposed"`` has it as its base; other kinds are new layers.
    """
    conv = next(module for module in transposed.modules() if isinstance(module, ConvTransposeNd))
    sizes = conv.in_channels, conv.out_channels, conv.stride, len(conv.stride)
    base = transposed if chosen.base.name == "transposed" else None
    return chosen.create(*sizes, skip_channels=conv.out_channels, base=base)
