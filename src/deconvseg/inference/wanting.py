"""The requested outputs of a case in addition to its mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import Case, LabelMap
from deconvseg.inference.mask_formats import SegmentationWriter


@dataclass(frozen=True)
class Wanted:
    """The requested outputs of a case in addition to its mask.

    Attributes:
        folder: the folder of probabilities, levels and regions until they are written or measured; None if none is
            requested.
        packed: whether the probabilities are written as ``.npz``.
        pictured: whether they are written as an image on the case's grid.
        regions: whether each region is written as a file of its own.
        segmentation: what writes masks as DICOM segmentations, None if none is written.
        measure: function that receives the levels of a case (:meth:`~deconvseg.inference.Rule.levels`) and its mask.

    """

    folder: Path | None = None
    packed: bool = False
    pictured: bool = False
    regions: bool = False
    segmentation: SegmentationWriter | None = None
    measure: Callable[[Case, NDArray[np.uint8], LabelMap], None] | None = None

    @property
    def on_disk(self) -> bool:
        """Whether any of these is kept on disk until it is written or measured."""
        return self.maps or self.region_masks or self.measure is not None

    @property
    def maps(self) -> bool:
        """Whether the probabilities are computed."""
        return self.probabilities or (self.segmentation is not None and self.segmentation.needs == "probabilities")

    @property
    def region_masks(self) -> bool:
        """Whether the mask of each region is computed."""
        return self.regions or (self.segmentation is not None and self.segmentation.needs == "regions")

    def origin(self, predictor_identity: str) -> str:
        """Return what a mask was made by: the predictor and, as a DICOM segmentation, its type and codes."""
        return predictor_identity if self.segmentation is None else f"{predictor_identity} {self.segmentation.identity}"

    @property
    def probabilities(self) -> bool:
        """Whether the probabilities are written at all."""
        return self.packed or self.pictured
