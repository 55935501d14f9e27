"""The positions of sliding windows along an axis, and the weights of their voxels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.planning import WindowRule


def window_starts(size: int, window: int, overlap: float, rule: WindowRule = "centred") -> tuple[int, ...]:
    """Return the starts of windows along an axis: evenly spaced, with neighbours that overlap by at least ``overlap``.

    A window longer than the axis starts before it, so that both ends are padded equally. The number of windows follows
    from a step of a whole number of voxels, with the rule "nnunet" from one that need not be whole.
    """
    if size <= window:
        return (-((window - size) // 2),)
    step = window * (1 - overlap) if rule == "nnunet" else max(1, int(window * (1 - overlap) + 1e-9))
    gaps = math.ceil((size - window) / step)
    return tuple(round(index * (size - window) / gaps) for index in range(gaps + 1))


def check_overlap(overlap: float) -> None:
    """Refuse an overlap outside [0, 1): below 0 there would be gaps between windows, at 1 windows would not advance."""
    if not 0 <= overlap < 1:
        raise InputError(f"overlap {overlap}: give a fraction of a window from 0 to below 1, such as 0.5")


def gaussian_weights(window: Sequence[int], rule: WindowRule = "centred") -> Tensor:
    """Weights (\\*window) of a window's voxels: a Gaussian about its centre, σ an eighth of a side, at least 1e-3.

    With the rule "nnunet" it is about the voxel ``n // 2``, in half precision, and zeros become the least other value.
    """
    if rule == "nnunet":
        return _half_weights(window)
    weights = torch.ones(())
    for size in window:
        distance = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        weights = weights[..., None] * torch.exp(-(distance**2) / (2 * (0.125 * size) ** 2))
    return weights.clamp_min(max(float(weights.min()), 1e-3))


def _half_weights(window: Sequence[int]) -> Tensor:
    weights = torch.full((), 10, dtype=torch.float64)
    for size in window:
        distance = torch.arange(size, dtype=torch.float64) - size // 2
        weights = weights[..., None] * torch.exp(-(distance**2) / (2 * (0.125 * size) ** 2))
    halves = weights.half()
    return halves.clamp_min(halves[halves > 0].min().item()).float()
