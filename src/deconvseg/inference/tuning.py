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
    """Return a copy of a network that is faster on a CPU; its results differ by rounding.

    In the copy, the weights of suitable convolutions with kernels of 3 are packed for Winograd's minimal filtering,
    PyTorch's other convolutions run in channels-last order, and in each sequence an instance
    normalisation is fused with the rectifier after it. Instance normalisations of other libraries are replaced by this
    package's. Under an autocast to bfloat16 the weights are packed in bfloat16. A network without such layers is
    returned unchanged (a Deconver, whose blocks have their own kernels), as are TorchScript, a network that is not on a
    CPU and, with a log message, one that cannot be copied.
    """
    if device.type != "cpu" or isinstance(network, torch.jit.ScriptModule):
        return network
    filters = any(fits_winograd(layer) for layer in network.modules())
    if not filters and all(own_norm(layer) is None for layer in network.modules()):
        return network
    # Weights copied in inference mode would not count their in-place changes.
    with torch.inference_mode(False):
        try:
            tuned = deepcopy(network)
        except FOREIGN_ERRORS as obstacle:
            name, why = type(network).__name__, first_line(obstacle)
            _log.warning("%s is not optimised for this CPU, because it cannot be copied: %s", name, why)
            return network
        (freeze if filters else use_own_norms)(tuned)
    return tuned
