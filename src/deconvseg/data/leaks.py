"""What makes scores too good: one subject, or one image under two names, in training and in a split that is scored."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from pathlib import Path

from deconvseg.data.dataset import Case, Dataset, list_names
from deconvseg.data.splits import Splits

_BYTES_AT_ONCE = 2**20
_EXAMPLES = 2


def find_leaks(dataset: Dataset, parts: Sequence[Splits]) -> list[str]:
    """Sentences about groups (`Dataset.groups`) and images that are in several of train, val and test.

    Each of ``parts`` is looked at by itself, as the folds of a cross-validation are. Images are the same where their
    files are: links to one file, or of the same content, unpacked. Only files of the same size are read.
    """
    return [*_divided_groups(dataset, parts), *_divided_images(dataset, parts)]


def _divided_groups(dataset: Dataset, parts: Sequence[Splits]) -> list[str]:
    groups = dataset.groups
    members: dict[str, list[str]] = defaultdict(list)
    for name, group in groups.items():
        members[group].append(name)
    several = {group: names for group, names in members.items() if len(names) > 1}
    found = {group: pair for group, names in several.items() if (pair := _first_divided(names, parts)) is not None}
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
    used = {name for part in parts for name in (*part.train, *part.val, *part.test)}
    lines = []
    for twins in find_twins([case for case in dataset.cases if case.name in used]):
        pair = _first_divided([case.name for case in twins], parts)
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


def _first_divided(names: Sequence[str], parts: Sequence[Splits]) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Two of these cases in different splits of one fold, with the splits."""
    for part in parts:
        split_of = {name: split for split, listed in vars(part).items() for name in listed}
        placed = [(name, split_of[name]) for name in names if name in split_of]
        for first, second in combinations(placed, 2):
            if first[1] != second[1]:
                return first, second
    return None


def find_twins(cases: Iterable[Case]) -> list[list[Case]]:
    """Cases whose image files are the same, channel by channel: links to one file, or of one content."""
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
    """What two equal files share without being read: the size, or of gzip what its last bytes say of the content."""
    try:
        with path.open("rb") as stream:
            if stream.read(2) != b"\x1f\x8b":
                return os.fstat(stream.fileno()).st_size
            stream.seek(-8, os.SEEK_END)
            return stream.read(8)
    except OSError:
        return str(path)  # named when its case is read


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
