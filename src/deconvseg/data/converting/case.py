"""Convert one case: its image and mask files, and their record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.converting.files import WrittenFile, copy_file, is_gzip
from deconvseg.data.converting.labels import WrittenLabels
from deconvseg.data.converting.pictures import is_plain_png, write_pictures
from deconvseg.data.converting.target import Target
from deconvseg.data.converting.targets import find_target
from deconvseg.data.converting.volumes import why_not_copied, write_volumes
from deconvseg.data.dataset import Case, Dataset
from deconvseg.data.formats.registry import is_picture
from deconvseg.data.geometry import Geometry
from deconvseg.data.reading import read_label_map
from deconvseg.data.recording import file_sha256, plain_path
from deconvseg.data.types import Image, LabelMap
from deconvseg.data.writing import write_label_map
from deconvseg.errors import InputError

# The largest product of the unit vectors of two axes that ITK takes for perpendicular, with a margin.
_PERPENDICULAR = 5e-5
# Increase it when other files would be written for the same case, so that they are written again.
_FORMAT = 1

Record = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What is the same for all cases: the dataset without its cases, the folder, the layout, the ending, the labels."""

    dataset: Dataset
    folder: Path
    to: str
    ending: str
    labels: WrittenLabels
    link: bool

    @property
    def target(self) -> Target:
        """The layout to write."""
        return find_target(self.to)


@dataclass(frozen=True)
class Job:
    """A case to convert: its part (Tr or Ts), the names of its source files, and its record if it was converted."""

    case: Case
    part: str
    group: str
    names: Mapping[Path, str]
    known: Record | None = None


@dataclass(frozen=True)
class Converted:
    """The record of a case, and whether its files were there already; or the ``problem`` for which it has none."""

    case: str
    record: Record | None = None
    kept: bool = False
    problem: str = ""


def convert_case(setting: Setting, job: Job) -> Converted:
    """Write the files of a case, unless they are there and were made of the same sources in the same way."""
    case = job.case
    try:
        sources = {job.names[path]: file_sha256(path) for path in case.files if path.is_file()}
        recipe = _recipe(setting, job)
        if job.known is not None and _is_kept(setting.folder, job.known, recipe, sources):
            return Converted(case.name, job.known, kept=True)
        return Converted(case.name, _convert(setting, job, sources, recipe))
    except InputError as error:
        return Converted(case.name, problem=str(error))


def _convert(setting: Setting, job: Job, sources: Mapping[str, str], recipe: str) -> Record:
    dataset, case, folder = setting.dataset, job.case, setting.folder
    image, label_map = dataset.load(case)
    count = 1 if is_one_picture(case, image.channels, setting.ending) else image.channels
    names = setting.target.image_names(case.name, count, setting.ending)
    targets = [folder / f"images{job.part}" / name for name in names]
    write = write_pictures if image.geometry.spatial_dims == 2 else write_volumes
    written = write(case.images, image, targets, link=setting.link)
    # One channel of each file, or files that were joined or divided.
    one_each = len(targets) == len(case.images)
    origins = [[path] for path in case.images] if one_each else [list(case.images)] * len(targets)
    record: Record = {"case": case.name, "part": "training" if job.part == "Tr" else "test", "group": job.group}
    if label_map is not None:
        labels = setting.labels.encode(label_map, str(case.label))
        target = folder / f"labels{job.part}" / f"{case.name}{setting.ending}"
        written.append(_write_mask(case, labels, image.geometry, target, targets[0], setting.link))
        origins.append(list(case.mask_files))
        record["values"] = sorted(map(int, np.unique(labels)))
    return {
        **record,
        "sheared": _is_sheared(image),
        "sources": [{"file": name, "sha256": digest} for name, digest in sources.items()],
        "files": [
            _describe(file, folder, [job.names[path] for path in paths])
            for file, paths in zip(written, origins, strict=True)
        ],
        "recipe": recipe,
    }


def is_one_picture(case: Case, channels: int, ending: str) -> bool:
    """Return whether the image is written as one picture in colour, as nnU-Net reads natural images."""
    return channels == 3 and len(case.images) == 1 and is_picture(case.images[0]) and ending in (".png", ".tif")


def _write_mask(
    case: Case, labels: npt.NDArray[Any], geometry: Geometry, target: Path, image: Path, link: bool
) -> WrittenFile:
    """Write the mask of a case; the file itself is copied if it holds the same numbers on the same grid."""
    files = case.mask_files
    reason = f"{len(files)} files joined" if len(files) > 1 else _why_not_copied(files[0], labels, geometry, target)
    if not reason:
        return copy_file(files[0], target, link=link)
    write_label_map(LabelMap(labels, geometry), target, like=image)
    return WrittenFile(target, "written", reason)


def _why_not_copied(path: Path, labels: npt.NDArray[Any], geometry: Geometry, target: Path) -> str:
    if target.suffix == ".png":
        reason = "" if is_plain_png(path) else "to an 8-bit grey PNG"
    elif target.name.endswith(".nii.gz"):
        reason = why_not_copied(path, geometry, 3) or ("" if is_gzip(path) else "compressed")
    else:
        reason = f"to {target.suffix}"
    if reason:
        return reason
    stored = read_label_map(path).pixels
    # A palette, or a file in colour, has other numbers for other readers.
    return "" if np.array_equal(stored, labels) else "labels with consecutive values"


def _recipe(setting: Setting, job: Job) -> str:
    """Return a hash of all that the files of a case depend on, besides its sources."""
    dataset, labels = setting.dataset, setting.labels
    tree = [
        *(_FORMAT, setting.to, setting.ending, job.part, job.group, job.case.name, list(job.names.values())),
        *(dataset.channel_names, dataset.channels_last, dataset.foreground, sorted(dataset.mask_colours.items())),
        *(sorted(dataset.merged_labels.items()), [part.value for part in job.case.masks], labels.to_json()),
    ]
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()[:16]


def _is_kept(folder: Path, known: Record, recipe: str, sources: Mapping[str, str]) -> bool:
    """Return whether the recorded files are there, and were made of these sources in this way."""
    if known["recipe"] != recipe or {entry["file"]: entry["sha256"] for entry in known["sources"]} != sources:
        return False
    files = {folder / entry["file"]: entry["sha256"] for entry in known["files"]}
    return all(path.is_file() and file_sha256(path) == digest for path, digest in files.items())


def _describe(file: WrittenFile, folder: Path, origins: list[str]) -> dict[str, Any]:
    place = file.path.relative_to(folder).as_posix()
    named = {"file": place, "sha256": file_sha256(file.path), "from": origins, "how": file.how}
    return {**named, **({"changes": file.reason} if file.reason else {})}


def _is_sheared(image: Image) -> bool:
    """Return whether the axes of a volume are not perpendicular."""
    axes = image.geometry.direction
    return bool(np.abs(axes.T @ axes - np.eye(len(axes))).max() > _PERPENDICULAR)


def name_sources(case: Case, names: Mapping[Path, str]) -> dict[Path, str]:
    """Return the names of a case's files, from those of the dataset's files by their plain paths."""
    return {path: names[plain_path(path)] for path in case.files}
