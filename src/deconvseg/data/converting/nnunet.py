"""nnU-Net's raw layout, version 2: one file per channel, consecutive labels, regions, and an ignore label."""

from __future__ import annotations

from typing import Any

from deconvseg._version import __version__
from deconvseg.data.converting.labels import WrittenLabels
from deconvseg.data.converting.target import Contents, Target
from deconvseg.data.dataset import Dataset
from deconvseg.data.labels.declared import BACKGROUND, IGNORE
from deconvseg.errors import InputError


def check(dataset: Dataset, dims: int, labels: WrittenLabels) -> None:
    """Raise `InputError` for names that ``labels`` of dataset.json cannot hold."""
    classes = [name for value, name in labels.names.items() if value]
    names = classes if labels.regions is None else [region.name for region in labels.regions]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{dataset.root}: two classes are called {name!r}; name one of them otherwise (`labels`)")
        if name in (BACKGROUND, IGNORE):
            raise InputError(
                f"{dataset.root}: a class is called {name!r}, which means something else to nnU-Net; name it otherwise "
                "(`labels`)"
            )


def describe(contents: Contents) -> dict[str, Any]:
    """Return dataset.json."""
    labels = contents.labels
    record: dict[str, Any] = {
        "name": contents.name,
        "channel_names": {str(number): name for number, name in enumerate(contents.channels)},
        "labels": {BACKGROUND: 0, **_entries(labels), **({} if labels.ignore is None else {IGNORE: labels.ignore})},
        "numTraining": len(contents.training),
        "file_ending": contents.ending,
        **contents.origin,
        "converted_by": f"deconvseg {__version__}",
    }
    if labels.regions is not None:
        record["regions_class_order"] = [region.written_as for region in labels.regions]
    if contents.sheared:
        # nnU-Net's first choice, ITK, refuses volumes whose axes are not perpendicular.
        record["overwrite_image_reader_writer"] = "NibabelIO"
    return record


def _entries(labels: WrittenLabels) -> dict[str, Any]:
    """Return the classes, or the regions: a region of one label is a number, if another one has several."""
    if labels.regions is None:
        return {name: value for value, name in labels.names.items() if value}
    several = any(len(region.labels) > 1 for region in labels.regions)
    return {
        region.name: region.labels[0] if several and len(region.labels) == 1 else list(region.labels)
        for region in labels.regions
    }


NNUNET = Target(
    name="nnunet",
    title="nnU-Net",
    prefix="Dataset",
    digits=3,
    numbered=True,
    joined=False,
    check=check,
    describe=describe,
)
