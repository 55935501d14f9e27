"""Layers with parameters: nonnegative deconvolution, its mixer and block; upsampling; Mamba."""

from deconvseg.nn.block import DeconverBlock, DeconvMixer
from deconvseg.nn.depthwise_source import DepthwiseSource
from deconvseg.nn.factorizer import FactorizerBlock, NMFMixer
from deconvseg.nn.mamba import Mamba, SiameseMamba
from deconvseg.nn.ndc import NDC
from deconvseg.nn.upsampling import (
    CARAFE,
    DTC,
    FADE,
    FORMER,
    SAPA,
    DySample,
    Upsampling,
    UpsamplingChange,
    create_upsampling,
    describe_upsampling,
    list_upsampling,
    register_upsampling,
    upgrade_upsampling,
)
from deconvseg.system import former_names

__all__ = [
    "CARAFE",
    "DTC",
    "FADE",
    "NDC",
    "SAPA",
    "DeconvMixer",
    "DeconverBlock",
    "DepthwiseSource",
    "DySample",
    "FactorizerBlock",
    "Mamba",
    "NMFMixer",
    "SiameseMamba",
    "Upsampling",
    "UpsamplingChange",
    "create_upsampling",
    "describe_upsampling",
    "list_upsampling",
    "register_upsampling",
    "upgrade_upsampling",
]

__getattr__ = former_names(__name__, FORMER)
