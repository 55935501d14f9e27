"""Layers with parameters: nonnegative deconvolution, its mixer and block, and upsampling."""

from deconvseg.nn.block import DeconverBlock, DeconvMixer
from deconvseg.nn.dtc import DTC
from deconvseg.nn.ndc import NDC
from deconvseg.nn.upsampling import UPSAMPLING_KINDS, create_upsampling

__all__ = ["DTC", "NDC", "UPSAMPLING_KINDS", "DeconvMixer", "DeconverBlock", "create_upsampling"]
