"""The layouts that a ``dataset.json`` describes: nnU-Net raw and the Medical Segmentation Decathlon."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvseg.data.dataset import Case, Dataset, Problem, Region, list_names
from deconvseg.data.file_names import case_stem
from deconvseg.data.formats.registry import image_suffixes, is_picture
from deconvseg.data.json_files import read_json_object
from deconvseg.data.labels.painting import Paint, check_painting
from deconvseg.data.layouts.left_out import find_left_out, find_unlisted, name_left_out
from deconvseg.data.listing import (
    by_stem,
    channel_files,
    channel_of,
    find_splits,
    is_there,
    list_image_files,
    locate,
    sibling_channel,
)
from deconvseg.errors import InputError


@dataclass(frozen=True)
class DeclaredLabels:
    """What the "labels" of a dataset.json say; ``names`` leaves the ignore label out."""

    names: Mapping[int, str]
    regions: tuple[Region, ...] | None = None
    ignore: int | None = None


def is_decathlon(record: Mapping[str, Any], root: Path) -> bool:
    """Whether a dataset.json lists training pairs that exist: the Decathlon's does, nnU-Net 1's did not."""
    training = record.get("training")
    if not isinstance(training, list) or not training or "channel_names" in record:
        return False
    pairs = _training_pairs(record, root)
    return any(is_there(image) for image, _ in pairs) or not (root / "imagesTr").is_dir()


def open_decathlon(root: Path, *, foreground: bool = False) -> Dataset:
    """A dataset whose dataset.json lists pairs under "training"; 4D images have their channels last."""
    source = root / "dataset.json"
    record = read_json_object(source)
    pairs = _training_pairs(record, root)
    by_stem(image for image, _ in pairs)
    cases = tuple(Case(case_stem(image), (image,), label) for image, label in pairs)
    if not cases:
        raise InputError(f'{source} lists no case under "training"; add pairs of "image" and "label"')
    listed = {label for _, label in pairs}
    labels = parse_labels(record, source)
    return Dataset(
        root=root,
        layout="msd",
        cases=cases,
        channel_names=_numbered(record, ("modality", "channel_names"), source) or ("image",),
        label_names=labels.names if labels else None,
        regions=labels.regions if labels and not foreground else None,
        ignore_label=labels.ignore if labels else None,
        channels_last=True,
        foreground=foreground,
        splits_file=find_splits(root),
        problems=_missing_masks(cases) + _orphans(root / "labelsTr", listed) + _unlisted(source, cases, record),
    )


def open_nnunet(root: Path, *, foreground: bool = False) -> Dataset:
    """An nnU-Net raw dataset: ``imagesTr/CASE_0000.ext``, one file per channel, and ``labelsTr/CASE.ext``."""
    source = root / "dataset.json"
    record = read_json_object(source) if source.is_file() else {}
    found = list_image_files(root / "imagesTr")
    files = [path for path in found if _has_ending(path, record)]
    found_masks = list_image_files(root / "labelsTr")
    masks = [path for path in found_masks if _has_ending(path, record)]
    grouped, labels_by_case = channel_files(files), by_stem(masks)
    left_out = find_left_out(root / "imagesTr", found)
    if not grouped:
        raise InputError(
            f"{root / 'imagesTr'} holds no image named CASE_0000.ext; known suffixes are {', '.join(image_suffixes())}"
            f"{name_left_out(left_out)}"
        )
    names = _numbered(record, ("channel_names", "modality"), source)
    names = names or tuple(f"channel {number}" for number in range(1 + max(max(group) for group in grouped.values())))
    cases, problems = [], left_out + find_left_out(root / "labelsTr", found_masks, severity="warning")
    problems += _unnumbered(files) + _other_endings(found, files, record)
    for name, channels in grouped.items():
        colour = len(names) == 3 and set(channels) == {0} and is_picture(channels[0])
        example = next(iter(channels.values()))
        expected = 1 if colour else len(names)
        images = tuple(sibling_channel(example, number) for number in range(expected))
        cases.append(Case(name, images, labels_by_case.get(name)))
        problems += tuple(
            Problem(str(path), f"is channel {number}, but the dataset has {len(names)} channels", "error", name)
            for number, path in channels.items()
            if number >= expected
        )
    declared = parse_labels(record, source)
    return Dataset(
        root=root,
        layout="nnunet",
        cases=tuple(cases),
        channel_names=names,
        label_names=declared.names if declared else None,
        regions=declared.regions if declared and not foreground else None,
        ignore_label=declared.ignore if declared else None,
        foreground=foreground,
        splits_file=find_splits(root),
        problems=problems
        + _missing_masks(tuple(cases))
        + _orphans(root / "labelsTr", {labels_by_case[name] for name in grouped if name in labels_by_case}),
    )


def parse_labels(record: Mapping[str, Any], source: Path) -> DeclaredLabels | None:
    """The labels of a dataset.json: name → value or [values] (nnU-Net 2), or "value" → name (Decathlon)."""
    labels = record.get("labels")
    if labels is None or labels == {}:
        return None
    if not isinstance(labels, Mapping):
        raise InputError(f'{source}: "labels" must map names to values, not be {labels!r}')
    if labels and all(str(key).lstrip("-").isdigit() and isinstance(name, str) for key, name in labels.items()):
        return DeclaredLabels({int(value): name for value, name in labels.items()})
    members = {name: _label_values(name, value, source) for name, value in labels.items()}
    ignore = _ignore_label(members, source)
    names = {values[0]: name for name, values in members.items() if len(values) == 1}
    for values in members.values():
        names.update({value: f"label {value}" for value in values if value not in names})
    regions = None
    if any(isinstance(value, list) for value in labels.values()):
        regions = _regions(members, record, source)
    return DeclaredLabels(dict(sorted(names.items())), regions, ignore)


def _regions(members: Mapping[str, tuple[int, ...]], record: Mapping[str, Any], source: Path) -> tuple[Region, ...]:
    classes = {name: values for name, values in members.items() if values != (0,)}
    key = "regions_class_order"
    order = record.get(key)
    if not isinstance(order, list) or len(order) != len(classes) or not all(map(_is_integer, order)):
        raise InputError(
            f'{source}: labels that are lists need "{key}" with one value for each of '
            f"{', '.join(classes)}, not {order!r}"
        )
    known = sorted({value for values in classes.values() for value in values} - {0})
    for place, values in (*((f"labels.{name}", values) for name, values in classes.items()), (key, order)):
        unknown = [value for value in values if value not in known]
        if unknown:
            raise InputError(
                f'{source}: "{place}" has {list_names(unknown)}, but the labels of regions are '
                f"{', '.join(map(str, known))}, and 0 is the background; correct it"
            )
    regions = tuple(Region(name, values, value) for (name, values), value in zip(classes.items(), order, strict=True))
    for region in regions:
        if region.written_as not in region.labels or order.count(region.written_as) > 1:
            raise InputError(
                f'{source}: "{key}" has {region.written_as} for {region.name}, but each value must be one of its own '
                f"region's ({', '.join(map(str, region.labels))} here) and no other region's; correct {order}"
            )
    paints = [Paint(region.name, frozenset(region.labels), region.written_as) for region in regions]
    check_painting(paints, str(source), f'correct "labels" or "{key}"')
    return regions


def _ignore_label(members: dict[str, tuple[int, ...]], source: Path) -> int | None:
    """Take nnU-Net's ignore label out of the labels: one value that no other label has."""
    values = members.pop("ignore", None)
    if values is None:
        return None
    others = {value for label in members.values() for value in label}
    if len(values) != 1 or values[0] in others:
        raise InputError(
            f'{source}: "labels.ignore" must be one value that no other label has, not {list_names(values)}'
        )
    return values[0]


def _label_values(name: str, value: object, source: Path) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(map(_is_integer, values)):
        raise InputError(f"{source}: the label {name!r} must be an integer or a list of integers, not {value!r}")
    return tuple(values)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _training_pairs(record: Mapping[str, Any], root: Path) -> list[tuple[Path, Path | None]]:
    pairs: list[tuple[Path, Path | None]] = []
    for entry in record.get("training", []):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("image"), str):
            raise InputError(
                f'{root / "dataset.json"}: each entry of "training" needs "image" and "label", not {entry!r}'
            )
        label = entry.get("label")
        pairs.append((locate(root, entry["image"]), locate(root, label) if isinstance(label, str) else None))
    return pairs


def _numbered(record: Mapping[str, Any], keys: tuple[str, ...], source: Path) -> tuple[str, ...]:
    """The names in ``{"0": name, "1": name}`` in the order of their numbers, or nothing."""
    names: Any = next((record[key] for key in keys if key in record), {})
    if not isinstance(names, Mapping) or sorted(map(str, names)) != sorted(str(n) for n in range(len(names))):
        raise InputError(f'{source}: "{keys[0]}" must number its names from "0" on, not be {names!r}')
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _has_ending(path: Path, record: Mapping[str, Any]) -> bool:
    ending = record.get("file_ending")
    return not isinstance(ending, str) or path.name.lower().endswith(ending.lower())


def _other_endings(found: Iterable[Path], taken: Iterable[Path], record: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Name the files that are there in no other format either."""
    known = {case_stem(path) for path in taken}
    message = f"does not end in {record.get('file_ending')}, as dataset.json says of all files, and is left out"
    return tuple(Problem(str(path), message, "error") for path in found if case_stem(path) not in known)


def _missing_masks(cases: tuple[Case, ...]) -> tuple[Problem, ...]:
    return tuple(
        Problem(str(case.images[0]), "has no mask", "error", case.name) for case in cases if case.label is None
    )


def _unlisted(source: Path, cases: tuple[Case, ...], record: Mapping[str, Any]) -> tuple[Problem, ...]:
    """The images beside the training images that a dataset.json lists neither for training nor for tests."""
    entries = record.get("test")
    named = [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
    tests = [locate(source.parent, entry) for entry in named]
    images = [path for case in cases for path in case.images]
    masks = [case.label for case in cases if case.label is not None]
    return find_unlisted(source, (path.parent for path in images), (*images, *masks, *tests))


def _orphans(folder: Path, used: Iterable[Path | None]) -> tuple[Problem, ...]:
    if not folder.is_dir():
        return ()
    known = {os.path.realpath(path) for path in used if path is not None}
    return tuple(
        Problem(str(path), "is a mask without an image", "warning")
        for path in list_image_files(folder)
        if os.path.realpath(path) not in known
    )


def _unnumbered(files: list[Path]) -> tuple[Problem, ...]:
    return tuple(
        Problem(str(path), "does not end in a channel number (CASE_0000.ext) and is left out", "error")
        for path in files
        if channel_of(path) is None
    )
