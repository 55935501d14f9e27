"""Networks made faster on a CPU without changing what they compute."""

from copy import deepcopy

import torch
from torch import nn

from deconvseg.models import Network
from deconvseg.models.parts import use_own_norms
from deconvseg.nn.frozen import fits_winograd, freeze


def tune(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network that is faster on a CPU; its results differ by rounding, and the one given stays as it is.

    Where it has convolutions with kernels of 3 that fit, their weights are packed for Winograd's minimal filtering in a
    copy, all convolutions keep the channels innermost in memory, and in each ``nn.Sequential`` an instance
    normalisation is fused with the rectifier behind it. Instance normalisations of networks from elsewhere become
    ours. What has nothing of this comes back as it is: a Deconver, whose blocks have kernels of their own; so do
    TorchScript, and any network elsewhere than on a CPU.
    """
    if device.type != "cpu" or isinstance(network, torch.jit.ScriptModule):
        return network
    filters = any(fits_winograd(layer) for layer in network.modules())
    norms = any(isinstance(layer, nn.InstanceNorm2d | nn.InstanceNorm3d) for layer in network.modules())
    if not filters and (isinstance(network, Network) or not norms):
        return network
    tuned = deepcopy(network)
    use_own_norms(tuned)
    if filters:
        for layer in list(tuned.modules()):
            freeze(layer)
    return tuned
