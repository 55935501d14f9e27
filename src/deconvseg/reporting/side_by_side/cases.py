"""A case with the masks of several networks, and the regions of it that are shown enlarged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import InputError
from deconvseg.evaluation import dice
from deconvseg.reporting.overlay import Scene
from deconvseg.reporting.painting import Box
from deconvseg.reporting.picking import Plane, wrongest_slice

Labels = npt.NDArray[Any]

# The smallest side of an enlarged region in pixels, and its share of the slice.
_SMALLEST, _SHARE = 16, 0.28


@dataclass(frozen=True, eq=False)
class NetworkCase:
    """A case and what several networks predicted of it.

    Attributes:
        name: the name of the case.
        image: (C, \\*S), or None to show masks only.
        truth: integers (\\*S).
        masks: the predicted integers (\\*S) by name of the network, in the order of the columns.
        spacing: one value per axis.
        scores: Dice (%) by network, shown in the corner; of missing ones the mean Dice over the labels of the truth.
        slice: of a volume in canonical order (RAS), by default the one in which the masks differ most.
        plane: of the slice.
        channel: of the image that is shown; 2D images of three channels are colours.
        crops: regions (rows, columns) of the shown slice that are drawn enlarged below it.

    Example:
        >>> import numpy as np
        >>> from deconvseg.reporting import NetworkCase
        >>> truth = np.zeros((64, 64), int)
        >>> truth[16:48, 16:48] = 1
        >>> case = NetworkCase("disc", None, truth, {"shifted": np.roll(truth, 8, axis=0)}, (1.0, 1.0))
        >>> case.scores
        {'shifted': 75.0}

    """

    name: str
    image: npt.NDArray[Any] | None
    truth: Labels
    masks: Mapping[str, Labels]
    spacing: Sequence[float]
    scores: Mapping[str, float] = field(default_factory=dict)
    slice: int | None = None
    plane: Plane = "axial"
    channel: int | None = None
    crops: Sequence[Box] = ()

    def __post_init__(self) -> None:
        if not self.masks:
            raise InputError(f"{self.name}: there is no mask to show; give at least one network")
        for name, mask in self.masks.items():
            if mask.shape != self.truth.shape:
                raise InputError(f"{self.name}: the mask of {name} is {mask.shape}, the truth {self.truth.shape}")
        if self.truth.ndim not in (2, 3) or len(self.spacing) != self.truth.ndim:
            raise InputError(f"{self.name}: masks are 2D or 3D with a spacing per axis, not {self.truth.shape}")
        if self.image is not None and self.image.shape[1:] != self.truth.shape:
            raise InputError(f"{self.name}: the image (C, *S) is {self.image.shape}, but the masks {self.truth.shape}")
        scores = {name: self.scores.get(name, mean_dice(self.truth, mask)) for name, mask in self.masks.items()}
        object.__setattr__(self, "scores", scores)
        if self.slice is None and self.truth.ndim == 3:
            object.__setattr__(self, "slice", _most_disputed(self.truth, list(self.masks.values()), self.plane))

    def with_crops(self, count: int) -> "NetworkCase":
        """Return the case with up to ``count`` regions of its slice enlarged (:func:`find_crops`)."""
        if not count:
            return self
        every = [self.truth, *self.masks.values()]
        scene = Scene.of(self.image, every, self.spacing, plane=self.plane, slice=self.slice or 0).without_zoom()
        crops = find_crops(scene.cut(self.truth), [scene.cut(mask) for mask in self.masks.values()], count)
        return replace(self, crops=crops)


def mean_dice(truth: Labels, mask: Labels) -> float:
    """Return the mean Dice (%) over the labels of the truth, or over those of the mask if the truth is empty."""
    values = (set(np.unique(truth)) or set()) - {0} or set(np.unique(mask)) - {0}
    return float(np.mean([100 * dice(truth == value, mask == value) for value in sorted(values)])) if values else 100.0


def _most_disputed(truth: Labels, masks: Sequence[Labels], plane: Plane) -> int:
    wrong = np.any([mask != truth for mask in masks], axis=0)
    return wrongest_slice(truth, np.where(wrong, -1, truth), plane)


def find_crops(truth: Labels, masks: Sequence[Labels], count: int) -> tuple[Box, ...]:
    """Return up to ``count`` regions of a slice (H, W) in which the masks differ most, from the truth and each other.

    Regions are squares of a quarter of the shorter side, do not overlap, and each has a voxel that differs.
    """
    rows, columns = truth.shape
    side = min(max(round(_SHARE * min(rows, columns)), _SMALLEST), rows, columns)
    wrong = np.sum([mask != truth for mask in masks], axis=0).astype(np.int64)
    # Networks that are all wrong in the same way tell less than networks that differ.
    disputed = wrong * (1 + np.any([mask != masks[0] for mask in masks], axis=0))
    sums = np.pad(disputed.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    # The sum of each square by its first row and column.
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    found: list[Box] = []
    while len(found) < count and squares.max() > 0:
        best = np.argwhere(squares == squares.max())
        top, left = best[np.abs(best - best.mean(axis=0)).sum(axis=1).argmin()].tolist()
        found.append((slice(top, top + side), slice(left, left + side)))
        squares[max(top - side + 1, 0) : top + side, max(left - side + 1, 0) : left + side] = 0
    return tuple(found)
