"""Open a path as a dataset with the first registered layout that recognises it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.catalog import CARDS
from deconvseg.data.case_names import describe_unportable_names
from deconvseg.data.dataset import Dataset, Problem, list_names
from deconvseg.data.formats.series_choice import SeriesChoice
from deconvseg.data.headers import choose_image
from deconvseg.data.layouts.excluding import exclude_cases
from deconvseg.data.layouts.inputs import sorted_by
from deconvseg.data.layouts.left_out import find_dicom
from deconvseg.data.layouts.naming import labels_beside, name_labels, read_labels
from deconvseg.data.layouts.patterns import open_patterns
from deconvseg.data.layouts.proposing import propose_patterns
from deconvseg.data.layouts.published import describe_masks_alone
from deconvseg.data.layouts.registry import Layout, find_layout, list_layouts
from deconvseg.data.splits.groups import group_cases
from deconvseg.errors import InputError, UnknownLayoutError
from deconvseg.system import does_not_exist, naming

# Where a dataset is looked for if a folder has no known layout: levels of folders, and folders of a level.
_DEEPEST, _MOST_FOLDERS = 3, 20


def is_dataset(path: str | PathLike[str]) -> bool:
    """Return whether `open_dataset` knows the layout of this path, by file names and dataset.json only.

    Raises `InputError` for a dataset.json that is not a JSON object.

    Example:
        >>> from deconvseg.data import is_dataset
        >>> is_dataset("DATASET"), is_dataset("SCANS")
        (True, False)

    """
    return find_layout(_without_description(Path(path))) is not None


def open_dataset(
    path: str | PathLike[str],
    *,
    foreground: bool = False,
    group_by: str | None = None,
    image: Sequence[str] | str | Mapping[str, str] | None = None,
    mask: Sequence[str] | str | Mapping[str, str] | None = None,
    labels: Sequence[str] | str | Mapping[int, str] | None = None,
    exclude: Sequence[str] | str | None = None,
    series: Sequence[str] | str | None = None,
) -> Dataset:
    """Find the layout of a dataset and list its cases, without reading pixels.

    ``foreground`` merges all labels above zero into one class. ``group_by`` is a regular expression for case names:
    cases with equal matches stay in one split (`group_cases`). ``image`` and ``mask`` are patterns for the files of a
    folder, which replace its layout (`open_patterns`): ``image={"t1": "*_t1.nii.gz", "flair": "*_flair.nii.gz"}``.
    ``labels`` are texts such as ``"1=organ:#ff8800"`` (`parse_label`), which replace the labels declared by the dataset
    or by a file ``labels.json`` (``.csv``, ``.txt``) in its folder. ``exclude`` has names or patterns of cases to
    exclude, in addition to those excluded by a column of the table or by ``exclude.txt`` in the folder
    (`Dataset.excluded`). ``series`` chooses the DICOM series where the folder of an image has several, by UID,
    description or modality.

    A folder of DICOM studies without masks is a dataset whose cases are its series.

    Raises `InputError` for an unknown or ambiguous layout, an empty folder, and files with the same case name. Missing
    masks and masks without an image become ``problems`` of the dataset.

    Example:
        >>> from deconvseg.data import open_dataset
        >>> dataset = open_dataset("VOLUMES")
        >>> dataset.layout, len(dataset.cases), dataset.channel_names
        ('nnunet', 5, ('T1', 'T2'))
        >>> dict(dataset.label_names)
        {0: 'background', 3: 'shell', 7: 'core'}

    """
    path = _without_description(Path(path))
    given = read_labels(_texts(labels))
    if image is not None or mask is not None:
        # The values of the classes that patterns name are those of the labels, so these come first.
        given, told = (given, ()) if given is not None else labels_beside(path)
        dataset = open_patterns(path, _texts(image), _texts(mask), given)
        dataset = replace(dataset, problems=(*dataset.problems, *told, *_unportable_names(dataset)))
    else:
        dataset = _open_layout(path, _texts(series))
    if series is not None:
        dataset = _with_series(dataset, _texts(series))
    foreground = foreground or dataset.foreground
    regions = None if foreground else dataset.regions
    dataset = replace(dataset, foreground=foreground, regions=regions)
    dataset = exclude_cases(name_labels(dataset, given), _texts(exclude))
    return dataset if group_by is None else group_cases(dataset, group_by)


def _texts(given: Sequence[str] | str | Mapping[Any, str] | None) -> list[str]:
    """Texts that are given as one, as several, or by name."""
    if given is None or isinstance(given, str):
        return [] if given is None else [given]
    return [f"{name}={text}" for name, text in given.items()] if isinstance(given, Mapping) else list(given)


def _with_series(dataset: Dataset, series: Sequence[str]) -> Dataset:
    """Return the dataset with the chosen series of each folder that is an image."""
    cases = [
        replace(case, images=tuple(choose_image(image, series) if image.is_dir() else image for image in case.images))
        for case in dataset.cases
    ]
    return replace(dataset, cases=tuple(cases))


def _open_layout(path: Path, series: Sequence[str]) -> Dataset:
    layout = find_layout(path)
    if layout is not None:
        _refuse_several(path, layout)
        with naming(f"{path}: the layout {layout.name!r}"):
            dataset = layout.opens(path)
            return replace(dataset, problems=(*dataset.problems, *_unportable_names(dataset)))
    if path.is_dir() and (sorting := sorted_by(path)) is not None:
        cases, problems = sorting.reader.open_folder(path, SeriesChoice(tuple(series)))
        return Dataset(path, sorting.name, cases, ("image",), guessed_channels=True, problems=problems)
    if (dicom := find_dicom(path)) is not None:
        raise InputError(dicom)
    known = ", ".join(f"{layout.looks} ({layout.name})" for layout in list_layouts())
    if not path.is_dir():
        state = f"{path} is not a dataset" if path.exists() else does_not_exist(path)
        raise InputError(f"{state}; give a folder or a .csv file: {known}")
    names = sorted(entry.name for entry in path.iterdir())
    if (below := _find_published(path)) is not None:
        raise InputError(f"{path} holds {list_names(names)}, which is not a known layout; give {below}")
    if proposed := propose_patterns(path):
        raise UnknownLayoutError(f"{path} holds {list_names(names)}, which is not a known layout", proposed)
    if (masks := describe_masks_alone(path)) is not None:
        raise InputError(masks)
    entries = list_names(names, limit=8) or "nothing"
    raise InputError(
        f"{path} holds {entries}, which is not a known layout; known are: {known}; or give patterns for images and "
        "masks (`image`, `mask`), such as '*.png' and '*_mask.png'"
    )


def _refuse_several(path: Path, layout: Layout) -> None:
    """Raise an `InputError` for a folder of several published datasets, of which the layout would open one."""
    folders = _folders(path) if layout.name in CARDS else []
    found = {folder: own.name for folder in folders if (own := find_layout(folder)) is not None and own.name in CARDS}
    if len({*found.values(), layout.name}) > 1:
        listed = list_names(f"{folder} ({name})" for folder, name in found.items())
        raise InputError(f"{path} holds several datasets: {listed}; give one of them")


def _find_published(path: Path) -> str | None:
    """Return the nearest folder below that has the layout of a published dataset, with its title."""
    level = [path]
    for _ in range(_DEEPEST):
        level = [folder for above in level for folder in _folders(above)][:_MOST_FOLDERS]
        for folder in level:
            if (layout := find_layout(folder)) is not None and layout.name in CARDS:
                return f"{folder}, which is {CARDS[layout.name].title}"
    return None


def _folders(path: Path) -> list[Path]:
    """Return the folders in a folder; none if there are as many as a dataset has cases."""
    found = sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []
    return found if len(found) <= _MOST_FOLDERS else []


def _unportable_names(dataset: Dataset) -> list[Problem]:
    return [
        Problem(str(dataset.case(name).images[0]), message, "warning", name)
        for name, message in describe_unportable_names(dataset.names)
    ]


def _without_description(path: Path) -> Path:
    """Return the folder of a dataset.json if the path is that file, else the path."""
    return path.parent if path.name == "dataset.json" and path.is_file() else path
