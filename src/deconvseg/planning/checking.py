"""Check that a plan can be trained."""

import torch

from deconvseg.errors import InputError
from deconvseg.models import create_model
from deconvseg.planning.schema import Plan
from deconvseg.planning.supervision import supervise_deeply


def check_plan(plan: Plan) -> None:
    """Build the network that the plan trains without memory; :class:`InputError` where it cannot be.

    So it is where the network cannot have the heads that the recipe's deep supervision asks for, or does not fit the
    plan's data and patch.

    Example:
        >>> from deconvseg.planning import check_plan, read_plan
        >>> check_plan(read_plan("plan.json"))  # an error names what does not fit

    """
    model = supervise_deeply(plan).model
    with torch.device("meta"):
        network = create_model(model.name, **model.config)
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
