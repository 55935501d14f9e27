"""Medical Segmentation Decathlon layout: a ``dataset.json`` that lists pairs of image and mask."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from deconvseg.data.dataset import Case, Dataset, Problem
from deconvseg.data.file_names import case_stem
from deconvseg.data.json_files import read_json_object
from deconvseg.data.layouts.dataset_json import missing_masks, numbered_names, orphans, parse_labels
from deconvseg.data.layouts.left_out import find_unlisted
from deconvseg.data.listing import by_stem, find_splits, is_there, list_image_files, locate, named_tests
from deconvseg.errors import InputError


def is_decathlon(root: Path) -> bool:
    """Return whether a folder has a dataset.json with existing training pairs (Decathlon, not nnU-Net 1).

    Raises `InputError` for a dataset.json that is not a JSON object.
    """
    source = root / "dataset.json"
    if not source.is_file():
        return False
    record = read_json_object(source)
    training = record.get("training")
    if not isinstance(training, list) or not training or "channel_names" in record:
        return False
    pairs = _training_pairs(record, root)
    return any(is_there(image) for image, _ in pairs) or not (root / "imagesTr").is_dir()


def open_decathlon(root: Path) -> Dataset:
    """Open a dataset whose dataset.json lists pairs under "training"; 4D images have channels last.

    Images under "test" are part of it, with the masks of ``labelsTs``, if a file of splits in the folder names them as
    test cases.
    """
    source = root / "dataset.json"
    record = read_json_object(source)
    pairs = _training_pairs(record, root)
    by_stem(image for image, _ in pairs)
    cases = tuple(Case(case_stem(image), (image,), label) for image, label in pairs)
    if not cases:
        raise InputError(f'{source} lists no case under "training"; add pairs of "image" and "label"')
    splits_file = find_splits(root)
    tests = _tests(record, root, named_tests(splits_file) - {case.name for case in cases})
    listed = {label for _, label in pairs}
    labels = parse_labels(record, source)
    return Dataset(
        root=root,
        layout="msd",
        cases=(*cases, *tests),
        channel_names=numbered_names(record, ("modality", "channel_names"), source) or ("image",),
        label_names=labels.names if labels else None,
        regions=labels.regions if labels else None,
        ignore_label=labels.ignore if labels else None,
        channels_last=True,
        splits_file=splits_file,
        problems=missing_masks(cases) + orphans(root / "labelsTr", listed) + _unlisted(source, cases, record),
    )


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


def _tests(record: Mapping[str, Any], root: Path, asked: Collection[str]) -> tuple[Case, ...]:
    """Return the cases under "test" that are asked for."""
    entries = record.get("test")
    if not asked or not isinstance(entries, list):
        return ()
    masks = root / "labelsTs"
    labels = by_stem(list_image_files(masks)) if masks.is_dir() else {}
    images = by_stem(locate(root, entry) for entry in entries if isinstance(entry, str))
    return tuple(Case(name, (image,), labels.get(name)) for name, image in images.items() if name in asked)


def _unlisted(source: Path, cases: tuple[Case, ...], record: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return warnings for images next to the training images that dataset.json does not list."""
    entries = record.get("test")
    named = [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
    tests = [locate(source.parent, entry) for entry in named]
    images = [path for case in cases for path in case.images]
    masks = [case.label for case in cases if case.label is not None]
    return find_unlisted(source, (path.parent for path in images), (*images, *masks, *tests))
