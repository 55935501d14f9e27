"""The probabilities of a case as images on its grid."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from deconvseg.data import Geometry, case_stem, write_shares
from deconvseg.planning import Plan
from deconvseg.system import write_text
from deconvseg.text import dump_json

FOLDER = "probabilities"
_BIDS_MASK = re.compile(r"(.*desc-deconvseg)_dseg")


def map_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of the maps of a network: the classes, background first, or the regions."""
    return plan.labels.names if plan.regions is None else plan.output_names


def map_paths(mask: Path, plan: Plan) -> list[Path]:
    """Return the files of the probabilities of a mask: one file for all maps of a volume, one per map in 2D.

    Next to the mask, ``probabilities/CASE.nii.gz`` has all maps along its fourth axis, and
    ``probabilities/CASE/CLASS.png`` has one map. In a BIDS derivative, ``..._probseg.nii.gz`` is next to
    ``..._dseg.nii.gz``.
    """
    if plan.spatial_dims == 3:
        return [_volume_path(mask)]
    names = [re.sub(r"[^\w.-]+", "_", name) for name in map_names(plan)]
    # Different classes may get the same file name.
    unique = [name if names.count(name) == 1 else f"{place}_{name}" for place, name in enumerate(names)]
    return [mask.parent / FOLDER / case_stem(mask) / f"{name}.png" for name in unique]


def write_maps(maps: NDArray[np.float32], geometry: Geometry, mask: Path, plan: Plan, *, like: Path) -> None:
    """Write the probabilities (K, \\*S) of a mask, which may be memory-mapped, and the names of the maps."""
    paths = map_paths(mask, plan)
    described = {"LabelMap": list(map_names(plan)), "exclusive": plan.regions is None}
    if plan.spatial_dims == 3:
        write_shares(maps, geometry, paths[0], like=like)
        write_text(paths[0].with_name(f"{case_stem(paths[0])}.json"), dump_json(described) + "\n")
        return
    for path, one in zip(paths, maps, strict=True):
        write_shares(one, geometry, path)


def hold_maps(mask: Path, plan: Plan, shape: tuple[int, ...]) -> bool:
    """Whether all files of a mask's probabilities exist, with maps of the ``shape`` of the mask."""
    try:
        for path in map_paths(mask, plan):
            if plan.spatial_dims == 3:
                found = tuple(nib.load(path).shape)
                if (*found, 1)[:4] != (*shape, plan.outputs):
                    return False
            else:
                with PIL.Image.open(path) as picture:
                    if picture.size[::-1] != shape:
                        return False
    except (OSError, ValueError, ImageFileError):
        return False
    return True


def found_maps(mask: Path) -> list[Path]:
    """Return the existing files of a mask's probabilities."""
    pictures = mask.parent / FOLDER / case_stem(mask)
    return [path for path in (_volume_path(mask), *sorted(pictures.glob("*.png"))) if path.is_file()]


def _volume_path(mask: Path) -> Path:
    stem = case_stem(mask)
    if of_bids := _BIDS_MASK.fullmatch(stem):
        return mask.with_name(f"{of_bids[1]}_probseg.nii.gz")
    return mask.parent / FOLDER / f"{stem}.nii.gz"
