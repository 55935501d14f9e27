"""The sweep over a volume in windows and slabs, within the available memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.inference.grids import GridAxis
from deconvseg.inference.layout import Layout, choose_layout
from deconvseg.inference.members import Member, WindowMemoryError
from deconvseg.inference.memory import device_budget, sums_budget
from deconvseg.inference.slabs import Pass, Planes, Slab
from deconvseg.progress import Progress, show_nothing
from deconvseg.units import format_bytes

Result = TypeVar("Result")
_log = logging.getLogger("deconvseg")


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume to sweep, on the axes of the networks.

    Attributes:
        pixels: (C, \\*S) for each member of the sweep, on its own grid.
        shape: the size of the grid to which logits are resampled.
        box: the voxels of that grid to compute.
        where: the name of the volume in messages.
        held: the host memory of its pixels and of the results during the sweep, in bytes.
        slices: for each member the axis along which its maps are taken from the nearest voxel, or None; empty if all
            are interpolated along every axis.

    """

    pixels: Sequence[Tensor]
    shape: tuple[int, ...]
    box: tuple[range, ...]
    where: str = "the image"
    held: int = 0
    slices: Sequence[int | None] = ()

    @classmethod
    def whole(cls, image: Tensor) -> Volume:
        """Return all of an image (C, \\*S), on the grid of the only member."""
        shape = tuple(image.shape[1:])
        return cls([image], shape, tuple(map(range, shape)))


@dataclass(frozen=True)
class Fit:
    """The sizes and positions of each member's windows, the layout of the sweep, and the device of the sums."""

    windows: list[tuple[int, ...]]
    grids: list[list[GridAxis]]
    layout: Layout
    store: torch.device


class Sweep:
    """Sweeps over volumes with the windows of one or several members, which compute each part together.

    ``outputs`` is the number of maps of each network; ``memory`` is the host memory that a volume may take, in bytes
    (None: no limit, but sums of logits take at most 1 GB). Sums are stored on the members' GPU if they fit. With
    ``mean`` slabs also have the mean of the logits, if all members add them in half precision on one grid.
    """

    def __init__(
        self, members: Sequence[Member], outputs: int, *, memory: int | None = None, mean: bool = False
    ) -> None:
        self.members = members
        self.outputs = outputs * max(member.engine.networks for member in members)
        self.memory = memory
        self.mean = mean and len(members) > 1
        device = members[0].engine.device
        self.store = device if device.type == "cuda" else torch.device("cpu")
        self._fits: WeakKeyDictionary[Volume, Fit] = WeakKeyDictionary()

    @torch.inference_mode()
    def map(
        self,
        volume: Volume,
        each: Callable[[Slab], Result],
        *,
        tell: Progress = show_nothing,
        note: Callable[[str], None] = lambda text: None,
    ) -> list[Result]:
        """Return the results of ``each`` for every slab of logits; it must not keep the slab.

        If memory runs out, the sweep starts again with the sums of logits on the host, and then with
        smaller windows. ``tell`` is called after each window with the finished fraction, and ``note`` at the end with a
        sentence if windows were smaller than the trained ones. Raises :class:`~deconvseg.errors.InputError` if
        ``memory`` does not suffice, and the allocator's error if nothing can be made smaller.
        """
        while True:
            try:
                fit = self.fit(volume)
                results = self._attempt(volume, fit, each, tell)
                break
            except (WindowMemoryError, torch.OutOfMemoryError) as error:
                self._make_room(error)
            # The sums of this attempt are freed only now, together with the error.
            if any(member.engine.device.type == "cuda" for member in self.members):
                torch.cuda.empty_cache()
        for member, window in zip(self.members, fit.windows, strict=True):
            if window != member.trained:
                note(
                    f"windows of {window} instead of the trained {member.trained}, for lack of memory; the mask may be "
                    "worse: allow more memory for the trained size"
                )
        return results

    def fit(self, volume: Volume) -> Fit:
        """Place windows over a volume, smaller ones if it does not fit into memory otherwise; the result is cached.

        Windows are at least half as long as the trained ones. Raises :class:`~deconvseg.errors.InputError` if the
        volume does not fit even then.
        """
        if volume not in self._fits:
            self._fits[volume] = self._search(volume)
        return self._fits[volume]

    def bytes(self, volume: Volume, fit: Fit) -> int:
        """Estimate the host memory of a sweep over a volume, in bytes."""
        return self._beside_sums(volume, fit.windows) + _on_host(fit)

    def _attempt(self, volume: Volume, fit: Fit, each: Callable[[Slab], Result], tell: Progress) -> list[Result]:
        numbers, results, passes = count(1), [], []
        layout, chunks = fit.layout, fit.layout.chunks

        def tell_one() -> None:
            number = next(numbers)
            tell(number / layout.windows, f"window {number} of {layout.windows}")

        for member, window, pixels, grid in zip(self.members, fit.windows, volume.pixels, fit.grids, strict=True):
            member.resize(window)
            passes.append(Pass(member, pixels, grid, axis=layout.swept, store=fit.store, tell=tell_one))
        for block in layout.blocks:
            parts = [one.slabs(chunks, block) for one in passes]
            for chunk in chunks:
                place = tuple(slice(part.start, part.stop) for part in (chunk, *block))
                # The slab gets no name: it may be a view of a block's sums, which must be freed before the next block.
                results.append(each(self._slab(layout.swept, place, [next(part) for part in parts])))
        return results

    def _slab(self, axis: int, place: tuple[slice, ...], planes: Sequence[Planes]) -> Slab:
        logits = self._by_network([each.resampled() for each in planes])
        added = self.mean and all(each.halves for each in planes) and len({each.maps.shape for each in planes}) == 1
        return Slab(axis, place, logits, Planes.mean(planes).resampled() if added else None)

    def _by_network(self, logits: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the logits of each network; an engine gives those of its networks together."""
        both = zip(self.members, logits, strict=True)
        return tuple(part for member, maps in both for part in maps.chunk(member.engine.networks))

    def _make_room(self, error: WindowMemoryError | torch.OutOfMemoryError) -> None:
        """Move the sums of logits to the host or, if they are there, use smaller windows; else raise the error."""
        self._fits.clear()
        if self.store.type != "cpu":
            _log.warning("not enough memory on %s: continuing with the sums of logits on the host", self.store)
            self.store = torch.device("cpu")
        elif not (isinstance(error, WindowMemoryError) and error.member.shrink()):
            raise error.__cause__ or error from None

    def _search(self, volume: Volume) -> Fit:
        windows, needed = [member.largest for member in self.members], []
        while True:
            other = 0 if self.memory is None else self._beside_sums(volume, windows)
            fit = self._lay_out(volume, windows, other)
            needed.append(other + _on_host(fit))
            if self.memory is None or needed[-1] <= self.memory:
                return fit
            smaller = self._smaller(volume, windows)
            if smaller is None:
                raise InputError(
                    f"{volume.where}: needs about {format_bytes(min(needed))} in addition to the loaded model with the "
                    f"smallest windows that give usable masks ({format_bytes(needed[0])} with the trained ones), more "
                    f"than the {format_bytes(self.memory)} of memory allowed; allow that much, or predict parts of the "
                    "image"
                )
            windows = smaller

    def _lay_out(self, volume: Volume, windows: list[tuple[int, ...]], other: int) -> Fit:
        """Choose the layout for windows of these sizes, with ``other`` bytes in use on the host."""
        slices = volume.slices or [None] * len(self.members)
        grids = [
            _grid_of(volume, number, member, window, axis)
            for number, (member, window, axis) in enumerate(zip(self.members, windows, slices, strict=True))
        ]
        if self.store.type == "cuda":
            room = device_budget(self.store)
            layout = choose_layout(grids, volume.box, self.outputs, room)
            if layout.bytes <= room:
                return Fit(windows, grids, layout, self.store)
        layout = choose_layout(grids, volume.box, self.outputs, sums_budget(self.memory, other))
        return Fit(windows, grids, layout, torch.device("cpu"))

    def _smaller(self, volume: Volume, windows: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
        """Make the windows with the most voxels smaller; None if no member takes smaller ones."""
        halved = [member.smaller(window) for member, window in zip(self.members, windows, strict=True)]
        able = [number for number, half in enumerate(halved) if half is not None]
        if not able:
            return None
        largest = max(able, key=lambda number: len(volume.pixels[number]) * math.prod(windows[number]))
        return [(number == largest and halved[number]) or window for number, window in enumerate(windows)]

    def _beside_sums(self, volume: Volume, windows: Sequence[Sequence[int]]) -> int:
        taken = [member.bytes(window, self.outputs) for member, window in zip(self.members, windows, strict=True)]
        return volume.held + max(working for working, _ in taken) + sum(kept for _, kept in taken)


def _grid_of(volume: Volume, number: int, member: Member, window: Sequence[int], slices: int | None) -> list[GridAxis]:
    """Return the axes of one member's grid; maps are taken from the nearest voxel along the axis ``slices``."""
    sides = zip(volume.pixels[number].shape[1:], window, volume.shape, volume.box, strict=True)
    return [
        GridAxis.make(
            size,
            side,
            member.overlap,
            outputs=length,
            wanted=wanted,
            nearest=axis == slices,
            rule=member.rule,
        )
        for axis, (size, side, length, wanted) in enumerate(sides)
    ]


def _on_host(fit: Fit) -> int:
    return fit.layout.bytes if fit.store.type == "cpu" else 0
