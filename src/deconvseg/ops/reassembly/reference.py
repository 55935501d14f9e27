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
    return _multiply(features, weights, scale, kernel, over_channels=False)


def compare_neighbours(queries: Tensor, keys: Tensor, scale: Sequence[int], kernel: int) -> Tensor:
    """Return the inner products of each output position's query with the neighbours of its input position.

    At every input position this is a matrix product of the neighbourhood (K ** axes, C) and the queries (C,
    prod(scale)) of the output positions in it.
    """
    return _multiply(keys, queries, scale, kernel, over_channels=True)


def _multiply(features: Tensor, finer: Tensor, scale: Sequence[int], kernel: int, *, over_channels: bool) -> Tensor:
    """Multiply each neighbourhood (C, K ** axes), or its transpose, with ``finer`` at the output positions in it."""
    batch, channels, *size = features.shape
    axes, neighbours = len(size), kernel ** len(size)
    patches = F.pad(features, (kernel // 2,) * (2 * axes))
    for axis in range(axes):
        patches = patches.unfold(2 + axis, kernel, 1)
    patches = patches.movedim(1, 1 + axes)
    # Every output axis is split into input positions and output positions within one input position.
    pairs = [part for length, factor in zip(size, scale, strict=True) for part in (length, factor)]
    coarse, fine = ([first + 2 * axis for axis in range(axes)] for first in (2, 3))
    read, written = (channels, neighbours) if over_channels else (neighbours, channels)
    shares = finer.reshape(batch, read, *pairs).permute(0, *coarse, 1, *fine)
    rows = max(1, _SLAB // (channels * neighbours * math.prod(size[1:])))
    slabs = []
    for some_patches, some_shares in zip(torch.split(patches, rows, 1), torch.split(shares, rows, 1), strict=True):
        around = some_patches.reshape(-1, channels, neighbours)
        product = torch.bmm(
            around.transpose(1, 2) if over_channels else around, some_shares.reshape(-1, read, math.prod(scale))
        )
        slabs.append(product.reshape(*some_patches.shape[: 1 + axes], written, *scale))
    together = [place for axis in range(axes) for place in (1 + axis, 2 + axes + axis)]
    return torch.cat(slabs, dim=1).permute(0, 1 + axes, *together).reshape(batch, written, *finer_size(size, scale))
