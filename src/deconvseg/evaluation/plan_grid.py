"""The grid of a plan, on which masks can be scored in place of that of their image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deconvseg.data import Geometry, LabelMap, Preprocessing, check_same_grid, read_header, read_image
from deconvseg.errors import InputError
from deconvseg.planning import Plan, read_plan

Labels = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PlanGrid:
    """The grid on which a network sees an image, by the preprocessing of its plan."""

    plan: Plan

    @property
    def preprocessing(self) -> Preprocessing:
        """The way of an image to the grid."""
        return self.plan.preprocessing

    def to_json(self) -> dict[str, Any]:
        """Return the entries of the plan that determine the grid."""
        key = self.preprocessing.key
        return {name: key[name] for name in ("spacing", "resize", "crop_margin") if name in key}

    def check(self, mask: Path) -> None:
        """Raise :class:`InputError` if a mask has another number of dimensions than the images of the plan."""
        dims = len(read_header(mask).shape)
        if dims != self.plan.spatial_dims:
            raise InputError(
                f"{mask}: is {dims}D, but the grid is that of a plan for {self.plan.spatial_dims}D images, "
                f"{self.plan.dataset}; give a plan for {dims}D images, or leave `grid` out"
            )

    def of_case(self, truth: LabelMap, file: Path, images: Sequence[Path]) -> CaseGrid:
        """Return the grid of a case; its images are read only if the plan crops.

        Raises :class:`InputError` for another number of dimensions, and for a plan that crops images that are not known
        or not on the grid of the mask.
        """
        self.check(file)
        if self.preprocessing.crop_margin is None:
            order = self.preprocessing.order(truth.geometry)
            box = tuple(range(truth.shape[axis]) for axis in order.permutation)
            return CaseGrid(self.preprocessing, truth.geometry, box)
        if not images:
            raise InputError(
                f"{file}: the plan crops images to their non-zero voxels, and the image of this mask is not known; "
                "give the dataset with its images as the truth, or a plan without crop_margin"
            )
        image = read_image(images, channels_last=True)
        check_same_grid(image, images[0], truth, file)
        return CaseGrid(self.preprocessing, image.geometry, self.preprocessing.box(image))


class ScoredMasks(NamedTuple):
    """Two masks (*S) on one grid, the voxels that are ignored, and the grid's spacing in mm.

    ``separate`` has the predicted masks of regions that are not taken from ``prediction``, by key.
    """

    truth: Labels
    prediction: Labels
    ignored: Flags | None
    spacing: tuple[float, ...]
    separate: Mapping[int, Flags] = {}


@dataclass(frozen=True)
class CaseGrid:
    """The grid of one case: its box of the image, which ``geometry`` places, in canonical axis order."""

    preprocessing: Preprocessing
    geometry: Geometry
    box: tuple[range, ...]

    def resample(self, masks: ScoredMasks) -> ScoredMasks:
        """Return masks of the image's grid on this one, resampled as the labels of a training are."""
        truth, prediction = (np.asarray(mask, self._kind(mask)) for mask in (masks.truth, masks.prediction))
        if masks.ignored is not None:
            # Of equally probable labels the smallest is taken. In training, ignored voxels have the largest.
            last = int(truth.max(initial=0)) + 1
            truth = np.where(masks.ignored, last, truth.astype(np.int64))
        found, other = self._on_grid(truth), self._on_grid(prediction)
        separate = {key: self._on_grid(mask.astype(np.uint8)).pixels > 0 for key, mask in masks.separate.items()}
        # A picture without a pixel size is measured in pixels, whose grid is that of the plan.
        flat = len(self.box) == 2 and set(masks.spacing) == {1.0}
        spacing = (1.0, 1.0) if flat else found.geometry.spacing
        if masks.ignored is None:
            return ScoredMasks(found.pixels, other.pixels, None, spacing, separate)
        ignored = found.pixels == last
        return ScoredMasks(np.where(ignored, 0, found.pixels), other.pixels, ignored, spacing, separate)

    def _on_grid(self, mask: Labels) -> LabelMap:
        return self.preprocessing.labels(LabelMap(mask, self.geometry), self.box)

    @staticmethod
    def _kind(mask: Labels) -> npt.DTypeLike:
        return np.uint8 if mask.dtype == np.bool_ else mask.dtype


def choose_grid(grid: str, plan: Plan | str | PathLike[str] | None, of_run: Plan | None) -> PlanGrid | None:
    """Return the grid of the given plan, else of the plan of the run; None for the grid of each image.

    Raises :class:`InputError` if there is no plan, or one is given that is not used.
    """
    if grid != "plan":
        if plan is not None:
            raise InputError("`plan` is given, but masks are scored on the image's grid; add `grid='plan'`")
        return None
    if isinstance(plan, str | PathLike):
        return PlanGrid(read_plan(plan))
    found = of_run if plan is None else plan
    if found is None:
        raise InputError("`grid='plan'` needs a plan: give the run (`run`), or its plan.json (`plan`)")
    return PlanGrid(found)
