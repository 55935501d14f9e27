"""How a case is computed in the memory that it may take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from deconvseg.errors import InputError
from deconvseg.inference.grids import GridAxis
from deconvseg.inference.layout import Layout, choose_layout
from deconvseg.inference.memory import Estimate, WindowMemory, device_budget, sums_budget
from deconvseg.inference.preparing import PreparedImage
from deconvseg.inference.runner import WindowRunner
from deconvseg.planning import Plan
from deconvseg.units import format_bytes

# Bytes a voxel: a copy of the mask, a structure and what is removed of it, components as int32 and, counted, as int64.
_POSTPROCESSING = 1 + 1 + 4 + 8


@dataclass(frozen=True)
class Fit:
    """The size of each network's windows, where they lie along each axis, and how the volume is swept."""

    windows: list[tuple[int, ...]]
    grids: list[list[GridAxis]]
    layout: Layout


@dataclass(frozen=True)
class Fitter:
    """Lays windows over images, as large ones as the plans say wherever they fit.

    Attributes:
        runners: the networks, each with windows of its own.
        overlaps: what windows share, for each network.
        plan: what the classes are.
        memory: the bytes that a case may take on the host; None for no limit.
        postprocessed: whether masks are post-processed.

    """

    runners: Sequence[WindowRunner]
    overlaps: Sequence[float]
    plan: Plan
    memory: int | None
    postprocessed: bool
    window_memory: WindowMemory = field(default_factory=WindowMemory)

    def estimate(self, image: PreparedImage, store: torch.device) -> Estimate:
        """Foresee what an image takes if ``store`` holds the sums of logits."""
        reading = image.reading_bytes
        peak = max(reading, self._finishing(image))
        if image.box is None:
            return Estimate(peak, reading, 0, 1)
        fit = self.fit(image, image.box, store)
        peak = max(peak, self._beside_sums(image, fit.windows) + _on_host(fit.layout, store))
        return Estimate(peak, reading, fit.layout.windows, len(fit.layout.blocks))

    def fit(self, image: PreparedImage, box: Sequence[range], store: torch.device) -> Fit:
        """Lay windows over the box, smaller ones where the image does not fit into the memory otherwise.

        They are at least half as long as the trained ones. Raises :class:`~deconvseg.errors.InputError` where the image
        does not fit even then.
        """
        windows = [runner.largest for runner in self.runners]
        needed = []
        while True:
            other = 0 if self.memory is None else self._beside_sums(image, windows)
            budget = device_budget(store) if store.type == "cuda" else sums_budget(self.memory, other)
            grids = self._grids(image, box, windows)
            layout = choose_layout(grids, box, self.plan.outputs, budget)
            needed.append(other + _on_host(layout, store))
            if self.memory is None or needed[-1] <= self.memory:
                return Fit(windows, grids, layout)
            smaller = self._smaller(image, windows)
            if smaller is None:
                raise InputError(
                    f"{image.where}: needs about {format_bytes(min(needed))} beside the loaded model with the smallest "
                    f"windows that give usable masks ({format_bytes(needed[0])} with the trained ones), more than the "
                    f"{format_bytes(self.memory)} of memory allowed; allow that much, or predict parts of the image"
                )
            windows = smaller

    def _grids(
        self, image: PreparedImage, box: Sequence[range], windows: Sequence[tuple[int, ...]]
    ) -> list[list[GridAxis]]:
        outputs = image.canonical_shape
        return [
            [
                GridAxis.make(size, side, overlap, outputs=length, wanted=wanted)
                for size, side, length, wanted in zip(pixels.shape[1:], window, outputs, box, strict=True)
            ]
            for pixels, window, overlap in zip(image.pixels, windows, self.overlaps, strict=True)
        ]

    def _smaller(self, image: PreparedImage, windows: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
        """Make the windows smaller that take the most; None where no network takes smaller ones."""
        halved = [runner.smaller(window) for runner, window in zip(self.runners, windows, strict=True)]
        sizes = {
            number: len(pixels) * math.prod(window)
            for number, (pixels, window, half) in enumerate(zip(image.pixels, windows, halved, strict=True))
            if half is not None
        }
        if not sizes:
            return None
        largest = max(sizes, key=sizes.__getitem__)
        return [
            half if half is not None and number == largest else window
            for number, (window, half) in enumerate(zip(windows, halved, strict=True))
        ]

    def _beside_sums(self, image: PreparedImage, windows: Sequence[Sequence[int]]) -> int:
        channels = [len(pixels) for pixels in image.pixels]
        return self._held(image) + self.window_memory(self.runners, windows, channels, self.plan.outputs)

    def _held(self, image: PreparedImage) -> int:
        """Bytes of the prepared pixels, of the class ids at work, and of a mask that is written, twice."""
        return image.bytes + math.prod(image.shape) * (self._id_size + 2 * self._value_size)

    def _finishing(self, image: PreparedImage) -> int:
        """Bytes while class ids become a mask, and while it is post-processed."""
        steps = _POSTPROCESSING if self.postprocessed else 0
        return self._held(image) + math.prod(image.shape) * (self._value_size + steps)

    @property
    def _id_size(self) -> int:
        return 1 if len(self.plan.labels.values) <= 256 else 2

    @property
    def _value_size(self) -> int:
        return self.plan.labels.to_encoding().decode(np.zeros(1, np.uint8)).itemsize


def _on_host(layout: Layout, store: torch.device) -> int:
    return layout.bytes if store.type == "cpu" else 0
