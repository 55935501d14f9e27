"""Layers with parameters: nonnegative deconvolution, its mixer and block; upsampling; Mamba."""

from deconvseg.nn.block import DeconverBlock, DeconvMixer
from deconvseg.nn.factorizer import FactorizerBlock, NMFMixer
from deconvseg.nn.mamba import Mamba, SiameseMamba
from deconvseg.nn.ndc import NDC
from deconvseg.nn.upsampling import (
    DTC,
    FADE,
    DySample,
    Upsampling,
    UpsamplingChange,
    create_upsampling,
    describe_upsampling,
    former_kinds,
    list_upsampling,
    register_upsampling,
    upgrade_upsampling,
)

__all__ = [
    "DTC",
    "FADE",
    "NDC",
    "DeconvMixer",
    "DeconverBlock",
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


def __getattr__(name: str) -> object:
    if name == "UPSAMPLING_KINDS":
        return former_kinds()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
