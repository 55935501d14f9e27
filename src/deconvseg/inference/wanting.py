"""The requested outputs of a case in addition to its mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import Case, LabelMap


@dataclass(frozen=True)
class Wanted:
    """The requested outputs of a case in addition to its mask.

    Attributes:
        folder: the folder of probabilities, levels and regions until they are written or measured; None if none is
            requested.
        packed: whether the probabilities are written as ``.npz``.
        pictured: whether they are written as an image on the case's grid.
        regions: whether each region is written as a file of its own.
        measure: function that receives the levels of a case (:meth:`~deconvseg.inference.Rule.levels`) and its mask.

    """

    folder: Path | None = None
    packed: bool = False
    pictured: bool = False
    regions: bool = False
    measure: Callable[[Case, NDArray[np.uint8], LabelMap], None] | None = None

    @property
    def on_disk(self) -> bool:
        """Whether any of these is kept on disk until it is written or measured."""
        return self.probabilities or self.regions or self.measure is not None

    @property
    def probabilities(self) -> bool:
        """Whether the probabilities are written at all."""
        return self.packed or self.pictured
