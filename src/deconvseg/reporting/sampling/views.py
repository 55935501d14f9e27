"""The slice of a sampling map that a figure shows."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deconvseg.reporting.overlay import axial, choose_channel, window
from deconvseg.reporting.sampling.maps import Array, SamplingMap

# Arrows along the longer side of the picture, at most.
_ARROWS = 24


@dataclass(frozen=True)
class View:
    """One slice: the picture (H, W, 3), the outline, the relative density of the layer's input, points and arrows.

    ``points`` and the starts of ``arrows`` are (N, 2), row and column in pixels of the picture; ``moves`` are the mean
    displacements (N, 2) of the positions around each start in that unit.
    """

    picture: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_] | None
    density: Array
    points: Array
    arrows: Array
    moves: Array

    @classmethod
    def of(cls, drawn: SamplingMap) -> "View":
        """Return the view of a map: in 3D its axial slice, with the positions that fall into it."""
        channel = None if drawn.mask is None else choose_channel(drawn.image, drawn.mask, drawn.mask)
        picture = window(drawn.image, channel)
        density, mask = drawn.density / math.prod(drawn.scale), None if drawn.mask is None else drawn.mask != 0
        points = np.moveaxis(drawn.image_positions, 1, -1).reshape(-1, len(drawn.size))
        ratio = np.reshape(drawn.ratio, (-1, *[1] * len(drawn.size)))
        # Groups are averaged, because one arrow is drawn for all of them.
        starts, moves = (drawn.regular_positions + 0.5) * ratio - 0.5, drawn.moves.mean(axis=0) * ratio
        if drawn.slice is not None:
            depth = (drawn.slice * drawn.size[2]) // drawn.image.shape[3]
            inside = np.moveaxis(drawn.positions, 1, -1).reshape(-1, 3)[:, 2].clip(0, drawn.size[2] - 1)
            points = points[np.round(inside) == depth]
            x, y = drawn.image.shape[1:3]
            points = np.stack([y - 1 - points[:, 1], x - 1 - points[:, 0]], axis=1)
            level = (drawn.slice * starts.shape[3]) // drawn.image.shape[3]
            starts = np.stack([y - 1 - axial(starts[1], level), x - 1 - axial(starts[0], level)])
            moves = -np.stack([axial(moves[1], level), axial(moves[0], level)])
            picture, density = axial(picture, drawn.slice), axial(density, depth)
            mask = None if mask is None else axial(mask, drawn.slice)
        picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
        return cls(picture, mask, density, points, *(_thin(part) for part in (starts, moves)))


def _thin(values: Array) -> Array:
    """Return the means of (2, H, W) over squares, (N, 2)."""
    side = max(1, math.ceil(max(values.shape[1:]) / _ARROWS))
    height, width = (max(side, size // side * side) for size in values.shape[1:])
    kept = values[:, :height, :width]
    rows, columns = np.arange(0, kept.shape[1], side), np.arange(0, kept.shape[2], side)
    sums = np.add.reduceat(np.add.reduceat(kept, rows, axis=1), columns, axis=2)
    counts = np.outer(np.diff([*rows, kept.shape[1]]), np.diff([*columns, kept.shape[2]]))
    out: Array = (sums / counts).reshape(2, -1).T
    return out
