"""Logits of a volume, slab by slab: planes that no later window covers are resampled to the output and freed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.inference.grids import GridAxis, Source, in_sweep_order
from deconvseg.inference.members import Member
from deconvseg.inference.tiling import gaussian_weights

Array = TypeVar("Array", NDArray[Any], Tensor)


@dataclass(frozen=True)
class Slab:
    """A few output planes across the axis of the sweep.

    Attributes:
        axis: the axis of the sweep. It comes first in ``place`` and in ``logits``; the others follow in their order.
        place: the ranges of the slab along each axis.
        logits: (K, P, ...) of each network, in float32.
        mean: the mean of the logits, where it is taken before they are resampled.

    """

    axis: int
    place: tuple[slice, ...]
    logits: tuple[Tensor, ...]
    mean: Tensor | None = None

    def part_of(self, array: Array) -> Array:
        """Return the view of an array or a tensor (\\*S) or (K, \\*S) with the slab's axes and position."""
        dims = len(self.place)
        axes = self.axis - dims, -dims
        in_order = array.moveaxis(*axes) if isinstance(array, Tensor) else np.moveaxis(array, *axes)
        return in_order[(slice(None),) * (array.ndim - dims) + self.place]


@dataclass(frozen=True)
class Planes:
    """Finished planes of logits on a network's own grid, and their resampling to output planes.

    Attributes:
        maps: (K, N, ...), valid until the pass goes on.
        sources: the voxels of each axis from which outputs are interpolated.
        halves: whether logits are numbers of half precision, before and after they are resampled.

    """

    maps: Tensor
    sources: Sequence[Source]
    halves: bool

    def resampled(self) -> Tensor:
        """Return the output planes (K, P, ...), beginning with the innermost axis, while it is shortest."""
        maps = self.maps
        for axis in (len(self.sources) - 1, *range(len(self.sources) - 1)):
            maps = self.sources[axis].apply(maps, 1 + axis, self.sources[axis].reach.start)
        return maps.half().float() if self.halves else maps

    @staticmethod
    def mean(every: Sequence[Planes]) -> Planes:
        """Return the mean of the planes of networks with one grid, added in half precision as nnU-Net adds its folds.

        Neighbouring classes often have equal means there, and the first of them wins.
        """
        total = every[0].maps.half()
        for each in every[1:]:
            total += each.maps.half()
        return replace(every[0], maps=(total / len(every)).float())


class Pass:
    """Moves a member's windows along the ``axis`` of an image (C, \\*S).

    ``grid`` holds the image's axes in their order; ``store`` is the device of the sums, and ``tell`` is called after
    each window.
    """

    def __init__(
        self,
        member: Member,
        image: Tensor,
        grid: Sequence[GridAxis],
        *,
        axis: int = 0,
        store: torch.device,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.member = member
        self.axes = in_sweep_order(grid, axis)
        self.axis = axis
        self.tell = tell
        self.store = store
        box = (slice(None), *(slice(side.box.start, side.box.stop) for side in self.axes))
        self.image = image.movedim(1 + axis, 1)[box]
        self.weights = gaussian_weights([side.window for side in self.axes], member.rule).to(store)

    def slabs(self, chunks: Sequence[range], block: Sequence[range]) -> Iterator[Planes]:
        """Yield the logits from which each chunk of output planes is resampled, in order.

        ``chunks`` are ranges of the first axis' outputs, ``block`` one range of the outputs of each other axis.
        """
        rows, *columns = self.axes
        across = [axis.source(outputs) for axis, outputs in zip(columns, block, strict=True)]
        waiting = [rows.source(chunk) for chunk in reversed(chunks)]
        depth = rows.window + max(len(source.reach) for source in waiting)
        halves = self.member.rule == "nnunet"
        ring = _Ring(depth, [source.reach for source in across], self.store, halves=halves)
        places = list(itertools.product(*(a.starts_over(s.reach) for a, s in zip(columns, across, strict=True))))
        for start, following in itertools.zip_longest(rows.starts, rows.starts[1:]):
            self._add_row(ring, start, places)
            ring.finish(len(rows.box) if following is None else following)
            while waiting and waiting[-1].reach.stop <= ring.finished:
                yield ring.planes(waiting.pop(), across)
            if not waiting:
                return
            ring.drop_before(min(waiting[-1].reach.start, ring.finished))

    def _add_row(self, ring: _Ring, start: int, places: Sequence[tuple[int, ...]]) -> None:
        # The member reduces its batch if memory runs out; it then computes a group in several batches.
        batch = self.member.batch
        for first in range(0, len(places), batch):
            group = [(start, *place) for place in places[first : first + batch]]
            for place, logits in zip(group, self.member([self._cut(place) for place in group]), strict=True):
                ring.add(place, logits.movedim(1 + self.axis, 1).to(self.store), self.weights)
                self.tell()

    def _cut(self, place: Sequence[int]) -> Tensor:
        """Copy a window, with zeros outside the box, in the network's order of axes."""
        inside, padding = [slice(None)], []
        for axis, start in zip(self.axes, place, strict=True):
            begin, end = max(start, 0), min(start + axis.window, len(axis.box))
            inside.append(slice(begin, end))
            padding.append((begin - start, start + axis.window - end))
        flat = [length for pair in reversed(padding) for length in pair]
        window = torch.nn.functional.pad(self.image[tuple(inside)], flat)
        return window.movedim(1, 1 + self.axis).contiguous()


class _Ring:
    """Sums of weighted logits in the planes that windows still cover, and the finished planes that are still needed.

    It holds ``depth`` planes of the part ``region`` of the other axes; ``base`` is the number of its first plane, and
    the planes before ``finished`` are means. With ``halves`` every sum and mean is rounded to half precision, in which
    nnU-Net keeps them: at the edges of an image, where weights are the smallest, this decides its masks.
    """

    def __init__(self, depth: int, region: Sequence[range], store: torch.device, *, halves: bool = False) -> None:
        self.region = region
        self.halves = halves
        self.base = self.finished = 0
        self.totals = torch.zeros((depth, *map(len, region)), device=store)
        self.sums: Tensor | None = None

    def add(self, place: Sequence[int], logits: Tensor, weights: Tensor) -> None:
        """Add the logits (K, \\*W) of the window that starts at ``place``."""
        if self.sums is None:
            self.sums = torch.zeros((len(logits), *self.totals.shape), device=self.totals.device)
        into, out_of = [slice(None)], [slice(None)]
        planes = range(self.base, self.base + len(self.totals))
        for start, length, part in zip(place, weights.shape, (planes, *self.region), strict=True):
            begin, end = max(start, part.start), min(start + length, part.stop)
            into.append(slice(begin - part.start, end - part.start))
            out_of.append(slice(begin - start, end - start))
        weights = weights[tuple(out_of[1:])]
        sums, totals = self.sums[tuple(into)], self.totals[tuple(into[1:])]
        sums.addcmul_(logits[tuple(out_of)], weights)
        totals += weights
        self._round(sums, totals)

    def finish(self, end: int) -> None:
        """Divide the planes before ``end``, which no later window covers, by their weights."""
        done = slice(self.finished - self.base, end - self.base)
        self._sums[:, done] /= self.totals[done]
        self._round(self._sums[:, done])
        self.finished = end

    def drop_before(self, plane: int) -> None:
        """Drop the planes before this one, which frees space at the end."""
        shift, depth = plane - self.base, len(self.totals)
        if shift == 0:
            return
        # In pieces no longer than the shift, source and target never overlap.
        for begin in range(shift, depth, shift):
            end = min(begin + shift, depth)
            self._sums[:, begin - shift : end - shift] = self._sums[:, begin:end]
            self.totals[begin - shift : end - shift] = self.totals[begin:end]
        self._sums[:, -shift:] = 0
        self.totals[-shift:] = 0
        self.base = plane

    def planes(self, outputs: Source, across: Sequence[Source]) -> Planes:
        """Return the finished planes from which outputs are resampled."""
        maps = self._sums.narrow(1, outputs.reach.start - self.base, len(outputs.reach))
        return Planes(maps, (outputs, *across), self.halves)

    def _round(self, *parts: Tensor) -> None:
        if self.halves:
            for part in parts:
                part.copy_(part.half())

    @property
    def _sums(self) -> Tensor:
        assert self.sums is not None, "a row of windows comes first"
        return self.sums
