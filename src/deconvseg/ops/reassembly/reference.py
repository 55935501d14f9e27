"""Reassembly in plain PyTorch."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.shapes import finer_size

# Elements of copied neighbourhoods per slab; they stay in a CPU's cache.
_SLAB = 4 * 2**20


def reassemble(features: Tensor, weights: Tensor, scale: Sequence[int], kernel: int) -> Tensor:
    """Return the weighted sum over the neighbourhood of each output position's input position, with zero padding.

    At every input position this is a matrix product of the neighbourhood (C, K ** axes) and the weights (K ** axes,
    prod(scale)) of the output positions in it.
    """
    batch, channels, *size = features.shape
    axes, neighbours = len(size), kernel ** len(size)
    patches = F.pad(features, (kernel // 2,) * (2 * axes))
    for axis in range(axes):
        patches = patches.unfold(2 + axis, kernel, 1)
    patches = patches.movedim(1, 1 + axes)
    # Every output axis is split into input positions and output positions within one input position.
    pairs = [part for length, factor in zip(size, scale, strict=True) for part in (length, factor)]
    coarse, fine = ([first + 2 * axis for axis in range(axes)] for first in (2, 3))
    shares = weights.reshape(batch, neighbours, *pairs).permute(0, *coarse, 1, *fine)
    rows = max(1, _SLAB // (channels * neighbours * math.prod(size[1:])))
    slabs = []
    for some_patches, some_shares in zip(torch.split(patches, rows, 1), torch.split(shares, rows, 1), strict=True):
        product = torch.bmm(
            some_patches.reshape(-1, channels, neighbours), some_shares.reshape(-1, neighbours, math.prod(scale))
        )
        slabs.append(product.reshape(*some_patches.shape[: 1 + axes], channels, *scale))
    together = [place for axis in range(axes) for place in (1 + axis, 2 + axes + axis)]
    return torch.cat(slabs, dim=1).permute(0, 1 + axes, *together).reshape(batch, channels, *finer_size(size, scale))
