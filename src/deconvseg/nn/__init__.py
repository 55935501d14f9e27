"""Layers with parameters: nonnegative deconvolution, its mixer and block; upsampling; Mamba."""

from deconvseg.nn.block import DeconverBlock, DeconvMixer
from deconvseg.nn.factorizer import FactorizerBlock, NMFMixer
from deconvseg.nn.mamba import Mamba, SiameseMamba
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
    "FactorizerBlock",
    "Mamba",
    "NMFMixer",
    "SiameseMamba",
    "UpsamplingChange",
    "create_upsampling",
    "upgrade_upsampling",
]
