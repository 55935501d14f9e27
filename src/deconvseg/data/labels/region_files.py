"""The files of regions next to a mask: ``regions/REGION/CASE.nii.gz`` is 1 in the region and 0 elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deconvseg.data.grids import check_same_grid
from deconvseg.data.labels.segments import uncrop
from deconvseg.data.reading import read_label_map
from deconvseg.data.types import LabelMap
from deconvseg.errors import InputError

FOLDER = "regions"


@dataclass(frozen=True)
class RegionFiles:
    """The files of the regions of a mask, which may overlap in other ways than the mask can hold.

    ``names`` are the names of the regions by the value that each is written as in the ``mask``. A region's folder has
    its name, with ``_`` in place of characters other than letters, digits and ``-``; the values are appended to all if
    two regions would have one folder.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import RegionFiles
        >>> files = RegionFiles(Path("MASKS/a.nii.gz"), {2: "whole tumour", 3: "ET"})
        >>> [file.as_posix() for file in files.paths.values()]
        ['MASKS/regions/whole_tumour/a.nii.gz', 'MASKS/regions/ET/a.nii.gz']

    """

    mask: Path
    names: Mapping[int, str]

    @cached_property
    def paths(self) -> Mapping[int, Path]:
        """The path of each region's file by value."""
        folders = {value: re.sub(r"[^\w-]+", "_", name) for value, name in self.names.items()}
        # Some disks do not distinguish cases.
        if len({name.casefold() for name in folders.values()}) < len(folders):
            folders = {value: f"{name}_{value}" for value, name in folders.items()}
        return {value: self._root / name / self.mask.name for value, name in folders.items()}

    @property
    def present(self) -> list[Path]:
        """The existing files of regions with the name of the mask, of whatever regions, sorted."""
        if not self._root.is_dir():
            return []
        return sorted(file for part in self._root.iterdir() if (file := part / self.mask.name).is_file())

    def read(self, mask: LabelMap) -> dict[int, npt.NDArray[np.bool_]]:
        """Return where each region is, (\\*S) by value, on the grid of the ``mask`` that the files belong to.

        Raises `InputError` if a file is missing, on another grid, or has several foreground values.
        """
        found = {}
        self._check()
        for value, file in self.paths.items():
            region = uncrop(read_label_map(file), file, mask)
            check_same_grid(mask, self.mask, region, file)
            inside = region.pixels != 0
            if inside.any() and np.ptp(region.pixels[inside]):
                raise InputError(f"{file}: has several foreground values; a region's file is 1 in the region, else 0")
            found[value] = inside
        return found

    def _check(self) -> None:
        missing = [self.names[value] for value, file in self.paths.items() if not file.is_file()]
        if missing:
            there = ", ".join(file.parent.name for file in self.present) or "none"
            raise InputError(
                f"{self._root}: has no file of {', '.join(missing)} for this case (there: {there}); predict it again "
                f"with `save_regions=True`, or remove this folder to score the regions as they are painted"
            )

    @property
    def _root(self) -> Path:
        return self.mask.parent / FOLDER
