"""Random weights that several tests share."""

import torch

from deconvseg.ops.deconver_block import Weights


def block_weights(channels, ratio, kernel, hidden, generator):
    """Weights of a Deconver block of the size that PyTorch's own initialisation gives."""
    ones, sources = (1,) * len(kernel), channels * ratio

    def draw(*shape):
        return torch.randn(shape, generator=generator) / max(1, shape[1] if len(shape) > 1 else 1) ** 0.5

    pointwise = [(channels, sources), (hidden, channels), (channels, hidden)]
    behind = [tensor for rows, columns in pointwise for tensor in (draw(rows, columns, *ones), draw(rows))]
    first = [draw(channels, channels, *ones), draw(channels, ratio, *kernel)]
    return Weights(*first, draw(sources, channels, *ones), draw(sources), *behind)
