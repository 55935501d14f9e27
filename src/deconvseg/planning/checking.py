"""Whether a plan can be carried out."""

import torch

from deconvseg.errors import InputError
from deconvseg.models import create_model
from deconvseg.planning.schema import Plan


def check_plan(plan: Plan) -> None:
    """Build the plan's network without memory; :class:`InputError` where it does not fit the plan's data and patch."""
    with torch.device("meta"):
        network = create_model(plan.model.name, **plan.model.config)
    needed = {"in_channels": len(plan.channels), "out_channels": plan.outputs, "spatial_dims": plan.spatial_dims}
    for key, value in needed.items():
        if getattr(network, key) != value:
            raise InputError(
                f"plan: model.config.{key} is {getattr(network, key)}, but the plan's channels, labels or regions "
                f"need {value}; set it to that"
            )
    if any(size % multiple for size, multiple in zip(plan.patch_size, network.size_multiple, strict=True)):
        raise InputError(
            f"plan: patch_size {list(plan.patch_size)} must be a multiple of {list(network.size_multiple)}, "
            "as this network halves it"
        )
    if network.fixed_size not in (None, tuple(plan.patch_size)):
        raise InputError(
            f"plan: patch_size is {list(plan.patch_size)}, but this network is built for {list(network.fixed_size)} "
            "alone; set the one to the other"
        )
