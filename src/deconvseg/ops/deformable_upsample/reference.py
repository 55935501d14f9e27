"""Deformable upsampling in plain PyTorch: the equations of DTC (arXiv 2601.17939)."""

from __future__ import annotations  # the compiler of PyTorch 2.6 cannot trace the annotations of an inner function

import itertools
import math
from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor


def positions(
    offsets: Tensor, weights: Tensor | None, size: Sequence[int], scale: Sequence[int], receptive_field: float
) -> list[Tensor]:
    """Return the sampling positions on each input axis, in pixels from the centre of the first pixel (Eq. 1).

    Eq. 1 is written in ``grid_sample`` coordinates, in which an axis of ``size`` pixels spans [-1, 1], so that one unit
    is ``size / 2`` pixels. ``offsets`` and ``weights`` are (B, axes, \\*(size * scale)), the last array axis first.
    Sizes are never divided, because converters of exported programs do not support quotients of dynamic sizes.
    """
    moves = (offsets if weights is None else offsets * weights).flip(1)
    where = []
    for axis, (length, factor) in enumerate(zip(size, scale, strict=True)):
        scaled = length * factor
        centres = torch.arange(scaled, dtype=offsets.dtype, device=offsets.device) + 0.5
        grid = centres * (1 / factor) - 0.5
        along_axis = [scaled if other == axis else 1 for other in range(len(size))]
        # λ = receptive_field / (2 * size), or 1, times size / 2.
        move = moves[:, axis] * (0.5 if math.isinf(receptive_field) else receptive_field / 4)
        where.append(grid.view(along_axis) + (move * length if math.isinf(receptive_field) else move))
    return where


def sample(features: Tensor, where: Sequence[Tensor]) -> Tensor:
    """Interpolate ``features`` (B, C, \\*S) linearly at pixel positions, one (B, \\*N) per axis (Eq. 2).

    Equals ``grid_sample`` with ``align_corners=False`` and border padding, but is twice differentiable in all versions
    of PyTorch. Returns (B, C, \\*N).
    """
    batch, channels, *size = features.shape
    pixels = features.flatten(2)
    inside = [position.clamp(0, length - 1) for position, length in zip(where, size, strict=True)]
    lower = [position.detach().floor() for position in inside]
    fraction = [position - start for position, start in zip(inside, lower, strict=True)]

    def corner(steps: Sequence[int]) -> Tensor:
        index, share = torch.zeros_like(lower[0], dtype=torch.long), torch.ones_like(lower[0])
        for step, start, part, length in zip(steps, lower, fraction, size, strict=True):
            # The upper neighbour of the last pixel has share 0; the bounds also keep the index of a NaN position valid.
            index = index * length + (start.long() + step).clamp(0, length - 1)
            share = share * (part if step else 1 - part)
        picked = pixels.gather(2, index.flatten(1)[:, None].expand(batch, channels, -1))
        return picked * share.flatten(1)[:, None]

    corners = itertools.product(*[(0, 1)] * len(size))
    return reduce(torch.add, map(corner, corners)).reshape(batch, channels, *where[0].shape[1:])


def sample_by_grid(features: Tensor, where: Sequence[Tensor]) -> Tensor:
    """Return the same as :func:`sample` up to rounding, by ``grid_sample``, which exporters know as one operator."""
    scaled = [(2 * place + 1) / size - 1 for place, size in zip(where, features.shape[2:], strict=True)]
    grid = torch.stack(scaled[::-1], dim=-1)
    return F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
