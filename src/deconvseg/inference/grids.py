"""One axis of a network's grid, and of the grid to which its maps are resampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.data import nearest_voxels
from deconvseg.inference.tiling import window_starts
from deconvseg.planning import WindowRule

Item = TypeVar("Item")


@dataclass(frozen=True)
class Source:
    """The two voxels of an axis between which each output voxel lies, and its distance from the first one (0 to 1)."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    fraction: NDArray[np.float32]

    @property
    def reach(self) -> range:
        """The voxels that the outputs are interpolated from."""
        return range(int(self.low[0]), int(self.high[-1]) + 1)

    def apply(self, maps: Tensor, axis: int, offset: int) -> Tensor:
        """Interpolate maps linearly along ``axis``, whose first voxel is number ``offset``."""
        if len(self.reach) == len(self.low) and not self.fraction.any():
            return maps.narrow(axis, self.reach.start - offset, len(self.low))
        low, high = (torch.from_numpy(index - offset).to(maps.device) for index in (self.low, self.high))
        fraction = torch.from_numpy(self.fraction).to(maps.device)
        if axis == maps.ndim - 1 and maps.device.type == "cpu":
            # Along the innermost axis a product with a matrix of two entries per column is faster than gathering.
            matrix = torch.zeros(maps.shape[-1], len(low))
            outputs = torch.arange(len(low))
            matrix.index_put_((low, outputs), 1 - fraction, accumulate=True)
            matrix.index_put_((high, outputs), fraction, accumulate=True)
            # The caller's autocast applies to the network only: rounding logits could change their order.
            with torch.autocast("cpu", enabled=False):
                return maps @ matrix
        weights = fraction.reshape(-1, *[1] * (maps.ndim - axis - 1))
        return maps.index_select(axis, low).lerp_(maps.index_select(axis, high), weights)


@dataclass(frozen=True)
class GridAxis:
    """One axis: ``size`` voxels for the network, of which those of ``box`` are predicted, and ``outputs`` for the maps.

    ``window`` is the length of a window, ``starts`` the first voxels of windows, counted from the box's first voxel.
    Maps are interpolated, or taken from the ``nearest`` voxel.
    """

    size: int
    box: range
    outputs: int
    window: int
    starts: tuple[int, ...]
    nearest: bool = False

    @classmethod
    def make(
        cls,
        size: int,
        window: int,
        overlap: float,
        *,
        outputs: int | None = None,
        wanted: range | None = None,
        nearest: bool = False,
        rule: WindowRule = "centred",
    ) -> GridAxis:
        """Place windows over the voxels that the ``wanted`` outputs (default: all) cover or are interpolated from.

        If these are fewer than a window holds, the voxels around them are included as far as the image reaches. With
        ``nearest``, outputs are taken from their nearest voxel instead.
        """
        outputs = size if outputs is None else outputs
        wanted = range(outputs) if wanted is None else wanted
        reach = _source(size, range(size), outputs, wanted, nearest).reach
        first = min(reach.start, wanted.start * size // outputs)
        last = max(reach.stop, -(-wanted.stop * size // outputs))
        missing = max(0, min(window, size) - (last - first))
        start = min(max(0, first - missing // 2), size - (last - first) - missing)
        box = range(start, start + last - first + missing)
        return cls(size, box, outputs, window, window_starts(len(box), window, overlap, rule), nearest)

    def source(self, outputs: range) -> Source:
        """Return the voxels, counted from the box's first, that these outputs are interpolated from."""
        return _source(self.size, self.box, self.outputs, outputs, self.nearest)

    def starts_over(self, reach: range) -> tuple[int, ...]:
        """The windows that contain any of these voxels of the box."""
        return tuple(start for start in self.starts if start < reach.stop and start + self.window > reach.start)


def _source(size: int, box: range, outputs: int, wanted: range, nearest: bool) -> Source:
    """Half-pixel centres and clamped edges, in the single precision of ``torch.nn.functional.interpolate``."""
    if nearest:
        voxels = nearest_voxels(size, outputs)[wanted.start : wanted.stop] - box.start
        return Source(voxels, voxels, np.zeros(len(voxels), np.float32))
    scale = np.float32(size) / np.float32(outputs)
    centres = (np.arange(wanted.start, wanted.stop, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    places = np.clip(centres - np.float32(box.start), 0, len(box) - 1).astype(np.float32)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, len(box) - 1)
    fraction = (places - low).astype(np.float32)
    # Neighbours with zero weight are dropped.
    return Source(low, np.where(fraction > 0, high, low), fraction)


def chunks_of(outputs: range, length: int) -> list[range]:
    """Cut a range into pieces of at most ``length``."""
    return [range(first, min(first + length, outputs.stop)) for first in range(outputs.start, outputs.stop, length)]


def parts_of(outputs: range, count: int) -> list[range]:
    """Cut a range into ``count`` pieces of nearly the same length."""
    return chunks_of(outputs, math.ceil(len(outputs) / count))


def in_sweep_order(values: Sequence[Item], axis: int) -> list[Item]:
    """Put the axis that is swept along first."""
    return [values[axis], *values[:axis], *values[axis + 1 :]]
