"""Upsampling layers: the registered kinds (standard and learned ones), their sums, and upgrades of models."""

from deconvseg.nn.upsampling.choosing import Upsampling, UpsamplingChoice, choose_upsampling
from deconvseg.nn.upsampling.factory import create_upsampling
from deconvseg.nn.upsampling.kinds.carafe import CARAFE
from deconvseg.nn.upsampling.kinds.dtc import DTC, DTC_COMPONENTS
from deconvseg.nn.upsampling.kinds.dysample import DySample
from deconvseg.nn.upsampling.kinds.fade import FADE
from deconvseg.nn.upsampling.kinds.linear import LinearUpsampling
from deconvseg.nn.upsampling.kinds.pixelshuffle import PixelShuffleUpsampling
from deconvseg.nn.upsampling.kinds.sapa import SAPA
from deconvseg.nn.upsampling.moved import (
    FORMER,
    MOVED_OF_DTC,
    MOVED_OF_LINEAR,
    accept_moved,
    fold_moved,
    warn_of_moved,
)
from deconvseg.nn.upsampling.registry import describe_upsampling, list_upsampling, register_upsampling
from deconvseg.nn.upsampling.sampling import SamplingLayer
from deconvseg.nn.upsampling.summed import SummedUpsampling, needs_skip, upsample
from deconvseg.nn.upsampling.upgrade import UpsamplingChange, upgrade_upsampling
from deconvseg.system import former_names

__all__ = [
    "CARAFE",
    "DTC",
    "DTC_COMPONENTS",
    "FADE",
    "FORMER",
    "MOVED_OF_DTC",
    "MOVED_OF_LINEAR",
    "SAPA",
    "DySample",
    "LinearUpsampling",
    "PixelShuffleUpsampling",
    "SamplingLayer",
    "SummedUpsampling",
    "Upsampling",
    "UpsamplingChange",
    "UpsamplingChoice",
    "accept_moved",
    "choose_upsampling",
    "create_upsampling",
    "describe_upsampling",
    "fold_moved",
    "list_upsampling",
    "needs_skip",
    "register_upsampling",
    "upgrade_upsampling",
    "upsample",
    "warn_of_moved",
]

__getattr__ = former_names(__name__, FORMER)
