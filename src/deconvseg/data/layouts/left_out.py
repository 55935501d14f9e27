"""Report images that no case uses, grouped into one problem per kind."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deconvseg.data.dataset import Problem, list_names
from deconvseg.data.file_names import case_stem, files_of, is_copy, listed_as
from deconvseg.data.formats.dicom_files import begins_as_dicom
from deconvseg.data.formats.image_endings import COMPANIONS, DICOM, PACKED, SIGNATURES, SYSTEM_FOLDERS, UNREAD
from deconvseg.data.formats.registry import image_suffix, image_suffixes, is_claimed

# Most files without a known ending that are opened per folder; the first files reveal a DICOM series.
_MOST_OPENED = 50
_NAMES = 3
_NESTED = "in subfolders, where only files of the folder itself are read"
_CONVERT = "convert to .nii.gz (3D) or .png (2D)"
_RENAME = "give them the ending of their format"

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class _Kind:
    """The reason why files are left out; ``ending`` is their suffix if that is the reason."""

    why: Literal["dicom", "unread", "other", "hidden", "content"]
    ending: str = ""


def find_left_out(
    folder: Path,
    known: Iterable[Path],
    *,
    severity: Severity = "error",
    other: Severity | None = None,
    because: str = _NESTED,
    skip: Collection[str] = (),
    deep: bool = True,
) -> tuple[Problem, ...]:
    """Return a problem for each kind of image in or below a folder that is not one of the ``known`` files.

    ``known`` are the files that are read or already reported. Text files, tables and other companions are ignored, as
    are files next to a known file of the same name (previews, data files of a header). Files of a supported format are
    reported with the reason ``because`` (their folder or name) and the severity ``other``. Files without a known
    ending are opened, because DICOM files often have none. Folders named in ``skip`` are not searched; without
    ``deep`` no subfolders are.
    """
    if not folder.is_dir():
        return ()
    files = set(known)
    found = _sort(_strays([folder], files, skip, deep), files)
    return tuple(
        _describe(folder, kind, paths, because, (other or severity) if kind.why == "other" else severity)
        for kind, paths in found.items()
    )


def find_unlisted(table: Path, folders: Iterable[Path], listed: Iterable[Path]) -> tuple[Problem, ...]:
    """Return a warning for each kind of image that is next to or below the listed images but is not listed.

    The table's own folder and its parents may contain unrelated files: of them only the ``folders`` are searched.
    """
    files, places, around = set(listed), set(folders), {table.parent, *table.parent.parents}
    apart = places - around
    outermost = [place for place in apart if apart.isdisjoint(place.parents)]
    strays = [*_strays(sorted(outermost), files), *_strays(sorted(places & around), files, deep=False)]
    because = f"that {table.name} does not list"
    return tuple(
        _describe(table.parent, kind, paths, because, "warning") for kind, paths in _sort(strays, files).items()
    )


def _sort(strays: Iterable[tuple[_Kind, Path]], known: Collection[Path]) -> dict[_Kind, list[Path]]:
    found: dict[_Kind, list[Path]] = defaultdict(list)
    for kind, path in strays:
        found[kind].append(path)
    if found:
        parts = {file for path in known for file in files_of(path)}
        found.update({kind: [path for path in paths if path not in parts] for kind, paths in found.items()})
    ordered = sorted(found.items(), key=lambda item: (item[0].why, item[0].ending))
    return {kind: sorted(paths) for kind, paths in ordered if paths}


def find_dicom(path: Path) -> str | None:
    """Return a sentence about a DICOM file or a folder of DICOM files; None for anything else."""
    if path.is_file():
        if _ending(path) in DICOM or path.name.upper() == "DICOMDIR" or _content(path) == "dicom":
            return f"{path} is DICOM, which is not read; {_conversion(path.parent)}"
        return None
    files = [stray for kind, stray in _strays([path], ()) if kind.why == "dicom"] if path.is_dir() else []
    if not files:
        return None
    return (
        f"{path} holds {len(files)} DICOM files ({_list(path, sorted(files))}), which are not read; {_conversion(path)}"
    )


def name_left_out(problems: Collection[Problem]) -> str:
    """Return the problems as the end of another message; empty if there are none."""
    return "".join(f"; {problem.file} {problem.message}" for problem in problems)


def _strays(
    folders: Iterable[Path], known: Collection[Path], skip: Collection[str] = (), deep: bool = True
) -> Iterator[tuple[_Kind, Path]]:
    beside = {(path.parent, case_stem(path)) for path in known}
    for place, paths in (walked for folder in folders for walked in walk_folders(folder, skip, deep)):
        unsure: list[Path] = []
        for path in paths:
            if path in known or path.name.startswith("._"):
                continue
            ending = _ending(path)
            stem = path.name[: len(path.name) - len(ending)]
            if image_suffix(path) or is_claimed(path):
                if listed_as(path) == path and not (is_copy(path) and (place, case_stem(path)) in beside):
                    yield _Kind("hidden" if path.name.startswith(".") else "other"), path
            elif (place, stem) in beside or (place, path.stem) in beside or _is_second_of_pair(path):
                continue
            elif ending in DICOM or path.name.upper() == "DICOMDIR":
                yield _Kind("dicom"), path
            elif (ending in UNREAD or ending.count(".") > 1) and not stem.endswith(("_xfm", "_affine")):
                yield _Kind("unread", ending), path
            elif ending not in COMPANIONS and not path.name.startswith(".") and path.is_file():
                unsure.append(path)
        yield from _look_into(unsure)


def _is_second_of_pair(path: Path) -> bool:
    """Return whether the file is the second of a header and data pair (AFNI, Philips); reports name the first."""
    first = {".head": ".brik", ".par": ".rec"}.get(path.suffix.lower())
    return first is not None and any(path.with_suffix(ending).exists() for ending in (first, first.upper()))


def walk_folders(
    folder: Path, skip: Collection[str] = (), deep: bool = True, *, whole: bool = True
) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the folders from ``folder`` down with their files; links are followed once, caches and previews skipped.

    A folder that is one image is listed as a file, unless ``whole`` is false.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            state = place.stat()
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            continue  # deleted meanwhile or unreadable, so no file in it is used either
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        files = []
        for entry in entries:
            path = place / entry.name
            if not _is_folder(entry) or path.suffix.lower() in (".zarr", ".n5"):
                files.append(path)
            elif whole and is_claimed(path):
                files.append(path)  # the folder is an image
            elif deep and entry.name.lower() not in SYSTEM_FOLDERS and entry.name not in skip:
                waiting.append(path)
        yield place, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _ending(path: Path) -> str:
    """Return the ending in lower case, including a compression suffix; for a pair, that of its first file."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    if suffix in PACKED and (inner in UNREAD or inner in image_suffixes()):
        return inner + suffix
    return suffix


def _look_into(paths: list[Path]) -> Iterator[tuple[_Kind, Path]]:
    """Classify files of one folder with unknown endings: all as DICOM if only DICOM is found, else single images."""
    contents = {path: _content(path) for path in paths[:_MOST_OPENED]}
    if "dicom" in contents.values():
        endless = {content for content in contents.values() if content} == {"dicom"}
        for path in paths:
            if contents.get(path, "dicom" if endless else "") == "dicom":
                yield _Kind("dicom"), path
        return
    for path, content in contents.items():
        if content == "image":
            yield _Kind("content"), path


def _content(path: Path) -> Literal["dicom", "image", ""]:
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return ""
    if begins_as_dicom(start):
        return "dicom"
    return "image" if start.startswith(SIGNATURES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP") else ""


def _describe(folder: Path, kind: _Kind, paths: list[Path], because: str, severity: Severity) -> Problem:
    count, names = len(paths), _list(folder, paths)
    files = "file" if count == 1 else "files"
    message = {
        "dicom": f"holds {count} DICOM {files} ({names}), left out; {_conversion(folder)}",
        "unread": f"holds {count} {files} ending in {kind.ending} ({names}), which is not read, left out; {_CONVERT}",
        "content": f"holds {count} image {files} without an ending that is read ({names}), left out; {_RENAME}",
        "other": f"holds {count} image {files} {because} ({names}), left out",
        "hidden": f"holds {count} hidden image {files} ({names}), left out",
    }[kind.why]
    return Problem(str(folder), message, "warning" if kind.why == "hidden" else severity)


def _list(folder: Path, paths: list[Path]) -> str:
    return list_names((Path(os.path.relpath(path, folder)).as_posix() for path in paths), limit=_NAMES)


def _conversion(folder: Path) -> str:
    return (
        f"convert the series with 'dcm2niix -z y -o OUTPUT {folder}' and give the .nii.gz files, or install "
        "deconvseg[dicom]"
    )
