"""Mapping between the label values of a dataset and the consecutive ids that networks learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.types import smallest_integer_dtype
from deconvseg.errors import InputError

# The foreground value of a one-class mask: 1 as a number or in 1 bit, 255 in 8 bits, 65535 in 16 bits. The white of
# other bit depths is known only from the file (`LabelMap.white`).
WHITE = (1, 255, 65535)

# Number of voxels that are counted at a time.
_BLOCK = 2**20


@dataclass(frozen=True)
class LabelEncoding:
    """``values[i]`` is the value in files of the consecutive id ``i``; the first is the background.

    With ``foreground_only`` every label above zero has id 1 (for instance maps). ``ignore`` is the value in files of
    voxels without annotation: their id follows that of the last class, and is neither learnt nor predicted.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import LabelEncoding
        >>> encoding = LabelEncoding(values=(0, 3, 7), names=("background", "shell", "core"))
        >>> encoding.encode(np.array([7, 0, 3]))
        array([2, 0, 1]...)

    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    foreground_only: bool = False
    ignore: int | None = None

    def __post_init__(self) -> None:
        if len(self.values) != len(self.names) or len(set(self.values)) != len(self.values):
            raise InputError(f"a label encoding needs distinct values, each named, not {self.values} and {self.names}")
        # With ``foreground_only`` the 1 stands for every value above zero, so the ignore label may be 1 too.
        if self.ignore in (self.values[:1] if self.foreground_only else self.values):
            raise InputError(f"the ignore label {self.ignore} is the value of a class too; give it one of its own")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ignore_id(self) -> int | None:
        """The id of ignored voxels, or None without an ignore label."""
        return None if self.ignore is None else len(self.values)

    @classmethod
    def from_values(
        cls, values: Iterable[int], names: Mapping[int, str] | None = None, *, ignore: int | None = None
    ) -> LabelEncoding:
        """Return the encoding of these label values, in ascending order after 0, which is always the background."""
        others = sorted({int(value) for value in values} - {0, ignore})
        known = {0: "background", **(names or {})}
        ordered = (0, *others)
        return cls(ordered, tuple(known.get(value, f"label {value}") for value in ordered), ignore=ignore)

    @classmethod
    def foreground(cls, *, ignore: int | None = None, name: str = "foreground") -> LabelEncoding:
        """Return an encoding with background and one class for every label above zero except the ignore label."""
        return cls((0, 1), ("background", name), foreground_only=True, ignore=ignore)

    def encode(self, pixels: npt.NDArray[Any], *, where: str = "", white: int | None = None) -> npt.NDArray[Any]:
        """Return the consecutive ids of label values in the same shape: uint8, or int16 beyond 256 ids.

        If the only class has the value 1, 255 or 65535, a mask of 0 and another of these values, or of 0 and the
        file's ``white``, is converted to that class. Raises `InputError` that lists the values without an id and the
        file ``where`` they were found.
        """
        if self.foreground_only:
            ids = (pixels > 0).astype(np.uint8)
            if self.ignore_id is not None:
                ids[pixels == self.ignore] = self.ignore_id
            return ids
        pixels = self.align(pixels, white=white)
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

    def align(self, pixels: npt.NDArray[Any], *, white: int | None = None) -> npt.NDArray[Any]:
        """Return label values as in the encoding: the white of other bit depths becomes that of a single class."""
        if self.foreground_only or len(self) != 2 or self.values[0] != 0:
            return pixels
        return align_white(pixels, self.values[1], ignore=self.ignore, white=white)

    def decode(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the label values of consecutive ids in the same shape, in the smallest type that holds every value."""
        values = self._values_by_id()
        pixels: npt.NDArray[Any] = values.astype(smallest_integer_dtype(values))[ids]
        return pixels

    def _values_by_id(self) -> npt.NDArray[np.int64]:
        return np.asarray([*self.values, *(() if self.ignore is None else (self.ignore,))], dtype=np.int64)


def count_values(pixels: npt.NDArray[Any]) -> dict[int, int]:
    """Return the number of voxels with each value of an integer array, in ascending order of the values.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import count_values
        >>> count_values(np.array([[0, 0, 255], [0, 255, 255]]))
        {0: 3, 255: 3}

    """
    if pixels.size and pixels.min() >= 0 and (highest := int(pixels.max())) < 2**16:
        flat = pixels.reshape(-1)
        # `np.bincount` converts its input to int64, so count one block at a time and not the whole volume.
        blocks = (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
        counts = sum((np.bincount(block, minlength=highest + 1) for block in blocks), np.zeros(highest + 1, np.int64))
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, voxels = np.unique(pixels, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, voxels, strict=True)}


def align_white(
    pixels: npt.NDArray[Any], value: int, *, ignore: int | None = None, white: int | None = None
) -> npt.NDArray[Any]:
    """Convert a one-class mask stored with 1, 255, 65535 or ``white`` to the ``value`` of the class.

    Any other array is returned unchanged.
    """
    if value not in WHITE or not pixels.size:
        return pixels
    judged = pixels if ignore is None else pixels[pixels != ignore]
    own = int(judged.max(initial=0))
    if own in (value, ignore) or own not in (*WHITE, white) or not ((judged == 0) | (judged == own)).all():
        return pixels
    kind = np.promote_types(pixels.dtype, smallest_integer_dtype(np.asarray([value])))
    return np.where(pixels == own, kind.type(value), pixels).astype(kind)


def common_values(masks: Mapping[str, Collection[int]], whites: Mapping[str, int] | None = None) -> dict[int, int]:
    """Map each label value of a dataset's masks to itself, or to the common value of a single class.

    ``masks`` has the values of each mask by its file. The same object is 1 in a 1-bit or palette file, 255 in 8 bits
    and 65535 in 16 bits; ``whites`` gives the white of files with other depths. If every mask contains only 0 and its
    white, all whites are one class, whose value is the most frequent of 1, 255 and 65535. Raises `InputError` that
    names a file of each kind if masks with different whites are mixed with label maps.
    """
    foreground = {file: set(values) - {0} for file, values in masks.items()}
    kinds = {file: next(iter(values)) for file, values in foreground.items() if len(values) == 1}
    # A value that occurs together with other labels in some mask is a label number.
    numbers = {value for values in foreground.values() if len(values) > 1 for value in values}
    others = {file: value for file, value in (whites or {}).items() if value not in numbers}
    white = {file: value for file, value in kinds.items() if value in (*WHITE, others.get(file))}
    found = Counter(white.values())
    everything = {value for values in foreground.values() for value in values}
    if len(found) < 2:
        return {value: value for value in everything}
    if all(file in white for file, values in foreground.items() if values):
        common = max((value for value in found if value in WHITE), key=lambda value: (found[value], value), default=255)
        return dict.fromkeys(everything, common)
    examples = {value: next(file for file, kind in white.items() if kind == value) for value in sorted(found)}
    several = next(file for file, values in foreground.items() if values and file not in white)
    labels = ", ".join(map(str, sorted(foreground[several])))
    listed = "; ".join(f"{file} holds 0 and {value}" for value, file in examples.items())
    raise InputError(
        f"{listed}; and {several} holds {labels}: what is one label here may be another there; "
        "store all masks as one number per class"
    )
