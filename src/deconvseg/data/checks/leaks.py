"""Leaks between splits: one subject, or one image under two names, in training and in a scored split."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from deconvseg.data.dataset import Case, Dataset, list_names
from deconvseg.data.splits.reading import Splits

_BYTES_AT_ONCE = 2**20
_BYTES_COMPARED = 4096  # of each file, before whole files are compared
_EXAMPLES = 2


def find_leaks(dataset: Dataset, parts: Sequence[Splits]) -> list[str]:
    """Return sentences about groups (`Dataset.groups`) and images that are in several of train, val and test.

    Each of ``parts`` (a fold of a cross-validation) is checked by itself. Images are equal if their files are links to
    one file or have the same decompressed content. Only files that agree in size and in a part of their content are
    read whole.

    Example:
        >>> from deconvseg.data import Splits, find_leaks, open_dataset
        >>> dataset = open_dataset("DATASET")
        >>> find_leaks(dataset, [Splits(("disc0", "disc1"), ("disc2",), ("disc3",))])
        []

    """
    return [*_divided_groups(dataset, parts), *_divided_images(dataset, parts)]


def _divided_groups(dataset: Dataset, parts: Sequence[Splits]) -> list[str]:
    members: dict[str, list[str]] = defaultdict(list)
    for name, group in dataset.groups.items():
        members[group].append(name)
    splits = [_split_by_case(part) for part in parts]
    found = {group: pair for group, names in members.items() if (pair := _first_divided(names, splits)) is not None}
    if not found:
        return []
    examples = "; ".join(
        f"{group}: {first} ({where}) and {second} ({there})"
        for group, ((first, where), (second, there)) in list(found.items())[:_EXAMPLES]
    )
    return [
        f"{len(found)} groups are in several splits, which makes scores too good; cases of the same subject or group "
        f"are {examples}; keep each in one split"
    ]


def _divided_images(dataset: Dataset, parts: Sequence[Splits]) -> list[str]:
    splits = [_split_by_case(part) for part in parts]
    used = {name for split_of in splits for name in split_of}
    lines = []
    for twins in find_twins([case for case in dataset.cases if case.name in used]):
        pair = _first_divided([case.name for case in twins], splits)
        if pair is not None:
            (first, where), (second, there) = pair
            files = [dataset.case(name).images[0] for name in (first, second)]
            lines.append(f"{files[0]} ({where}) and {files[1]} ({there})")
    if not lines:
        return []
    return [
        f"{len(lines)} images are in several splits under two names, which makes scores too good: "
        f"{list_names(lines, limit=3)}; keep one of each"
    ]


def _split_by_case(part: Splits) -> dict[str, str]:
    return {name: split for split, listed in vars(part).items() for name in listed}


def _first_divided(
    names: Sequence[str], splits: Iterable[Mapping[str, str]]
) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Return two of these cases in different splits of one fold, with their splits."""
    for split_of in splits:
        placed = [(name, split_of[name]) for name in names if name in split_of]
        second = next((pair for pair in placed if pair[1] != placed[0][1]), None)
        if second is not None:
            return placed[0], second
    return None


def find_twins(cases: Iterable[Case]) -> list[list[Case]]:
    """Return groups of cases whose image files are equal channel by channel: links to one file, or equal content."""
    alike: dict[Hashable, list[Case]] = defaultdict(list)
    for case in cases:
        alike[tuple(_likeness(path) for path in case.images)].append(case)
    twins = []
    for group in alike.values():
        by_content: dict[Hashable, list[Case]] = defaultdict(list)
        for case in group if len(group) > 1 else ():
            by_content[tuple(_content(path) for path in case.images)].append(case)
        twins += [found for found in by_content.values() if len(found) > 1]
    return twins


def _likeness(path: Path) -> Hashable:
    """Return a cheap fingerprint: size and a part of the middle, or for gzip the checksum and size in its last bytes.

    Uncompressed volumes of one grid all have the same size; only files with equal fingerprints are read whole.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(2) != b"\x1f\x8b":
                size = os.fstat(stream.fileno()).st_size
                stream.seek(size // 2)
                return size, stream.read(_BYTES_COMPARED)
            stream.seek(-8, os.SEEK_END)
            return stream.read(8)
    except OSError:
        return str(path)  # the error is reported when the case is read


def _content(path: Path) -> Hashable:
    digest = hashlib.blake2b()
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            while block := stream.read(_BYTES_AT_ONCE):
                digest.update(block)
    except (OSError, EOFError, gzip.BadGzipFile):
        return str(path)
    return digest.digest()
