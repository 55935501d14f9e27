"""Check every case of a dataset before training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deconvseg.data.checks.dataset_report import DatasetReport, LabelFrequency, Spread
from deconvseg.data.checks.label_findings import (
    class_names,
    common_labels,
    describe_masks,
    describe_parts,
    find_absent_classes,
    find_label_problems,
)
from deconvseg.data.checks.leaks import find_leaks
from deconvseg.data.dataset import Case, Dataset, Problem, case_notes, list_names
from deconvseg.data.formats.registry import find_format
from deconvseg.data.headers import compression_with_losses
from deconvseg.data.labels.encoding import count_values
from deconvseg.data.labels.mask_values import BlurredMaskError, TransparentMaskError
from deconvseg.data.splits.reading import Splits
from deconvseg.data.types import Image, LabelMap
from deconvseg.errors import InputError
from deconvseg.progress import SILENT, Console, choose_console, each, takes_console

MOST_LABELS = 64  # more distinct values without declared names look like instances
FEWEST_INSTANCES = 8  # so do masks numbered from 1 to more than this, with different largest numbers


@takes_console
def check_dataset(
    dataset: Dataset,
    *,
    splits: Splits | None = None,
    console: Console | bool | None = SILENT,
) -> DatasetReport:
    """Read every case and report shapes, spacings, label frequencies and the problems of each file.

    A case that cannot be read becomes a problem in the report, and the check continues. The ``console`` shows the
    progress. With ``splits``, a class that is missing from the training cases is reported as a warning.

    Example:
        >>> from deconvseg.data import check_dataset, open_dataset
        >>> report = check_dataset(open_dataset("DATASET"))
        >>> report.cases, report.labelled, [problem.message for problem in report.problems]
        (8, 8, [])

    """
    shapes: dict[str, tuple[int, ...]] = {}
    spacings: dict[str, tuple[float, ...]] = {}
    counts: dict[str, dict[int, int]] = {}
    problems = list(dataset.problems)
    alike: dict[type[InputError], list[Problem]] = {}
    contents: dict[str, bytes] = {}
    expanded = 0
    for case in each(dataset.cases, "reading", choose_console(console), lambda case: case.name):
        try:
            image, label_map = dataset.load(case)
        except (BlurredMaskError, TransparentMaskError) as error:
            alike.setdefault(type(error), []).append(_case_problem(case, error))
        except InputError as error:
            problems.append(_case_problem(case, error))
        else:
            problems += case_notes(case)
            shapes[case.name], spacings[case.name] = image.shape, image.geometry.spacing
            expanded += dataset.expands_grey(case)
            if (digest := _digest(image)) is not None:
                contents[case.name] = digest
            if label_map is not None:
                counts[case.name] = _count_labels(dataset, label_map)
    problems += [_group(found) for found in alike.values()]
    problems += _mixed_dimensions(dataset, shapes)
    problems += _same_images(dataset, contents)
    try:
        counts = _unite(counts, common_labels(dataset, counts))
    except InputError as error:
        problems.append(Problem(str(dataset.root), str(error), "error"))
    problems += _problems_of_labels(dataset, counts, splits)
    notes = [f"grey images expanded to RGB: {expanded}"] if expanded else []
    return DatasetReport(
        root=str(dataset.root),
        layout=dataset.layout,
        cases=len(dataset.cases),
        labelled=len(dataset.labelled_names),
        channels=dataset.channel_names,
        shapes=Spread.of(list(shapes.values())),
        spacings=Spread.of(list(spacings.values())),
        labels=_frequencies(dataset, counts),
        notes=(*notes, *describe_parts(dataset), *describe_masks(counts)),
        problems=tuple(problems),
        splits=None if splits is None else {name: len(names) for name, names in vars(splits).items()},
        readers=_readers(dataset),
        excluded=dataset.excluded,
        unused=_unused(dataset, splits),
        colours=dataset.label_colours,
    )


def _unused(dataset: Dataset, splits: Splits | None) -> tuple[str, ...]:
    """Return the cases that the layout keeps out of all splits, and that no split has."""
    used = set() if splits is None else {*splits.train, *splits.val, *splits.test}
    return tuple(name for name in dataset.declared_unused if name in dataset.names and name not in used)


def _problems_of_labels(
    dataset: Dataset, counts: Mapping[str, Mapping[int, int]], splits: Splits | None
) -> list[Problem]:
    """Return the problems of the labels of all masks, and of the splits (leaks, classes missing from training)."""
    problems = [*_undeclared_labels(dataset, counts), *_unlikely_labels(dataset, counts)]
    problems += [*find_label_problems(dataset, counts), *find_absent_classes(dataset, counts)]
    if splits is not None:
        problems += [Problem(str(dataset.root), text, "warning") for text in find_leaks(dataset, [splits])]
        problems += find_absent_classes(dataset, counts, splits.train)
    return problems


def _readers(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Return the names of the files that each reader reads."""
    found: dict[str, list[str]] = {}
    for case in dataset.cases:
        for path in (*case.images, *case.mask_files):
            if (known := find_format(path)) is not None:
                found.setdefault(known.name, []).append(path.name)
    return {reader: tuple(names) for reader, names in found.items()}


def _count_labels(dataset: Dataset, label_map: LabelMap) -> dict[int, int]:
    pixels = (label_map.pixels > 0).astype(np.uint8) if dataset.foreground else label_map.pixels
    return count_values(pixels)


def _digest(image: Image) -> bytes | None:
    """Return a hash of the intensities, or None for a constant image, which does not identify its source."""
    if not image.pixels.size or image.pixels.min() == image.pixels.max():
        return None
    return (
        hashlib.blake2b(np.ascontiguousarray(image.pixels).data, digest_size=16).digest() + repr(image.shape).encode()
    )


def _same_images(dataset: Dataset, contents: Mapping[str, bytes]) -> list[Problem]:
    """Return a warning about images with equal intensities under several names, in any format and compression."""
    groups: dict[bytes, list[str]] = {}
    for name, content in contents.items():
        groups.setdefault(content, []).append(str(dataset.case(name).images[0]))
    same = [names for names in groups.values() if len(names) > 1]
    if not same:
        return []
    more = (
        f" ({len(same) - 1} more images have several names: {list_names(names[0] for names in same[1:])})"
        if same[1:]
        else ""
    )
    message = f"is the same image as {list_names(same[0][1:], limit=3)}; keep one, or keep them in one split{more}"
    return [Problem(same[0][0], message, "warning")]


def _unite(counts: Mapping[str, Mapping[int, int]], common: Mapping[int, int]) -> dict[str, dict[int, int]]:
    """Return the counts by the common value of each class; a mask has at most one value of each class."""
    return {name: {common[value]: count for value, count in found.items()} for name, found in counts.items()}


def _group(problems: Sequence[Problem]) -> Problem:
    """Merge equal problems of several files into that of the first, with the number and names of the others."""
    first, *others = problems
    if not others:
        return first
    names = list_names((Path(problem.file).name for problem in others), limit=3)
    return replace(first, message=f"{first.message} ({len(others)} more such masks: {names})")


def _total(counts: Mapping[str, Mapping[int, int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for found in counts.values():
        total.update(found)
    return total


def _frequencies(dataset: Dataset, counts: Mapping[str, Mapping[int, int]]) -> dict[int, LabelFrequency]:
    total, names = _total(counts), dict(class_names(dataset))
    if dataset.ignore_label is not None and not dataset.foreground:
        names[dataset.ignore_label] = "ignore"
    return {
        value: LabelFrequency(
            name=names.get(value, f"label {value}"),
            voxels=total[value],
            cases=sum(value in found for found in counts.values()),
        )
        for value in sorted({*total, *names})
    }


def _case_problem(case: Case, error: InputError) -> Problem:
    files = [str(path) for path in (*case.images, *case.mask_files)]
    file = next((path for path in files if str(error).startswith(path)), files[0])
    return Problem(file, str(error).removeprefix(file).lstrip(": "), "error")


def _mixed_dimensions(dataset: Dataset, shapes: Mapping[str, tuple[int, ...]]) -> list[Problem]:
    dims = Counter(len(shape) for shape in shapes.values())
    if len(dims) < 2:
        return []
    usual = dims.most_common(1)[0][0]
    return [
        Problem(str(dataset.case(name).images[0]), f"is {len(shape)}D, but most cases are {usual}D", "error")
        for name, shape in shapes.items()
        if len(shape) != usual
    ]


def _undeclared_labels(dataset: Dataset, counts: Mapping[str, Mapping[int, int]]) -> list[Problem]:
    if dataset.label_names is None or dataset.foreground:
        return []
    problems = []
    for name, found in counts.items():
        unknown = sorted(set(found) - set(dataset.label_names) - {dataset.ignore_label})
        if unknown:
            declared = ", ".join(str(value) for value in dataset.label_names)
            message = f"has the label values {list_names(unknown)}, but the dataset declares {declared}"
            problems.append(Problem(str(dataset.case(name).label), message, "error"))
    return problems


def _unlikely_labels(dataset: Dataset, counts: Mapping[str, Mapping[int, int]]) -> list[Problem]:
    lossy = [
        Problem(str(mask), f"is a {lossy}, which changes label values; save the mask as PNG", "warning")
        for case in dataset.cases
        if case.name in counts
        for mask in case.mask_files
        if (lossy := compression_with_losses(mask))
    ]
    problems = [_group(lossy)] if lossy else []
    if dataset.foreground or dataset.label_names is not None or not counts:
        return problems
    values = len(_total(counts))
    highest = [max(found) for found in counts.values()]
    numbered = all(set(found) - {0} == set(range(1, max(found) + 1)) for found in counts.values())
    advice = "`foreground=True` takes every label above 0 as one class"
    if values > MOST_LABELS:
        message = f"the masks have {values} distinct values, which look like instances; {advice}"
        problems.append(Problem(str(dataset.root), message, "error"))
    elif numbered and max(highest) > FEWEST_INSTANCES and len(set(highest)) > 2:
        message = f"the masks count up to {min(highest)} … {max(highest)}, like instances; {advice}"
        problems.append(Problem(str(dataset.root), message, "warning"))
    return problems
