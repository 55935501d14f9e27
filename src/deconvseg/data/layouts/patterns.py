"""Layout of a folder whose images and masks are found and paired by file name patterns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from deconvseg.data.dataset import Case, Dataset, Problem, list_names
from deconvseg.data.file_names import is_image
from deconvseg.data.formats.registry import image_suffix
from deconvseg.data.labels.declared import BACKGROUND, IGNORE, DeclaredLabels, make_entry
from deconvseg.data.labels.sources import MaskPart
from deconvseg.data.layouts.left_out import find_left_out, walk_folders
from deconvseg.data.layouts.pattern import Pattern
from deconvseg.data.layouts.proposing import propose_patterns
from deconvseg.data.listing import find_splits, guess_channels
from deconvseg.errors import InputError

Key = tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """The images of a folder by channel and key, the masks by key, and the masks without an image."""

    names: Mapping[Key, str]
    images: Mapping[Key, Mapping[str | None, str]]
    masks: Mapping[Key, Sequence[tuple[str, Pattern]]]
    orphans: Sequence[str]


def open_patterns(
    root: Path, image: Sequence[str], mask: Sequence[str], given: DeclaredLabels | None = None
) -> Dataset:
    """Open the files of a folder that match patterns; images and masks are paired by the texts of their wildcards.

    A mask belongs to the image with the same wildcard texts, in order. If the pattern of a mask has more wildcards, the
    others match any text, and all matching masks are combined. Of several matching images, the one with the longest
    texts is used. A file that matches a mask pattern is not an image. The name of a case is the part of its image path
    from the first to the last wildcard.

    ``image`` is a pattern, or ``channel=pattern`` for each channel; ``mask`` is a pattern, or ``class=pattern`` for
    each class, where later classes overwrite earlier ones. Several patterns without a name, or with the same name, are
    alternatives. The classes have the values of the ``given`` labels, else 1, 2, … in their order.

    Raises `InputError` for incompatible patterns, and for patterns without a match.
    """
    if not image:
        raise InputError("`mask` without `image`: give a pattern for the images too, such as '*.png'")
    images, masks = _parse(image, "image"), _parse(mask, "mask")
    _check_wildcards(images, masks)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; patterns (`image`, `mask`) are for files in a folder")
    files = [path for _, paths in walk_folders(root) for path in paths if is_image(path)]
    listed = {normalize("NFC", path.relative_to(root).as_posix()): path for path in files}
    found = _pair(root, sorted(listed), images, masks)
    values = _values(masks, given)
    channels = list(dict.fromkeys(pattern.name for pattern in images))
    cases, problems = _complete(root, found, listed, channels, masks, values)
    used = [*(path for case in cases for path in (*case.images, *case.mask_files)), *_incomplete(found, listed)]
    named = channels[0] is not None
    ignore = values.get(IGNORE)
    return Dataset(
        root=root,
        layout="patterns",
        cases=cases,
        channel_names=tuple(str(name) for name in channels)
        if named
        else guess_channels([case.images[0] for case in cases]),
        guessed_channels=not named,
        label_names={0: BACKGROUND} | {value: name for name, value in values.items() if name != IGNORE}
        if values
        else None,
        ignore_label=ignore,
        splits_file=find_splits(root),
        problems=(
            *problems,
            *(Problem(str(listed[path]), "is a mask without an image", "warning") for path in found.orphans),
            *find_left_out(root, used, severity="warning", because="that no pattern matches"),
        ),
    )


def _parse(texts: Sequence[str], argument: str) -> list[Pattern]:
    patterns = [Pattern.parse(text, argument) for text in texts]
    if len({pattern.name is None for pattern in patterns}) > 1:
        raise InputError(
            f"`{argument}`: some patterns have a name and others none ({', '.join(texts)}); name all of them"
        )
    if argument == "mask":
        return [
            p if p.name is None else Pattern(p.text, make_entry(p.name, (0,), where="`mask`").name) for p in patterns
        ]
    return patterns


def _check_wildcards(images: Sequence[Pattern], masks: Sequence[Pattern]) -> None:
    first = images[0]
    for pattern in images[1:]:
        if pattern.wildcards != first.wildcards:
            raise InputError(
                f"`image`: {first.text!r} has {first.wildcards} wildcards and {pattern.text!r} {pattern.wildcards}; "
                "their texts are compared in order, so write the same number in each"
            )
    for pattern in masks:
        if pattern.wildcards < first.wildcards:
            raise InputError(
                f"`mask={pattern.text!r}` has {pattern.wildcards} wildcards, but the images' {first.text!r} has "
                f"{first.wildcards}; their texts are compared in order, so write at least as many"
            )
        if pattern.runs_on(first.wildcards):
            raise InputError(
                f"`mask={pattern.text!r}` does not say where the name of a case ends: case1 and case10 could have the "
                "same mask; write a separator before the additional wildcard, such as '*_mask*.png'"
            )
        if any(pattern.text == other.text for other in images):
            raise InputError(
                f"`image` and `mask` are both {pattern.text!r}; add the text that only the names of masks have"
            )


def _best(path: str, patterns: Sequence[Pattern]) -> Pattern | None:
    """Return the most specific pattern that matches a path."""
    return max((p for p in patterns if p.matches(path)), key=lambda pattern: pattern.literal, default=None)


def _pair(root: Path, files: Sequence[str], images: Sequence[Pattern], masks: Sequence[Pattern]) -> _Found:
    of_mask = {path: pattern for path in files if (pattern := _best(path, masks)) is not None}
    of_image = {path: p for path in files if path not in of_mask and (p := _best(path, images)) is not None}
    if not of_image:
        raise InputError(_nothing(root, files, images, "image", any(_best(path, images) for path in of_mask)))
    if masks and not of_mask:
        raise InputError(_nothing(root, files, masks, "mask", False))
    names: dict[Key, str] = {}
    channels: dict[Key, dict[str | None, str]] = defaultdict(dict)
    known: dict[Key, Key] = {}
    # The match of the first channel counts; other channels may match in any way that agrees with it.
    ordered = sorted(of_image.items(), key=lambda item: images.index(item[1]))
    for path, pattern in ordered:
        key = next((known[texts] for texts in pattern.texts(path) if texts in known), None)
        if key is None:
            key = next(pattern.texts(path))
            known |= {texts: key for texts in pattern.texts(path) if texts not in known}
            names[key] = _name(path, pattern)
        if (other := channels[key].setdefault(pattern.name, path)) != path:
            raise InputError(
                f"{root / other} and {root / path} are both the image of one case; narrow the pattern (`image`)"
            )
    _check_names(names, channels, root)
    belonging: dict[Key, list[tuple[str, Pattern]]] = defaultdict(list)
    orphans = []
    for path, pattern in of_mask.items():
        fitting = {known[t[: images[0].wildcards]] for t in pattern.texts(path) if t[: images[0].wildcards] in known}
        lengths = sorted((sum(map(len, key)), key) for key in fitting)
        if not lengths:
            orphans.append(path)
        elif len(lengths) > 1 and lengths[-1][0] == lengths[-2][0]:
            rivals = " and ".join(names[key] for _, key in lengths[-2:])
            raise InputError(
                f"{root / path} could be the mask of {rivals}; narrow the pattern (`mask={pattern.text!r}`)"
            )
        else:
            belonging[lengths[-1][1]].append((path, pattern))
    if masks and not belonging:
        raise InputError(
            f"{root}: no image has a mask: {next(iter(of_image))} and {next(iter(of_mask))} differ in the texts that "
            f"match the wildcards of `image={images[0].text!r}` and `mask={masks[0].text!r}`{_suggestion(root)}"
        )
    return _Found(names, channels, belonging, orphans)


def _name(path: str, pattern: Pattern) -> str:
    """Return the part between the first and last wildcard, without a folder whose name the next part repeats."""
    spans = next(pattern.spans(path))
    parts = path[spans[0][0] : spans[-1][1]].split("/")
    kept = [part for part, after in zip(parts, [*parts[1:], ""], strict=True) if part and not after.startswith(part)]
    name = "_".join(kept)
    return name or path[: len(path) - len(image_suffix(path))].replace("/", "_")


def _check_names(names: Mapping[Key, str], channels: Mapping[Key, Mapping[str | None, str]], root: Path) -> None:
    owners: dict[str, Key] = {}
    for key, name in names.items():
        if (other := owners.setdefault(name, key)) != key:
            files = " and ".join(str(root / next(iter(channels[k].values()))) for k in (other, key))
            raise InputError(f"{files} have the same case name {name!r}; rename one, or narrow the pattern (`image`)")


def _values(masks: Sequence[Pattern], given: DeclaredLabels | None) -> dict[str, int]:
    """Return the value of each class that the mask patterns name."""
    classes = list(dict.fromkeys(pattern.name for pattern in masks if pattern.name is not None))
    if BACKGROUND in classes:
        raise InputError("`mask`: the background needs no mask; it is all voxels without another class")
    named = {
        name: value for value, name in (given.names if given else {}).items() if name != f"label {value}" and value
    }
    if given is not None and given.ignore is not None:
        named[IGNORE] = given.ignore
    if named and (unknown := [name for name in classes if name not in named and name != IGNORE]):
        raise InputError(
            f"`mask`: the class {unknown[0]} is not among the labels {', '.join(named)}; use the same name in both"
        )
    free = (value for value in range(1, 2**15) if value not in named.values())
    # Ignored voxels come last, as in nnU-Net.
    ordered = sorted(classes, key=lambda name: name == IGNORE)
    chosen = {name: named[name] if name in named else next(free) for name in ordered}
    return {name: chosen[name] for name in classes}


def _complete(
    root: Path,
    found: _Found,
    listed: Mapping[str, Path],
    channels: Sequence[str | None],
    masks: Sequence[Pattern],
    values: Mapping[str, int],
) -> tuple[tuple[Case, ...], list[Problem]]:
    """Return the cases with all channels, and problems for the others and for cases without a mask."""
    cases, problems = [], []
    for key, name in sorted(found.names.items(), key=lambda item: item[1]):
        images = found.images[key]
        where = str(listed[next(iter(images.values()))])
        if missing := [str(channel) for channel in channels if channel not in images]:
            problems.append(Problem(where, f"has no {', '.join(missing)} next to it and is left out", "error", name))
            continue
        own = sorted(found.masks.get(key, ()), key=lambda item: (masks.index(item[1]), item[0]))
        parts = tuple(MaskPart(listed[path], None if p.name is None else values[p.name]) for path, p in own)
        several = parts if len(parts) > 1 or (parts and parts[0].value is not None) else ()
        files = tuple(listed[images[channel]] for channel in channels)
        cases.append(Case(name, files, parts[0].path if parts else None, masks=several))
        if masks and not parts:
            problems.append(Problem(where, "has no mask that the pattern matches", "error", name))
    if not cases:
        raise InputError(f"{problems[0].file} {problems[0].message}: no case is left in {root}")
    return tuple(cases), problems


def _incomplete(found: _Found, listed: Mapping[str, Path]) -> Iterator[Path]:
    """Yield the files that problems already name."""
    yield from (listed[path] for path in found.orphans)
    yield from (listed[path] for images in found.images.values() for path in images.values())
    yield from (listed[path] for parts in found.masks.values() for path, _ in parts)


def has_patterns(folder: Path, texts: Sequence[str], argument: str) -> bool:
    """Return whether each channel or class of the patterns has a file in a folder; errors name ``argument``.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import has_patterns
        >>> has_patterns(Path("SCANS"), ["*.png"], "image"), has_patterns(Path("SCANS"), ["*_t1.png"], "image")
        (True, False)

    """
    patterns = [Pattern.parse(text, argument) for text in texts]
    files = [path for _, paths in walk_folders(folder) for path in paths if is_image(path)]
    listed = [normalize("NFC", path.relative_to(folder).as_posix()) for path in files]
    found = {best.name for path in listed if (best := _best(path, patterns)) is not None}
    return bool(patterns) and found == {pattern.name for pattern in patterns}


def _nothing(root: Path, files: Sequence[str], patterns: Sequence[Pattern], argument: str, masked: bool) -> str:
    """Return the message that patterns match no file, with existing files and a suggestion."""
    texts = " or ".join(repr(pattern.text) for pattern in patterns)
    if masked:
        return (
            f"{root}: every file that {texts} (`image`) matches is a mask by `mask`; add the text that only masks "
            "have in their names"
        )
    there = f"it holds {list_names(files, limit=4)}" if files else "it holds no image file"
    return f"{root}: no file matches {texts} (`{argument}`); {there}{_suggestion(root)}"


def _suggestion(root: Path) -> str:
    proposed = propose_patterns(root)
    return f"; try {proposed}" if proposed else ""
