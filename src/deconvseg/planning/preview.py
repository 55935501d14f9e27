"""What can be known of a plan before any case is read: whether all that is asked for exists and can be had."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from deconvseg.data import Dataset, is_picture, read_header
from deconvseg.errors import InputError
from deconvseg.models import check_arguments, create_model, preset_arguments
from deconvseg.planning.fitting import typical_network
from deconvseg.planning.parts import ChannelPlan, LabelPlan, ModelPlan
from deconvseg.planning.request import Request
from deconvseg.planning.schema import Plan

# The sizes of a patch that stand for one that is not known yet.
_SIZE = 64
_UPSAMPLING = "model.config.upsampling"


def preview_plan(dataset: Dataset, asked: Request, values: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for what no plan for this dataset can have, without reading its cases.

    That is unknown names, also in ``values``, the dotted paths that are replaced in the plan; values of another type or
    out of bounds; and what cannot be had together. What depends on the cases is left to
    :func:`~deconvseg.planning.make_plan`.
    """
    asked.check()
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


def _possible_dims(dataset: Dataset) -> tuple[int, ...]:
    """Return how many axes the images have: by the first one's header, or by its format where that cannot be read."""
    for case in dataset.cases[:1]:
        with suppress(InputError):
            return (len(read_header(case.images[0]).shape),)
        if is_picture(case.images[0]):
            return (2,)
    # A volume's format may hold an image of two axes too.
    return 3, 2


def _sketch(dataset: Dataset, asked: Request, spatial_dims: int) -> Plan:
    """Return a plan with all keys that the plan of the dataset will have, and values that stand for unknown ones."""
    # Masks that nothing describes have a background and one class at least.
    labels = {0: "background", **(dataset.label_names or {1: "foreground"})}
    ends = {"in_channels": len(dataset.channel_names), "out_channels": len(labels), "spatial_dims": spatial_dims}
    fixed = (
        typical_network(asked.model, spatial_dims, asked.width)
        if asked.preset is None
        else preset_arguments(asked.model, asked.preset, asked.variant)
    )
    return Plan(
        dataset=dataset.root.name,
        spatial_dims=3 if spatial_dims == 3 else 2,
        spacing=(1.0,) * spatial_dims,
        patch_size=(_SIZE,) * spatial_dims,
        batch_size=asked.batch_size or 1,
        channels=tuple(ChannelPlan(name=name) for name in dataset.channel_names),
        labels=LabelPlan(values=tuple(labels), names=tuple(labels.values())),
        model=ModelPlan(name=asked.model, config={**fixed, **ends, **asked.arguments}),
        recipe=replace(asked, loss=None).to_recipe(),
    )


def _check_values(sketch: Plan, values: Mapping[str, Any]) -> None:
    """Refuse paths and values that are wrong by themselves, and names of a network's parts that are unknown.

    Numbers of a network are not tried, because they may suit the plan and not the sketch.
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
