"""The pointwise MLP of a transformer-like block."""

import math

from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV


def pointwise_mlp(channels: int, ratio: float, spatial_dims: int) -> nn.Sequential:
    """Return two pointwise convolutions with a GELU between them; ``ratio`` is the expansion factor of the channels."""
    hidden = int(channels * ratio) if math.isfinite(ratio) else 0
    if hidden < 1:
        raise InputError(f"mlp_ratio={ratio}: give a number that makes at least one hidden channel")
    conv = CONV[spatial_dims]
    return nn.Sequential(conv(channels, hidden, kernel_size=1), nn.GELU(), conv(hidden, channels, kernel_size=1))
