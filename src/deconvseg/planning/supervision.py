"""Deep supervision: choose the heads of a plan's network for a recipe."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from deconvseg.models import create_model, list_arguments
from deconvseg.planning.schema import Plan

_ARGUMENT = "deep_supervision_heads"


def supervise_deeply(plan: Plan) -> Plan:
    """Return the plan with the further heads that its recipe's ``deep_supervision`` requests, and the reason.

    There is one head for each resolution except the full and the lowest two, and at least one. Heads that the plan
    already sets are kept. A network without support for heads is trained only at full resolution.
    """
    model = plan.model
    if not plan.recipe.deep_supervision or _ARGUMENT in model.config:
        return plan
    heads = 0
    if _ARGUMENT in list_arguments(model.name):
        with torch.device("meta"):
            halvings = int(math.log2(max(create_model(model.name, **model.config).size_multiple)))
        heads = min(halvings, max(1, halvings - 2))
    if not heads:
        reason = f"this {model.name} has no further resolutions to supervise: it is trained at the full one alone"
        return _explained(plan, {}, "recipe.deep_supervision", True, reason)
    model = model.model_copy(update={"config": {**model.config, _ARGUMENT: heads}})
    reason = f"{heads} of the lower resolutions, all but the lowest two: a loss at each, its weight halving"
    # The reason for the network also covers its heads, unless the network was changed by hand before.
    network = {} if "model" in plan.changed_by_hand else {"model": model.model_dump(mode="json")}
    supervised = plan.model_copy(update={"model": model})
    return _explained(supervised, network, f"model.config.{_ARGUMENT}", heads, reason)


def _explained(plan: Plan, chosen: Mapping[str, Any], key: str, value: int, reason: str) -> Plan:
    """Return the plan with a reason for a value, and with updated values of existing reasons."""
    known = {name: tree for name, tree in chosen.items() if name in plan.chosen}
    update = {"reasons": {**plan.reasons, key: reason}, "chosen": {**plan.chosen, **known, key: value}}
    return plan.model_copy(update=update)
