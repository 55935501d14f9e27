"""The optimiser of a training run."""

from typing import Any

import torch
from torch import nn

from deconvseg.planning import Recipe


def create_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser, without weight decay for parameters that a layer lists in ``undecayed``.

    Decay would pull the logarithm of Mamba's transition towards 0, and so all states towards one time constant.
    """
    kept = {id(getattr(module, name)) for module in network.modules() for name in getattr(module, "undecayed", ())}
    groups: list[dict[str, Any]] = [{"params": [p for p in network.parameters() if id(p) not in kept]}]
    if kept:
        groups.append({"params": [p for p in network.parameters() if id(p) in kept], "weight_decay": 0.0})
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            groups,
            recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )
    return torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)
