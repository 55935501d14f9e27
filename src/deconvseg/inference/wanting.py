"""What is made of a case beside its mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import Case, LabelMap


@dataclass(frozen=True)
class Wanted:
    """What is made of a case beside its mask.

    Attributes:
        folder: where probabilities and levels lie until they are packed or measured; None where neither is wanted.
        packed: whether the probabilities are written as ``.npz``.
        pictured: whether they are written as an image on the case's grid.
        measure: what takes the levels of a case and its mask, as :meth:`~deconvseg.inference.Rule.levels` counts them.

    """

    folder: Path | None = None
    packed: bool = False
    pictured: bool = False
    measure: Callable[[Case, NDArray[np.uint8], LabelMap], None] | None = None

    @property
    def probabilities(self) -> bool:
        """Whether the probabilities are written at all."""
        return self.packed or self.pictured
