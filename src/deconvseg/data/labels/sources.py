"""The source of a case's mask: one file, several files of one class, a file per class, or a file in colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.grids import check_same_grid
from deconvseg.data.headers import asking
from deconvseg.data.labels.encoding import WHITE
from deconvseg.data.labels.mask_values import read_mask
from deconvseg.data.types import LabelMap, smallest_integer_dtype
from deconvseg.errors import InputError

_MOST_NAMED = 6
_BLACK = 0


@dataclass(frozen=True)
class MaskPart:
    """A file of a mask; its foreground has the class ``value``, or the values of the file if that is None.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import MaskPart
        >>> MaskPart(Path("a_lesion.png"), 2).value
        2

    """

    path: Path
    value: int | None = None


@dataclass(frozen=True)
class MaskSource:
    """The files of a case's mask and the rules that combine them.

    Several files without a ``value`` are united: if each has one label, they form one class, else all labels are kept.
    Files with a value are written one after the other, so later files overwrite earlier ones. ``merged`` maps values to
    the values that replace them; ``colours`` maps the colours ``#rrggbb`` of a mask in true colour to values.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import MaskPart, MaskSource
        >>> whole = MaskSource((MaskPart(Path("truth.nii.gz")),), merged={7: 3})
        >>> whole.read().pixels.max()
        np.uint8(3)

    """

    parts: tuple[MaskPart, ...]
    merged: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[str, int] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The first file."""
        return self.parts[0].path

    @property
    def is_plain(self) -> bool:
        """Return whether the mask is a single file, used unchanged."""
        return len(self.parts) == 1 and self.parts[0].value is None and not self.merged and not self.colours

    def to_json(self, name: Callable[[Path], str]) -> dict[str, Any]:
        """Return the source as plain types, with files named by the function ``name``."""
        return {
            "parts": [{"file": name(part.path), "value": part.value} for part in self.parts],
            "merged": {str(value): other for value, other in self.merged.items()},
            "colours": dict(self.colours),
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], find: Callable[[str], Path]) -> MaskSource:
        """Return the source from the output of `to_json`."""
        return cls(
            tuple(MaskPart(find(part["file"]), part["value"]) for part in tree["parts"]),
            {int(value): int(other) for value, other in tree["merged"].items()},
            {str(colour): int(value) for colour, value in tree["colours"].items()},
        )

    def read(self, *, foreground: bool = False) -> LabelMap:
        """Read the label map; with ``foreground`` grey levels are thresholded as in `read_mask`.

        Raises `InputError` for files on different grids, an undeclared colour, and two files without a class that have
        different labels in the same voxels.
        """
        if self.is_plain:
            return read_mask(self.path, foreground=foreground)
        maps = [self._read_part(part, foreground) for part in self.parts]
        for part, one in zip(self.parts[1:], maps[1:], strict=True):
            check_same_grid(maps[0], self.path, one, part.path)
        if any(part.value is not None for part in self.parts):
            united = self._paint(maps)
        else:
            united = maps[0] if len(maps) == 1 else replace(maps[0], pixels=self._unite(maps))
        return replace(united, pixels=_merge(united.pixels, self.merged))

    def count_overlaps(self) -> int:
        """Return the number of voxels that belong to files of different classes."""
        chosen: dict[int, npt.NDArray[np.bool_]] = {}
        for part in self.parts:
            if part.value is not None:
                inside = self._read_part(part, True).pixels > 0
                chosen[part.value] = chosen[part.value] | inside if part.value in chosen else inside
        counted = sum((inside.astype(np.uint8) for inside in chosen.values()), np.uint8(0))
        return int(np.count_nonzero(np.asarray(counted) > 1))

    def _read_part(self, part: MaskPart, foreground: bool) -> LabelMap:
        found = _read_colours(part.path, self.colours) if self.colours and part.value is None else None
        return found or read_mask(part.path, foreground=foreground or part.value is not None)

    def _paint(self, maps: Sequence[LabelMap]) -> LabelMap:
        values = np.asarray([part.value or 0 for part in self.parts])
        pixels = np.zeros(maps[0].shape, smallest_integer_dtype(values))
        for part, one in zip(self.parts, maps, strict=True):
            pixels[one.pixels > 0] = part.value or 0
        return LabelMap(pixels, maps[0].geometry)

    def _unite(self, maps: Sequence[LabelMap]) -> npt.NDArray[Any]:
        found = [set(np.unique(one.pixels).tolist()) - {0} for one in maps]
        values = set().union(*found)
        kind = smallest_integer_dtype(np.asarray([0, *values]))
        whites = {*WHITE, *(one.white for one in maps)}
        if len(values) < 2 or (all(len(own) < 2 for own in found) and values <= whites):
            common = max(values, default=0)
            return np.where(np.any([one.pixels != 0 for one in maps], axis=0), common, 0).astype(kind)
        united = np.zeros(maps[0].shape, kind)
        for part, one in zip(self.parts, maps, strict=True):
            both = (united != 0) & (one.pixels != 0) & (united != one.pixels)
            if both.any():
                place = tuple(axis[0] for axis in np.nonzero(both))
                raise InputError(
                    f"{part.path} has the label {one.pixels[place]} in {np.count_nonzero(both)} voxels where another "
                    f"mask of its case has {united[place]}; give each class its own pattern (`mask`), such as "
                    "organ=*_organ.png, or merge all into one class (`foreground=True`)"
                )
            united = np.where(one.pixels != 0, one.pixels, united).astype(kind)
        return united


def _merge(pixels: npt.NDArray[Any], merged: Mapping[int, int]) -> npt.NDArray[Any]:
    """Replace merged values by the first value of their class."""
    present = [value for value in merged if (pixels == value).any()]
    if not present:
        return pixels
    kind = np.promote_types(pixels.dtype, smallest_integer_dtype(np.asarray([merged[value] for value in present])))
    changed = pixels.astype(kind)
    for value in present:
        changed[pixels == value] = merged[value]
    return changed


def _read_colours(path: Path, colours: Mapping[str, int]) -> LabelMap | None:
    """Read a picture in true colour as a label map by its colours; None for any other file.

    Black is the background unless it is declared. A picture with equal channels counts as grey, unless all its colours
    are declared.
    """
    with asking(path) as reader:
        found = reader.read_colours(path)
    if found is None:
        return None
    pixels, geometry = found
    packed = (pixels[..., 0].astype(np.int64) << 16) | (pixels[..., 1].astype(np.int64) << 8) | pixels[..., 2]
    values = {_BLACK: 0, **{int(colour[1:], 16): value for colour, value in colours.items()}}
    present, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    unknown = [(int(colour), int(count)) for colour, count in zip(present, counts, strict=True) if colour not in values]
    if not unknown:
        stored = np.asarray([values[int(colour)] for colour in present])
        return LabelMap(stored.astype(smallest_integer_dtype(stored))[inverse.reshape(packed.shape)], geometry)
    if bool((pixels == pixels[..., :1]).all()):
        return None
    unknown.sort(key=lambda entry: -entry[1])
    listed = ", ".join(f"#{colour:06x} ({count} pixels)" for colour, count in unknown[:_MOST_NAMED])
    more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
    lossy = " (JPEG changes colours: save masks as PNG)" if reader.compression_with_losses(path) else ""
    raise InputError(
        f"{path} has the colours {listed}{more}, but the named ones are {', '.join(colours)}; name them too "
        f"(`labels`), such as {max(values.values()) + 1}=NAME:#{unknown[0][0]:06x}{lossy}"
    )
