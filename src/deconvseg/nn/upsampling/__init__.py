"""Upsampling layers: the usual ones, DTC, DySample, FADE, and their sums."""

from deconvseg.nn.upsampling.dtc import DTC, DTC_COMPONENTS, DTC_INITS
from deconvseg.nn.upsampling.dysample import DySample
from deconvseg.nn.upsampling.factory import UPSAMPLING_KINDS, create_upsampling, dtc_arguments
from deconvseg.nn.upsampling.fade import FADE
from deconvseg.nn.upsampling.linear import LinearUpsampling
from deconvseg.nn.upsampling.pixelshuffle import PixelShuffleUpsampling
from deconvseg.nn.upsampling.summed import SummedUpsampling, needs_skip, upsample
from deconvseg.nn.upsampling.upgrade import UpsamplingChange, upgrade_upsampling

__all__ = [
    "DTC",
    "DTC_COMPONENTS",
    "DTC_INITS",
    "FADE",
    "UPSAMPLING_KINDS",
    "DySample",
    "LinearUpsampling",
    "PixelShuffleUpsampling",
    "SummedUpsampling",
    "UpsamplingChange",
    "create_upsampling",
    "dtc_arguments",
    "needs_skip",
    "upgrade_upsampling",
    "upsample",
]
