"""The exponential moving average of a network's weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average_weights(network: nn.Module, decay: float) -> AveragedModel:
    """Return the running average of a network; call ``update_parameters(network)`` after each step and use ``module``.

    The decay warms up as (1 + n) / (10 + n) after n updates, so that the random first weights soon lose their
    influence. Statistics of batch normalisation are averaged like the weights; counts are copied.
    """

    @torch.no_grad()
    def average(averages: Sequence[Tensor], currents: Sequence[Tensor], updates: Tensor | int) -> None:
        done = int(updates)
        weight = 1 - min(decay, (1 + done) / (10 + done))
        for averaged, current in zip(averages, currents, strict=True):
            averaged.lerp_(current, weight) if averaged.is_floating_point() else averaged.copy_(current)

    averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    # The average is not trained, and data-parallel training waits for the gradients of trained parameters.
    return averaged.requires_grad_(False)
