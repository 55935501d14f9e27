"""Deep supervision: from a recipe's wish to the heads of a plan's network."""

import math

import torch

from deconvseg.models import create_model, list_arguments
from deconvseg.planning.schema import Plan

_ARGUMENT = "deep_supervision_heads"


def supervise_deeply(plan: Plan) -> Plan:
    """Return the plan with as many further heads as its recipe's ``deep_supervision`` asks for, and the reason.

    One for each resolution but the full and the lowest two, at least one. A network that the plan gives heads already
    keeps them; one that cannot have any is trained at full resolution alone.
    """
    model = plan.model
    if not plan.recipe.deep_supervision or model.config.get(_ARGUMENT):
        return plan
    heads = 0
    if _ARGUMENT in list_arguments(model.name):
        with torch.device("meta"):
            halvings = int(math.log2(max(create_model(model.name, **model.config).size_multiple)))
        heads = min(halvings, max(1, halvings - 2))
    if not heads:
        reason = f"this {model.name} has no further resolutions to supervise: it is trained at the full one alone"
        return plan.model_copy(update={"reasons": {**plan.reasons, "deep_supervision": reason}})
    model = model.model_copy(update={"config": {**model.config, _ARGUMENT: heads}})
    reason = f"{heads} of the lower resolutions, all but the lowest two: a loss at each, its weight halving"
    return plan.model_copy(update={"model": model, "reasons": {**plan.reasons, "deep_supervision": reason}})
