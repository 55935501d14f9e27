"""Windows of an image as matrices: views of a channels-last image by window and head."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.errors import InputError


class Windows(NamedTuple):
    """Partition of an image: window sizes per axis, shifts per axis (each less than the window), channels per head."""

    size: tuple[int, ...]
    shifts: tuple[tuple[int, ...], ...]
    head_dim: int

    @property
    def margins(self) -> tuple[int, ...]:
        """The largest shift on each axis."""
        return tuple(max(steps) for steps in zip(*self.shifts, strict=True))


def shifts_per_axis(shifts: Sequence[int | Sequence[int]], axes: int) -> tuple[tuple[int, ...], ...]:
    """Expand shifts to one number per axis; :class:`InputError` for invalid shifts."""
    steps = tuple((shift,) * axes if isinstance(shift, int) else tuple(shift) for shift in shifts)
    if not steps or any(len(step) != axes or any(along < 0 for along in step) for step in steps):
        raise InputError(f"shifts={shifts!r}: give at least one, each a number from 0 on, or {axes}, one per axis")
    return steps


def to_places(rows: Tensor, windows: Windows) -> Tensor:
    """View (B, \\*S, C) as (B, \\*(S / window), heads, \\*window, head_dim), without a copy."""
    axes = len(windows.size)
    places = torch.unflatten(rows, -1, (-1, windows.head_dim))
    for axis in reversed(range(axes)):
        places = torch.unflatten(places, 1 + axis, (-1, windows.size[axis]))
    grid, inside = ([first + 2 * axis for axis in range(axes)] for first in (1, 2))
    return places.permute(0, *grid, 1 + 2 * axes, *inside, 2 + 2 * axes)


def from_places(places: Tensor) -> Tensor:
    """Return the inverse of :func:`to_places`."""
    axes = (places.ndim - 3) // 2
    pairs = [part for axis in range(axes) for part in (1 + axis, 2 + axes + axis)]
    rows = places.permute(0, *pairs, 1 + axes, places.ndim - 1).flatten(-2)
    for axis in range(axes):
        rows = rows.flatten(1 + axis, 2 + axis)
    return rows


def matrices_of(places: Tensor) -> Tensor:
    """Copy the windows to matrices (windows, head_dim, positions)."""
    axes = (places.ndim - 3) // 2
    positions = places.shape[2 + axes : -1].numel()
    return places.reshape(-1, positions, places.shape[-1]).mT


def extend(rows: Tensor, margins: Sequence[int]) -> Tensor:
    """Return a copy of (B, \\*S, C), padded circularly by ``margins`` positions at the beginning of each axis."""
    channels = rows.shape[-1]
    # Channels are merged into the last axis, because circular padding supports at most the last three axes.
    joined = rows.flatten(-2).unsqueeze(1)
    before = [*margins[:-1], margins[-1] * channels]
    padding = [side for margin in reversed(before) for side in (margin, 0)]
    return torch.unflatten(F.pad(joined, padding, mode="circular").squeeze(1), -1, (-1, channels))


def fold(extended: Tensor, margins: Sequence[int]) -> Tensor:
    """Add the margins to the positions that they were copied from, in place, and return the view without them."""
    rows = extended
    for axis, margin in enumerate(margins, start=1):
        length = rows.shape[axis] - margin
        if margin:
            rows.narrow(axis, length, margin).add_(rows.narrow(axis, 0, margin))
        rows = rows.narrow(axis, margin, length)
    return rows


def shifted(extended: Tensor, margins: Sequence[int], shift: Sequence[int]) -> Tensor:
    """Return a view of an extended image that equals ``torch.roll`` of the image by ``shift``."""
    rows = extended
    for axis, (margin, step) in enumerate(zip(margins, shift, strict=True), start=1):
        rows = rows.narrow(axis, margin - step, extended.shape[axis] - margin)
    return rows
