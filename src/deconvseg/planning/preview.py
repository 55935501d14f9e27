"""Checks of a planning request before any case is read."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from deconvseg.catalog import PRESETS
from deconvseg.data import Dataset, is_picture, read_header
from deconvseg.errors import InputError
from deconvseg.models import check_arguments, create_model, preset_arguments
from deconvseg.planning.fitting import typical_network
from deconvseg.planning.parts import ChannelPlan, LabelPlan, ModelPlan
from deconvseg.planning.preset_regions import preset_regions
from deconvseg.planning.request import Request
from deconvseg.planning.schema import Plan

# Placeholder for a patch size that is not known yet.
_SIZE = 64
_UPSAMPLING = "model.config.upsampling"


def preview_plan(dataset: Dataset, asked: Request, values: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for a request that no plan for this dataset can satisfy, without reading its cases.

    It covers unknown names, including dotted paths in ``values``; values of a wrong type or out of bounds; and
    impossible combinations. Checks that depend on the cases are left to
    :func:`~deconvseg.planning.make_plan`.
    """
    asked.check()
    _check_regions(dataset, asked.preset)
    problems: list[InputError] = []
    for spatial_dims in _possible_dims(dataset):
        try:
            asked.check_dims(spatial_dims)
            _check_values(_sketch(dataset, asked, spatial_dims), values)
        except InputError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def _check_regions(dataset: Dataset, preset: str | None) -> None:
    """Refuse declared labels that cannot be the regions of a preset; others are known when the masks are read."""
    if preset is None or PRESETS[preset].regions is None:
        return
    labels = {value: name for value, name in (dataset.label_names or {}).items() if value != 0}
    if labels or dataset.regions is not None or dataset.foreground:
        preset_regions(preset, dataset, labels)


def _possible_dims(dataset: Dataset) -> tuple[int, ...]:
    """Return the possible numbers of axes of the images, by the first header, or by the format if it is unreadable."""
    for case in dataset.cases[:1]:
        with suppress(InputError):
            return (len(read_header(case.images[0]).shape),)
        if is_picture(case.images[0]):
            return (2,)
    # A volume format may also contain an image with two axes.
    return 3, 2


def _sketch(dataset: Dataset, asked: Request, spatial_dims: int) -> Plan:
    """Return a plan with all keys that the plan of the dataset will have, and placeholders for unknown values."""
    # Undeclared masks have at least a background and one class.
    labels = {0: "background", **(dataset.label_names or {1: "foreground"})}
    ends = {"in_channels": len(dataset.channel_names), "out_channels": len(labels), "spatial_dims": spatial_dims}
    fixed = (
        typical_network(asked.model, spatial_dims, asked.width)
        if asked.preset is None
        else preset_arguments(asked.model, asked.preset, asked.variant)
    )
    # Of a slice, as of (96, 96), the axis is not known yet.
    seen, axis = asked.patch_dims
    slices = axis if axis is not None or seen != 2 or spatial_dims != 3 else 2
    return Plan(
        dataset=dataset.root.name,
        spatial_dims=3 if spatial_dims == 3 else 2,
        spacing=(1.0,) * spatial_dims,
        patch_size=asked.patch(spatial_dims, slices) or (_SIZE,) * spatial_dims,
        batch_size=asked.batch_size or 1,
        channels=tuple(ChannelPlan(name=name) for name in dataset.channel_names),
        labels=LabelPlan(values=tuple(labels), names=tuple(labels.values())),
        model=ModelPlan(name=asked.model, config={**fixed, **ends, **asked.arguments}),
        recipe=replace(asked, loss=None).to_recipe(),
    )


def _check_values(sketch: Plan, values: Mapping[str, Any]) -> None:
    """Raise an error for invalid paths and values, and for unknown names of network parts.

    Numeric arguments of a network are not checked, because they may fit the real plan but not the sketch.
    """
    sketch.check_values(values)
    of_network = {path: value for path, value in values.items() if path.startswith("model.")}
    changed = sketch.with_values(of_network).model
    check_arguments(changed.name, changed.config)
    if "model.name" in values:
        return
    named = {path: value for path, value in of_network.items() if _names_a_part(path, value)}
    model = sketch.with_values(named).model
    with torch.device("meta"):
        create_model(model.name, **model.config)


def _names_a_part(path: str, value: Any) -> bool:
    return path.startswith(_UPSAMPLING) or isinstance(value, str | Mapping)
