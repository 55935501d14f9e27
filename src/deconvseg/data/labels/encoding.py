"""The map between a dataset's label values and the consecutive ids that networks learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.types import smallest_integer_dtype
from deconvseg.errors import InputError

# What a mask of one class holds beside 0, by its storage: a number or 1 bit, 8 bits, 16 bits. Other depths have a
# white of their own, which only the file knows (`LabelMap.white`).
WHITE = (1, 255, 65535)

# Voxels that are counted at a time.
_BLOCK = 2**20


@dataclass(frozen=True)
class LabelEncoding:
    """``values[i]`` is the files' value of the consecutive id ``i``; the first is the background.

    With ``foreground_only`` every label above zero is id 1, whatever its value (instance maps). ``ignore`` is the
    files' value of voxels that are not annotated: their id, behind the last class, is neither learnt nor predicted.

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
    def foreground(cls, *, ignore: int | None = None, name: str = "foreground") -> LabelEncoding:
        """Background, and one class for every label above zero but the one to ignore."""
        return cls((0, 1), ("background", name), foreground_only=True, ignore=ignore)

    def encode(self, pixels: npt.NDArray[Any], *, where: str = "", white: int | None = None) -> npt.NDArray[Any]:
        """Consecutive ids of label values, shape kept: uint8, or int16 beyond 256 ids.

        With one class of value 1, 255 or 65535 a mask of 0 and another of these, or the file's ``white``, is that class
        too.
        Raises `InputError` that lists the values without an id, and ``where`` (a file) they were found.
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
        """Label values as the encoding has them: another storage's white becomes that of a single class."""
        if self.foreground_only or len(self) != 2 or self.values[0] != 0:
            return pixels
        return align_white(pixels, self.values[1], ignore=self.ignore, white=white)

    def decode(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Label values of consecutive ids, shape kept, in the smallest type that holds every value."""
        values = self._values_by_id()
        pixels: npt.NDArray[Any] = values.astype(smallest_integer_dtype(values))[ids]
        return pixels

    def _values_by_id(self) -> npt.NDArray[np.int64]:
        return np.asarray([*self.values, *(() if self.ignore is None else (self.ignore,))], dtype=np.int64)


def count_values(pixels: npt.NDArray[Any]) -> dict[int, int]:
    """How many voxels hold each value of an integer array, in ascending order.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import count_values
        >>> count_values(np.array([[0, 0, 255], [0, 255, 255]]))
        {0: 3, 255: 3}

    """
    if pixels.size and pixels.min() >= 0 and (highest := int(pixels.max())) < 2**16:
        flat = pixels.reshape(-1)
        # `np.bincount` makes int64 of what it counts: of a block at a time, not of the whole volume.
        blocks = (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
        counts = sum((np.bincount(block, minlength=highest + 1) for block in blocks), np.zeros(highest + 1, np.int64))
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, voxels = np.unique(pixels, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, voxels, strict=True)}


def align_white(
    pixels: npt.NDArray[Any], value: int, *, ignore: int | None = None, white: int | None = None
) -> npt.NDArray[Any]:
    """Give a mask of one class the class's ``value``, where it is stored as another of 1, 255, 65535 and ``white``.

    Any other array is returned as it is.
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
    """What each label value of a dataset's masks stands for: itself, or the common value of a single class.

    ``masks`` has the values of each mask by its file. One object is 1 in a file of 1 bit or a palette, 255 in 8 bits
    and 65535 in 16; ``whites`` names those of other depths. Where every mask is 0 and its white, all are one class,
    whose value is the most frequent of 1, 255 and 65535.
    Raises `InputError` that names a file of each kind where masks of several kinds lie among label maps.
    """
    foreground = {file: set(values) - {0} for file, values in masks.items()}
    kinds = {file: next(iter(values)) for file, values in foreground.items() if len(values) == 1}
    # What lies beside other labels in some mask is a number there.
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
