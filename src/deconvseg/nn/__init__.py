"""Layers with parameters: nonnegative deconvolution, its mixer and block, and upsampling."""

from deconvseg.nn.block import DeconverBlock, DeconvMixer
from deconvseg.nn.ndc import NDC
from deconvseg.nn.upsampling import (
    DTC,
    FADE,
    UPSAMPLING_KINDS,
    DySample,
    UpsamplingChange,
    create_upsampling,
    upgrade_upsampling,
)

__all__ = [
    "DTC",
    "FADE",
    "NDC",
    "UPSAMPLING_KINDS",
    "DeconvMixer",
    "DeconverBlock",
    "DySample",
    "UpsamplingChange",
    "create_upsampling",
    "upgrade_upsampling",
]
