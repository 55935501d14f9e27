"""Suggest patterns for the file names of a folder."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from deconvseg.data.file_names import case_stem, is_image
from deconvseg.data.layouts.left_out import walk_folders
from deconvseg.data.listing import ending_of

_MOST_FILES = 2000
_MASK_WORD = (
    r"(?:masks?|msk|d?seg|segmentations?|segmented|labels?|gt|ground[ _-]?truth|annotations?|anno|manual|truth|roi|"
    r"\d(?:st|nd)HO)"
)
_MASK_TAIL = re.compile(rf"(?P<base>.+?)(?P<tail>[ _.-]+{_MASK_WORD}[ _-]?\d*)", re.IGNORECASE)
_MASK_FOLDER = re.compile(rf".*(?<![a-z]){_MASK_WORD}(?![a-z]).*|.*ground[ _-]?truth.*|ann", re.IGNORECASE)


def propose_patterns(folder: Path) -> str:
    """Return the arguments ``image`` and ``mask`` that open a folder, or an empty string.

    Masks are assumed to have the name of their image followed by a word such as ``mask`` or ``gt``, or to be in a
    folder named by such a word.
    """
    files = list(islice((path for _, paths in walk_folders(folder) for path in paths if is_image(path)), _MOST_FILES))
    masks = {path: parts for path in files if (parts := _mask_parts(path, folder)) is not None}
    images: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path not in masks:
            stem = case_stem(path)
            for place in [len(stem), *(match.start() for match in re.finditer(r"[ _.-]", stem))]:
                images[stem[:place]].append(path)
    pairs: dict[tuple[str, str], list[tuple[Path, str, Path, str]]] = defaultdict(list)
    for mask, (base, tail) in masks.items():
        fitting = images.get(base, [])
        beside = [image for image in fitting if image.parent == mask.parent] or fitting
        for image in beside:
            places = _places(image, mask, folder)
            pairs[places].append((image, case_stem(image)[len(base) :], mask, tail))
    if not pairs:
        return ""
    (image_place, mask_place), chosen = max(pairs.items(), key=lambda item: len(item[1]))
    channels = _image_patterns(chosen, image_place)
    tails, endings = Counter(tail for *_, tail in chosen), Counter(ending_of(mask) for *_, mask, _ in chosen)
    tail = next(iter(tails)) if len(tails) == 1 else f"{_common_start(list(tails))}*"
    texts = f"{mask_place}*{tail}{endings.most_common(1)[0][0]}"
    if channels is None or texts in channels.values():
        return ""
    listed = list(channels.values()) if list(channels) == [""] else [f"{n}={text}" for n, text in channels.items()]
    return f"`image={listed[0] if len(listed) == 1 else listed!r}` `mask={texts!r}`".replace(
        f"image={listed[0]}`", f"image={listed[0]!r}`"
    )


def _mask_parts(path: Path, folder: Path) -> tuple[str, str] | None:
    """Return the name of the image and the suffix of the mask's name; None if the name is not that of a mask."""
    stem = case_stem(path)
    if (found := _MASK_TAIL.fullmatch(stem)) is not None:
        return found["base"], found["tail"]
    return (stem, "") if path.parent != folder and _MASK_FOLDER.fullmatch(path.parent.name) else None


def _places(image: Path, mask: Path, folder: Path) -> tuple[str, str]:
    """Return the starts of the patterns, for files in one folder or in two folders."""
    places = [path.parent.relative_to(folder).as_posix() for path in (image, mask)]
    if places[0] == places[1]:
        return ("", "") if places[0] == "." else ("**/", "**/")
    first, second = ("" if place == "." else f"{place}/" for place in places)
    return first, second


def _image_patterns(pairs: Sequence[tuple[Path, str, Path, str]], place: str) -> Mapping[str, str] | None:
    """Return a pattern by channel name (empty for a single channel); None if the names show no pattern."""
    endings = Counter(ending_of(image) for image, *_ in pairs)
    ending = endings.most_common(1)[0][0]
    tails = Counter(tail for _, tail, *_ in pairs)
    if len(tails) == 1 or "" in tails:
        tail = next(iter(tails)) if len(tails) == 1 else ""
        return {"": f"{place}*{tail}{ending}"}
    cases = len({mask for *_, mask, _ in pairs})
    channels = {tail.strip(" _.-"): tail for tail, count in tails.items() if 2 * count > cases}
    return {name: f"{place}*{tail}{ending}" for name, tail in channels.items() if name} or None


def _common_start(texts: Sequence[str]) -> str:
    """Return the common start of all texts."""
    start = min(texts, key=len)
    while not all(text.startswith(start) for text in texts):
        start = start[:-1]
    return start
