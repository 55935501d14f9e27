"""The map between a dataset's label values and the consecutive ids that networks learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.types import smallest_integer_dtype
from deconvseg.errors import InputError


@dataclass(frozen=True)
class LabelEncoding:
    """``values[i]`` is the files' value of the consecutive id ``i``; the first is the background.

    With ``foreground_only`` every label above zero is id 1, whatever its value (instance maps).
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    foreground_only: bool = False

    def __post_init__(self) -> None:
        if len(self.values) != len(self.names) or len(set(self.values)) != len(self.values):
            raise InputError(f"a label encoding needs distinct values, each named, not {self.values} and {self.names}")

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def from_values(cls, values: Iterable[int], names: Mapping[int, str] | None = None) -> LabelEncoding:
        """The encoding of these label values, in ascending order behind 0, which is always the background."""
        others = sorted({int(value) for value in values} - {0})
        known = {0: "background", **(names or {})}
        ordered = (0, *others)
        return cls(ordered, tuple(known.get(value, f"label {value}") for value in ordered))

    @classmethod
    def foreground(cls) -> LabelEncoding:
        """Background, and one class for every label above zero."""
        return cls((0, 1), ("background", "foreground"), foreground_only=True)

    def encode(self, pixels: npt.NDArray[Any], *, where: str = "") -> npt.NDArray[Any]:
        """Consecutive ids of label values, shape kept: uint8, or int16 beyond 256 classes.

        Raises `InputError` that lists the values without an id, and ``where`` (a file) they were found.
        """
        id_type = np.uint8 if len(self.values) <= 256 else np.int16
        if self.foreground_only:
            return (pixels > 0).astype(id_type)
        order = np.argsort(self.values)
        ascending = np.asarray(self.values, dtype=np.int64)[order]
        positions = np.minimum(np.searchsorted(ascending, pixels), len(ascending) - 1)
        unknown = ascending[positions] != pixels
        if unknown.any():
            found = ", ".join(str(value) for value in np.unique(pixels[unknown])[:10])
            raise InputError(
                f"{where or 'the mask'} has the label values {found}, but the known ones are "
                f"{', '.join(str(value) for value in ascending)}; correct the mask, or train with them too"
            )
        return order.astype(id_type)[positions]

    def decode(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Label values of consecutive ids, shape kept, in the smallest type that holds every value."""
        values = np.asarray(self.values, dtype=np.int64)
        pixels: npt.NDArray[Any] = values.astype(smallest_integer_dtype(values))[ids]
        return pixels


def count_values(pixels: npt.NDArray[Any]) -> dict[int, int]:
    """How many voxels hold each value of an integer array, in ascending order."""
    if pixels.size and pixels.min() >= 0 and pixels.max() < 2**16:
        counts = np.bincount(pixels.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, voxels = np.unique(pixels, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, voxels, strict=True)}
