"""Masks of earlier predictions: which are kept, and how the others are renamed."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deconvseg.data import Case, Image, LabelMap, RegionFiles, case_stem, check_same_grid, read_label_map
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference.doubting import CaseDoubt
from deconvseg.inference.map_files import found_maps, hold_maps, map_paths
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.records import Records, image_files
from deconvseg.inference.region_masks import files_of_regions, hold_regions
from deconvseg.inference.wanting import Wanted
from deconvseg.planning import Plan
from deconvseg.runs import file_sha256, name_precision
from deconvseg.system import writing_error


@dataclass(frozen=True)
class Verdict:
    """Whether an existing mask is kept, and a remark on it; with ``retire`` it is renamed instead of replaced.

    ``doubt`` is the recorded doubt of a kept mask.
    """

    stands: bool
    text: str | None = None
    retire: bool = False
    doubt: CaseDoubt | None = None


def maps_path(mask: Path) -> Path:
    """Return the path of a mask's probabilities."""
    return mask.with_name(f"{case_stem(mask)}.npz")


def judge(
    path: Path,
    case: Case,
    predictor: Predictor,
    records: Records,
    *,
    load: Callable[[Case], Image],
    wanted: Wanted,
) -> Verdict:
    """Decide from its record whether the mask at ``path`` equals what predicting the case now would give.

    A mask with a record is kept if its file, its image's files and the predictor are those of the record, and if its
    probabilities and regions exist where they are requested. A mask without a record, or one that was edited since, is
    kept if it can be read, is on the image's grid, holds the run's labels and is not older than its image.
    """
    record = records[path]
    known = record is not None and _has_hash(path, record.sha256)
    if record is not None and known:
        if record.precision != predictor.precision:
            made, now = name_precision(record.precision), name_precision(predictor.precision)
            return Verdict(False, f"its mask was made in {made}, and is predicted again in {now}")
        if record.made_by != wanted.origin(predictor.identity):
            return Verdict(False, "its mask was made by another run or with other options, and is predicted again")
        files = image_files(case)
        states = zip(record.images, files, strict=False)
        if len(record.images) != len(files) or not all(state.holds_for(file) for state, file in states):
            return Verdict(False, "its image has changed since its mask was made, which is predicted again")
    else:
        reason = _reason_against(path, case, predictor, load)
        if reason is not None:
            return Verdict(False, f"its mask {reason}, and is predicted again", retire=True)
    # A mask that was recorded without probabilities may be next to those of an earlier mask.
    unmade = record is not None and known and wanted.probabilities and not record.probabilities
    if unmade or not _has_maps(path, predictor.plan, wanted):
        return Verdict(False, "its probabilities are missing or damaged, and it is predicted again", retire=not known)
    unseparated = record is not None and known and wanted.regions and not record.regions
    if wanted.regions and (unseparated or not hold_regions(path, predictor.plan)):
        return Verdict(False, "its regions are missing or damaged, and it is predicted again", retire=not known)
    if record is not None and known:
        return Verdict(True, doubt=record.doubt)
    how = "was not made" if record is None else "was changed after it was made"
    return Verdict(True, f"its mask {how} by this command, according to {records.file.name}; it is kept")


def retire(path: Path) -> str | None:
    """Rename an earlier mask, its probabilities and regions, and return the new name; None if there is none."""
    return _rename((maps_path(path), *found_maps(path), *RegionFiles(path, {}).present, path))


def retire_maps(path: Path, plan: Plan, records: Records, wanted: Wanted) -> str | None:
    """Rename the probabilities of an earlier prediction that a new mask does not replace; return a new name or None."""
    record = records[path]
    if record is None or not record.probabilities:
        return None
    replaced = {maps_path(path)} if wanted.packed else set()
    replaced |= set(map_paths(path, plan)) if wanted.pictured else set()
    return _rename(file for file in (maps_path(path), *found_maps(path)) if file not in replaced)


def retire_regions(path: Path, plan: Plan, wanted: Wanted) -> str | None:
    """Rename the files of regions of an earlier mask that a new one does not replace; return a new name or None."""
    replaced = set(files_of_regions(path, plan).paths.values()) if wanted.regions else set()
    return _rename(file for file in RegionFiles(path, {}).present if file not in replaced)


def _rename(files: Iterable[Path]) -> str | None:
    """Rename files to ``NAME.old``; return the last new name, None if no file exists."""
    moved = None
    for file in files:
        if file.is_file() or file.is_symlink():
            try:
                moved = file.replace(file.with_name(f"{file.name}.old"))
            except OSError as error:
                raise writing_error(file, error) from error
    return None if moved is None else moved.name


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        return file_sha256(path) == sha256
    except InputError:
        # Errors of reading are reported when the labels are read.
        return False


def _reason_against(path: Path, case: Case, predictor: Predictor, load: Callable[[Case], Image]) -> str | None:
    try:
        mask = read_label_map(path)
    except DeconvsegError as error:
        return f"is damaged ({error})"
    values = predictor.plan.labels.values
    foreign = np.setdiff1d(np.unique(mask.pixels), values)
    if foreign.size:
        found = ", ".join(map(str, foreign[:5]))
        return f"holds the values {found}, but the run's labels are {', '.join(map(str, values))}"
    try:
        image = load(case)
    except DeconvsegError:
        return "belongs to an image that cannot be read"
    reason = _grid_differs(image, case, mask, path)
    if reason is None and path.stat().st_mtime_ns < max(file.stat().st_mtime_ns for file in image_files(case)):
        return "is older than its image"
    return reason


def _grid_differs(image: Image, case: Case, mask: LabelMap, path: Path) -> str | None:
    try:
        check_same_grid(image, case.images[0], mask, path)
    except DeconvsegError as error:
        return f"is on another grid ({error})"
    return None


def _has_maps(path: Path, plan: Plan, wanted: Wanted) -> bool:
    """Whether the requested probabilities exist; only quick checks for damage are made."""
    if not wanted.probabilities:
        return True
    try:
        shape = read_label_map(path).shape
    except DeconvsegError:
        return False
    packed = not wanted.packed or _holds_archive(maps_path(path), (plan.outputs, *shape))
    return packed and (not wanted.pictured or hold_maps(path, plan, shape))


def _holds_archive(file: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file contains undamaged probabilities of that shape."""
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                return False
            with archive.open("probabilities.npy") as stream:
                np.lib.format.read_magic(stream)
                return tuple(np.lib.format.read_array_header_1_0(stream)[0]) == shape
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return False
