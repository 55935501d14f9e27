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

    With ``foreground_only`` every label above zero is id 1, whatever its value (instance maps). ``ignore`` is the
    files' value of voxels that nobody has judged: their id, behind the last class, is neither learnt nor predicted.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    foreground_only: bool = False
    ignore: int | None = None

    def __post_init__(self) -> None:
        if len(self.values) != len(self.names) or len(set(self.values)) != len(self.values):
            raise InputError(f"a label encoding needs distinct values, each named, not {self.values} and {self.names}")
        # The 1 of a foreground stands for every value, so that there the ignore label may be 1 too.
        if self.ignore in (self.values[:1] if self.foreground_only else self.values):
            raise InputError(f"the ignore label {self.ignore} is the value of a class too; give it one of its own")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ignore_id(self) -> int | None:
        """The id of ignored voxels, or None where there is no ignore label."""
        return None if self.ignore is None else len(self.values)

    @classmethod
    def from_values(
        cls, values: Iterable[int], names: Mapping[int, str] | None = None, *, ignore: int | None = None
    ) -> LabelEncoding:
        """The encoding of these label values, in ascending order behind 0, which is always the background."""
        others = sorted({int(value) for value in values} - {0, ignore})
        known = {0: "background", **(names or {})}
        ordered = (0, *others)
        return cls(ordered, tuple(known.get(value, f"label {value}") for value in ordered), ignore=ignore)

    @classmethod
    def foreground(cls, *, ignore: int | None = None) -> LabelEncoding:
        """Background, and one class for every label above zero but the one to ignore."""
        return cls((0, 1), ("background", "foreground"), foreground_only=True, ignore=ignore)

    def encode(self, pixels: npt.NDArray[Any], *, where: str = "") -> npt.NDArray[Any]:
        """Consecutive ids of label values, shape kept: uint8, or int16 beyond 256 ids.

        Raises `InputError` that lists the values without an id, and ``where`` (a file) they were found.
        """
        if self.foreground_only:
            ids = (pixels > 0).astype(np.uint8)
            if self.ignore_id is not None:
                ids[pixels == self.ignore] = self.ignore_id
            return ids
        values = self._values_by_id()
        id_type = np.uint8 if len(values) <= 256 else np.int16
        order = np.argsort(values)
        ascending = values[order]
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
        values = self._values_by_id()
        pixels: npt.NDArray[Any] = values.astype(smallest_integer_dtype(values))[ids]
        return pixels

    def _values_by_id(self) -> npt.NDArray[np.int64]:
        return np.asarray([*self.values, *(() if self.ignore is None else (self.ignore,))], dtype=np.int64)


def count_values(pixels: npt.NDArray[Any]) -> dict[int, int]:
    """How many voxels hold each value of an integer array, in ascending order."""
    if pixels.size and pixels.min() >= 0 and pixels.max() < 2**16:
        counts = np.bincount(pixels.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, voxels = np.unique(pixels, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, voxels, strict=True)}
