"""A folder of predicted masks without truth: the volumes of each mask, and the warnings about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg.data import (
    Image,
    LabelMap,
    case_stem,
    class_colours,
    is_dataset,
    open_dataset,
    open_images,
    read_image,
    read_label_map,
)
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation.matching import list_masks
from deconvseg.evaluation.origin import last_records
from deconvseg.runs import PREDICTIONS

# A folder with any of these files is a run, even if the others are lost; its curves are a picture, not a mask.
_OF_RUNS = ("plan.json", "manifest.json", "config.json", "metrics.jsonl", "validation")


@dataclass(frozen=True)
class PredictedMask:
    """The mask of a named case, with its image files if they were found, and the records of ``predict``."""

    name: str
    file: Path
    images: tuple[Path, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """The warnings of ``predict``."""
        found = self.record.get("warnings")
        return [str(text) for text in found] if isinstance(found, list) else []

    @property
    def doubtful(self) -> bool:
        """Whether the prediction was flagged as doubtful."""
        doubt = self.record.get("doubt")
        return isinstance(doubt, Mapping) and doubt.get("doubtful") is True

    def read(self) -> tuple[LabelMap, Image | None]:
        """Return the mask and its image, both in canonical order; None for an unreadable or unfitting image."""
        mask = read_label_map(self.file).canonical()
        if not self.images:
            return mask, None
        try:
            image = read_image(self.images, channels_last=True).canonical()
        except DeconvsegError:
            return mask, None
        return mask, image if image.shape == mask.shape else None


@dataclass(frozen=True)
class MaskFolder:
    """The masks in a folder, the names and colours of their labels, and the names of the runs that made them."""

    path: Path
    masks: tuple[PredictedMask, ...]
    labels: Mapping[int, str]
    colours: Mapping[str, str]
    runs: tuple[str, ...]


def is_mask_folder(path: Path) -> bool:
    """Whether a folder holds masks and is not a run folder."""
    if not path.is_dir() or any((path / name).exists() for name in _OF_RUNS):
        return False
    return (path / PREDICTIONS).is_file() or bool(list_masks(path))


def read_mask_folder(path: Path, images: Path | None = None) -> MaskFolder:
    """Find the masks in a folder, and their ``images`` in another folder, a dataset or a file.

    Images are matched by the names that ``predict`` recorded, or else by the name of the mask. Raises
    :class:`InputError` if there are no masks, or if ``images`` holds no images.
    """
    records = last_records(path)
    found = list_masks(path)
    if not found:
        raise InputError(f"{path}: contains no masks; give the folder that predict wrote")
    by_case = {} if images is None else _list_images(images)
    masks = []
    for name, files in sorted(found.items()):
        for file in files:
            record = records.get(file.relative_to(path).as_posix(), {})
            masks.append(PredictedMask(name, file, _find_images(name, record, images, by_case), record))
    runs = [run for mask in masks for run in mask.record.get("runs") or () if isinstance(run, Mapping)]
    labels: dict[int, str] = {}
    declared: dict[str, str] = {}
    for run in runs:
        labels |= {int(value): str(name) for value, name in _strings(run.get("labels")) if value.isdecimal()}
        declared |= dict(_strings(run.get("colours")))
    names = tuple(dict.fromkeys(str(run.get("name")) for run in runs))
    return MaskFolder(path, tuple(masks), labels, class_colours(list(labels.values())) | declared, names)


def _strings(tree: Any) -> list[tuple[str, str]]:
    if not isinstance(tree, Mapping):
        return []
    return [(key, value) for key, value in tree.items() if isinstance(key, str) and isinstance(value, str)]


def _list_images(images: Path) -> dict[str, tuple[Path, ...]]:
    if is_dataset(images):
        return {case.name: tuple(case.images) for case in open_dataset(images).cases}
    return {case.name: tuple(case.images) for case in open_images(images)[0]}


def _find_images(
    name: str, record: Mapping[str, Any], images: Path | None, by_case: Mapping[str, Sequence[Path]]
) -> tuple[Path, ...]:
    if images is None:
        return ()
    recorded = record.get("images")
    if isinstance(recorded, list) and recorded and all(isinstance(each, Mapping) for each in recorded):
        files = tuple(images / str(each.get("name")) for each in recorded)
        if all(file.is_file() for file in files):
            return files
    return tuple(by_case.get(name) or by_case.get(case_stem(Path(name))) or ())


def measure_volumes(mask: LabelMap) -> dict[int, float]:
    """Return the size of each label value except the background: in millilitres in 3D, in pixels in 2D."""
    values, counts = np.unique(mask.pixels, return_counts=True)
    unit = float(np.prod(mask.geometry.spacing)) / 1000 if mask.pixels.ndim == 3 else 1.0
    return {int(value): int(count) * unit for value, count in zip(values, counts, strict=True) if value != 0}
