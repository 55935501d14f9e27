"""The optimiser of a training run."""

import torch
from torch import nn

from deconvseg.planning import Recipe


def create_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW over all parameters; those that a layer names in ``undecayed`` keep out of the weight decay.

    Decay would pull the logarithm of Mamba's transition towards 0, that is, all states towards one time constant.
    """
    undecayed = {id(getattr(module, name)) for module in network.modules() for name in getattr(module, "undecayed", ())}
    decayed = [parameter for parameter in network.parameters() if id(parameter) not in undecayed]
    others = [parameter for parameter in network.parameters() if id(parameter) in undecayed]
    groups = [{"params": decayed}, *([{"params": others, "weight_decay": 0.0}] if others else [])]
    return torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)
