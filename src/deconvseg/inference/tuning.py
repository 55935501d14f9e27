"""Networks made faster on a CPU without changing what they compute."""

import logging
from copy import deepcopy

import torch
from torch import nn

from deconvseg.nn.frozen import fits_winograd, freeze
from deconvseg.nn.norm import own_norm, use_own_norms
from deconvseg.system import FOREIGN_ERRORS, first_line

_log = logging.getLogger("deconvseg")


def tune(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network that is faster on a CPU; its results differ by rounding, and the one given stays as it is.

    Where it has convolutions with kernels of 3 that fit, their weights are packed for Winograd's minimal filtering in a
    copy, PyTorch's other convolutions keep the channels innermost in memory, and in each sequence an instance
    normalisation is fused with the rectifier behind it. Instance normalisations of networks from elsewhere become
    ours. What has nothing of this comes back as it is: a Deconver, whose blocks have kernels of their own; so do
    TorchScript, any network elsewhere than on a CPU and, with a line in the log, one that cannot be copied.
    """
    if device.type != "cpu" or isinstance(network, torch.jit.ScriptModule):
        return network
    filters = any(fits_winograd(layer) for layer in network.modules())
    if not filters and all(own_norm(layer) is None for layer in network.modules()):
        return network
    # A copy made in inference mode would have weights that do not tell when they change.
    with torch.inference_mode(False):
        try:
            tuned = deepcopy(network)
        except FOREIGN_ERRORS as obstacle:
            name, why = type(network).__name__, first_line(obstacle)
            _log.warning("%s runs as it is, not prepared for this CPU, because it cannot be copied: %s", name, why)
            return network
        (freeze if filters else use_own_norms)(tuned)
    return tuned
