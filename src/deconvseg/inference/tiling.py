"""The positions of sliding windows along an axis, and the weights of their voxels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.errors import InputError


def window_starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """Return the starts of windows along an axis: evenly spaced, with neighbours that overlap by at least ``overlap``.

    A window longer than the axis starts before it, so that both ends are padded equally.
    """
    if size <= window:
        return (-((window - size) // 2),)
    step = max(1, int(window * (1 - overlap) + 1e-9))
    gaps = math.ceil((size - window) / step)
    return tuple(round(index * (size - window) / gaps) for index in range(gaps + 1))


def check_overlap(overlap: float) -> None:
    """Refuse an overlap outside [0, 1): below 0 there would be gaps between windows, at 1 windows would not advance."""
    if not 0 <= overlap < 1:
        raise InputError(f"overlap {overlap}: give a fraction of a window from 0 to below 1, such as 0.5")


def gaussian_weights(window: Sequence[int]) -> Tensor:
    """Weights (\\*window) of a window's voxels: a Gaussian about its centre, σ an eighth of a side, at least 1e-3."""
    weights = torch.ones(())
    for size in window:
        distance = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        weights = weights[..., None] * torch.exp(-(distance**2) / (2 * (0.125 * size) ** 2))
    return weights.clamp_min(max(float(weights.min()), 1e-3))
