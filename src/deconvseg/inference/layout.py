"""The layout of a sweep over a volume, chosen so that the sums of its logits fit into memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deconvseg.inference.grids import GridAxis, chunks_of, in_sweep_order, parts_of

_FLOAT = 4
# Size of a slab of output planes: large enough to make call overhead negligible, small enough for a cache.
_SLAB_BYTES = 32 * 10**6
_THICKEST_SLAB = 16
# Largest number of blocks along an axis. With more, most windows would be computed twice or more.
_MOST_BLOCKS = 8


@dataclass(frozen=True)
class Layout:
    """One way to sweep ``wanted`` output voxels of the canonical grid: in slabs along an axis, block by block.

    Attributes:
        swept: the axis of the sweep.
        thickness: the number of output planes of a slab.
        counts: the number of parts of each other axis.
        windows: the number of windows, over all networks.
        bytes: the memory of the sums of logits and the slabs.

    """

    wanted: Sequence[range]
    swept: int
    thickness: int
    counts: tuple[int, ...]
    windows: int
    bytes: int

    @property
    def chunks(self) -> list[range]:
        """The output planes of each slab."""
        return chunks_of(self.wanted[self.swept], self.thickness)

    @property
    def blocks(self) -> list[tuple[range, ...]]:
        """The parts of the cross-section, one range of outputs for each other axis."""
        columns = in_sweep_order(self.wanted, self.swept)[1:]
        return list(itertools.product(*(parts_of(*pair) for pair in zip(columns, self.counts, strict=True))))


def choose_layout(grids: Sequence[Sequence[GridAxis]], wanted: Sequence[range], outputs: int, budget: int) -> Layout:
    """Choose the layout with the fewest windows among those within ``budget`` bytes, or else the smallest one.

    ``grids`` are the axes of each network, ``wanted`` the output voxels to predict, ``outputs`` the number of maps.
    """
    layouts = list(_layouts(grids, wanted, outputs))
    fitting = [layout for layout in layouts if layout.bytes <= budget]
    if fitting:
        return min(fitting, key=lambda layout: (layout.windows, math.prod(layout.counts), layout.bytes))
    return min(layouts, key=lambda layout: layout.bytes)


def _layouts(grids: Sequence[Sequence[GridAxis]], wanted: Sequence[range], outputs: int) -> Iterator[Layout]:
    cuts = [_cuts([grid[axis] for grid in grids], part) for axis, part in enumerate(wanted)]
    for swept in range(len(wanted)):
        for cut in itertools.product(*in_sweep_order(cuts, swept)[1:]):
            plane = _FLOAT * outputs * math.prod(each.longest for each in cut)
            thickness = max(1, min(_THICKEST_SLAB, len(wanted[swept]), _SLAB_BYTES // plane))
            # A slab and the two slabs that it is interpolated from.
            windows, peak = 0, 3 * len(grids) * plane * thickness
            for number, grid in enumerate(grids):
                rows = grid[swept]
                depth = rows.window + math.ceil(thickness * rows.size / rows.outputs) + 2
                peak += _FLOAT * (outputs + 1) * depth * math.prod(each.reaches[number] for each in cut)
                windows += len(rows.starts) * math.prod(each.windows[number] for each in cut)
            yield Layout(wanted, swept, thickness, tuple(each.count for each in cut), windows, peak)


@dataclass(frozen=True)
class _Cut:
    """An axis cut into ``count`` parts of at most ``longest`` outputs.

    For each network, it holds the number of voxels of the largest part, and the total number of windows of all parts.
    """

    count: int
    longest: int
    reaches: list[int]
    windows: list[int]


def _cuts(axes: Sequence[GridAxis], wanted: range) -> list[_Cut]:
    """Every way to cut one axis; each network has its own grid."""
    cuts = []
    for count in range(1, 1 + min(_MOST_BLOCKS, len(wanted), max(len(axis.starts) for axis in axes))):
        parts = parts_of(wanted, count)
        reaches = [[axis.source(part).reach for part in parts] for axis in axes]
        windows = [sum(len(axis.starts_over(reach)) for reach in row) for axis, row in zip(axes, reaches, strict=True)]
        cuts.append(_Cut(count, len(parts[0]), [max(map(len, row)) for row in reaches], windows))
    return cuts
