"""Series of DICOM images: the files of a folder, sorted out by the UIDs in their headers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from filecmp import cmp
from functools import lru_cache
from os import PathLike
from pathlib import Path
from time import time_ns

from deconvseg.data import list_names
from deconvseg.data.formats.dicom_files import is_cut_short, is_dicom_file
from deconvseg.data.layouts.left_out import walk_folders
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations.dicom.instances import Instance, read_instance
from deconvseg.system import does_not_exist
from deconvseg.text import number_of

# A folder that changed so recently may change again without another time of change.
_SETTLED = 2 * 10**9


@dataclass(frozen=True)
class Series:
    """The images of one series, as the headers describe them.

    ``files`` are in the order of the slices: along the normal of the first one, or by their numbers where they have no
    position. ``frame_of_reference`` is empty where the headers give none, and ``number`` is then None.

    Example:
        >>> from deconvseg.integrations.dicom import find_series
        >>> for series in find_series("STUDY").series:
        ...     print(series.modality, series.description, len(series.files))
        MR T1 12
        MR FLAIR 12

    """

    uid: str
    study_uid: str
    modality: str
    description: str
    number: int | None
    frame_of_reference: str
    files: tuple[Path, ...]

    @property
    def source(self) -> Path:
        """The path that stands for the series as an image: its first file by name."""
        return min(self.files)

    @property
    def folder(self) -> Path:
        """The innermost folder that holds all files."""
        shared = self.source.parent
        while not all(file.is_relative_to(shared) for file in self.files):
            shared = shared.parent
        return shared

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The headers of the files, in the order of the files."""
        return tuple(read_instance(file) for file in self.files)

    def __str__(self) -> str:
        number = "" if self.number is None else f"series {self.number}, "
        described = f"{self.modality or 'unknown modality'} {self.description!r}"
        return f"{described} ({number}{number_of(len(self.files), 'file')}, {self.uid})"


@dataclass(frozen=True)
class Skipped:
    """A file that belongs to no series of images, and why; ``damaged`` if it may be a missing slice of one."""

    path: Path
    reason: str
    damaged: bool = False


@dataclass(frozen=True)
class FoundSeries:
    """The series of a folder, by study, number and UID, and the files that were skipped."""

    series: tuple[Series, ...]
    skipped: tuple[Skipped, ...]


def find_series(folder: str | PathLike[str]) -> FoundSeries:
    """Return the series of images in a folder of one or many studies and its subfolders, without reading pixels.

    Files are sorted out by the UIDs in their headers, whatever their names and folders. Other objects (structured
    reports, presentation states, segmentations, plans), secondary captures, copies of a file and damaged files are
    skipped, each with the reason. Raises :class:`~deconvseg.errors.InputError` for a folder that does not exist.

    Example:
        >>> from deconvseg.integrations.dicom import find_series
        >>> found = find_series("STUDY")
        >>> len(found.series), found.skipped
        (2, ())

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is a file, where a folder is expected" if folder.exists() else does_not_exist(folder)
        )
    return _collect(path for _, files in walk_folders(folder, whole=False) for path in _dicom_of(files))


def series_of(path: str | PathLike[str]) -> Series:
    """Return the series of an image's path: that of a file, or the only one in a folder (not in its subfolders).

    A file's series is looked for in its folder. Raises :class:`~deconvseg.errors.InputError` for a folder of several
    series or of none, and for a file that holds no image.

    Example:
        >>> from deconvseg.integrations.dicom import find_series, series_of
        >>> first = find_series("STUDY").series[0]
        >>> series_of(first.source) == first
        True

    """
    path = Path(path)
    if not path.is_dir():
        instance = read_instance(path)
        if instance.not_image is not None:
            raise InputError(f"{path}: {instance.not_image}; give a series of images")
        found = _undamaged(path.parent)
        if instance.is_secondary:
            return _as_series([instance])  # asked for by its name
        own = instance.study_uid, instance.series_uid
        return next((each for each in found.series if (each.study_uid, each.uid) == own), _as_series([instance]))
    found = _undamaged(path)
    if len(found.series) == 1:
        return found.series[0]
    if not found.series:
        raise InputError(f"{path} holds no series of images{describe_skipped(found.skipped)}")
    raise InputError(
        f"{path} holds {len(found.series)} series, where one is expected: {list_series(found.series)}; choose one with "
        "`series`"
    )


def list_series(series: Iterable[Series]) -> str:
    """Return the series in words, at most eight."""
    return list_names((str(each) for each in series), limit=8)


def describe_skipped(skipped: Sequence[Skipped]) -> str:
    """Return the skipped files as the end of a message; empty if there are none."""
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for each in skipped:
        by_reason[each.reason].append(each.path)
    return "".join(
        f"; {number_of(len(paths), 'file')} skipped: {reason} ({list_names((path.name for path in paths), limit=3)})"
        for reason, paths in by_reason.items()
    )


def _undamaged(folder: Path) -> FoundSeries:
    """Return the series of a folder; refuse one with a damaged file, which may be a slice that a series lacks."""
    found = _in_folder(folder)
    for each in found.skipped:
        if each.damaged:
            raise InputError(f"{each.path} {each.reason}")
    return found


def _in_folder(folder: Path) -> FoundSeries:
    """Return the series among the files directly in a folder."""
    changed = folder.stat().st_mtime_ns
    if time_ns() - changed < _SETTLED:
        return _list_folder(folder)
    return _settled(folder, changed)


@lru_cache(maxsize=64)
def _settled(folder: Path, changed: int) -> FoundSeries:
    return _list_folder(folder)


def _list_folder(folder: Path) -> FoundSeries:
    return _collect(_dicom_of([path for path in sorted(folder.iterdir()) if not path.is_dir()]))


def _dicom_of(files: Iterable[Path]) -> list[Path]:
    """Return the DICOM files among those of a folder, with any that may have been cut short."""
    files = list(files)
    known = [path for path in files if is_dicom_file(path)]
    return [path for path in files if path in set(known) or is_cut_short(path)] if known else []


def _collect(paths: Iterable[Path]) -> FoundSeries:
    grouped: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    skipped = []
    for path in paths:
        try:
            instance = read_instance(path)
        except MissingPackageError:
            raise
        except InputError as error:
            skipped.append(Skipped(path, str(error).removeprefix(str(path)).lstrip(": "), damaged=True))
            continue
        if instance.not_image is not None:
            skipped.append(Skipped(path, instance.not_image))
        elif instance.is_secondary:
            skipped.append(Skipped(path, "a secondary capture"))
        else:
            grouped[instance.study_uid, instance.series_uid].append(instance)
    found = []
    for instances in grouped.values():
        kept, copies = _without_copies(instances)
        found.append(_as_series(kept))
        skipped += [Skipped(each.path, "a copy of another file of its series") for each in copies]
    found.sort(key=lambda each: (each.study_uid, each.number is None, each.number or 0, each.uid))
    return FoundSeries(tuple(found), tuple(skipped))


def _without_copies(instances: Sequence[Instance]) -> tuple[list[Instance], list[Instance]]:
    """Return the files of a series, and those that repeat one of them byte for byte: the fullest folder keeps its."""
    counts = Counter(each.path.parent for each in instances)
    kept: dict[str, list[Instance]] = defaultdict(list)
    copies = []
    for each in sorted(instances, key=lambda each: (-counts[each.path.parent], each.path)):
        if each.uid and any(cmp(each.path, other.path, shallow=False) for other in kept[each.uid]):
            copies.append(each)
        else:
            kept[each.uid].append(each)
    return [each for members in kept.values() for each in members], copies


def _as_series(instances: Sequence[Instance]) -> Series:
    ordered = sorted(instances, key=lambda each: each.path)
    first = ordered[0]
    normal = first.frames[0].normal if first.frames else None

    def place(each: Instance) -> tuple[float, float, str]:
        frame = each.frames[0] if each.frames else None
        along = 0.0 if normal is None or frame is None or frame.position is None else float(normal @ frame.position)
        return along, float(each.number or 0), str(each.path)

    return Series(
        uid=first.series_uid,
        study_uid=first.study_uid,
        modality=first.modality,
        description=first.description,
        number=first.series_number,
        frame_of_reference=first.frame_of_reference,
        files=tuple(each.path for each in sorted(ordered, key=place)),
    )
