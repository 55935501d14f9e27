"""Records of a dataset at the start of a run, and checks that the listing and the files have not changed since."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deconvseg.data.dataset import Case, Dataset, list_names
from deconvseg.errors import InputError
from deconvseg.progress import SILENT, Console, each, takes_console


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a pipe, a device or a folder, where a file is expected")
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def file_state(path: Path) -> list[int]:
    """Return a file's size, modification time (ns), inode change time (ns) and inode number, which change with it.

    A file replaced by one of the same size and date (an archive with fixed dates, ``cp -p``) has another inode or
    inode change time. For a missing file the list is [-1].
    """
    if not path.exists():
        return [-1]
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def name_files(dataset: Dataset) -> dict[str, Path]:
    """Return the files of all cases by names that do not reveal the location of the dataset.

    Names are relative to the dataset's folder; a file elsewhere is named by its case and file name.
    """
    folder = plain_path(dataset.root if dataset.root.is_dir() else dataset.root.parent)
    named: dict[str, Path] = {}
    for case in dataset.cases:
        for file in case.files:
            path = plain_path(file)
            inside = path.is_relative_to(folder)
            name = path.relative_to(folder).as_posix() if inside else f"{case.name}/{path.name}"
            if not inside and named.get(name, path) != path:
                name = f"{case.name}/{len(named)}/{path.name}"
            named[name] = path
    return named


@takes_console
def record_dataset(dataset: Dataset, console: Console = SILENT) -> dict[str, Any]:
    """Return the record for :func:`check_dataset_unchanged`: hashes of the listing, SHA-256 and state of every file.

    The keys are ``listing``, ``data`` (SHA-256 by the names of :func:`name_files`) and ``states``.
    """
    named = name_files(dataset)
    data, states = {}, {}
    for name in each(list(named), "hashing the data", console, str):
        # The state first, so that a change of the file during hashing is detected later.
        states[name] = file_state(named[name])
        data[name] = file_sha256(named[name])
    return {"listing": _describe_listing(dataset, named), "data": data, "states": states}


@takes_console
def check_dataset_unchanged(record: Mapping[str, Any], dataset: Dataset, console: Console = SILENT) -> None:
    """Raise an `InputError` that names what has changed since :func:`record_dataset` made the record.

    Other cases, files, channels or labels are a change. A file whose state differs is read, and only different
    contents are a change. Older records have absolute paths and no listing; then the files that they name are read.
    """
    data, states = record.get("data", {}), record.get("states", {})
    advice = "train a new run in another folder (`output`)"
    if "listing" not in record:
        for name in each(list(data), "checking the data", console, str):
            if file_sha256(Path(name)) != data[name]:
                raise InputError(f"{name}: has changed since the run was started; {advice}")
        return
    named = name_files(dataset)
    if missing := sorted(data.keys() ^ named.keys()):
        raise InputError(
            f"{dataset.root}: lists other files than when the run was started ({list_names(missing)}); {advice}"
        )
    for part, digest in _describe_listing(dataset, named).items():
        if record["listing"].get(part) != digest:
            raise InputError(f"{dataset.root}: lists other {part} than when the run was started; {advice}")
    for name in each(list(named), "checking the data", console, str):
        path = named[name]
        if file_state(path) != states.get(name) and file_sha256(path) != data[name]:
            raise InputError(f"{path}: has changed since the run was started; {advice}")


def _describe_listing(dataset: Dataset, named: Mapping[str, Path]) -> dict[str, str]:
    names = {path: name for name, path in named.items()}

    def name(path: Path | None) -> str | None:
        return None if path is None else names[plain_path(path)]

    labels = sorted((dataset.label_names or {}).items())

    def masks(case: Case) -> list[Any]:
        return [[[name(part.path), part.value] for part in case.masks]] if case.masks else []

    regions = [[region.name, list(region.labels), region.written_as] for region in dataset.regions or ()]
    # Only where they say something, so that runs of before still know their data.
    changes = [sorted(part.items()) for part in (dataset.merged_labels, dataset.mask_colours) if part]
    return {
        "cases or files of cases": _digest(
            [[c.name, [name(i) for i in c.images], name(c.label), *masks(c)] for c in dataset.cases]
        ),
        "channels": _digest([dataset.channel_names, dataset.channels_last]),
        "labels": _digest(
            [labels, dataset.label_names is None, regions, dataset.ignore_label, dataset.foreground, *changes]
        ),
    }


def plain_path(path: Path) -> Path:
    """Return the absolute path without ``..`` components; links are not resolved."""
    return Path(os.path.normpath(path.absolute()))


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()
