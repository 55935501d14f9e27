"""The layout of the Medical Segmentation Decathlon: volumes with their channels as a fourth axis."""

from __future__ import annotations

from typing import Any

from deconvseg.data.converting.labels import WrittenLabels
from deconvseg.data.converting.target import Contents, Target
from deconvseg.data.dataset import Dataset
from deconvseg.errors import InputError


def check(dataset: Dataset, dims: int, labels: WrittenLabels) -> None:
    """Raise `InputError` for 2D images, regions and ignored voxels, which the layout does not have."""
    if dims == 2:
        lacking = "2D images"
    elif labels.regions is not None:
        lacking = "regions"
    elif labels.ignore is not None:
        lacking = "label of ignored voxels"
    else:
        return
    raise InputError(
        f"{dataset.root}: the Medical Segmentation Decathlon's layout has no {lacking}; convert it to nnU-Net's "
        "(`to='nnunet'`)"
    )


def describe(contents: Contents) -> dict[str, Any]:
    """Return dataset.json."""
    ending = contents.ending
    training = [{"image": f"./imagesTr/{n}{ending}", "label": f"./labelsTr/{n}{ending}"} for n in contents.training]
    return {
        "name": contents.name,
        **contents.origin,
        "tensorImageSize": "3D" if len(contents.channels) == 1 else "4D",
        "modality": {str(number): name for number, name in enumerate(contents.channels)},
        "labels": {str(value): name for value, name in contents.labels.names.items()},
        "numTraining": len(training),
        "numTest": len(contents.testing),
        "training": training,
        "test": [f"./imagesTs/{name}{ending}" for name in contents.testing],
    }


DECATHLON = Target(
    name="msd",
    title="the Medical Segmentation Decathlon",
    prefix="Task",
    digits=2,
    numbered=False,
    joined=True,
    check=check,
    describe=describe,
)
