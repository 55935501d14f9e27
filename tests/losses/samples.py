"""Logits and labels for the tests of losses."""

import torch
from torch import Tensor

REGIONS = [(1, 2), (2,)]
IGNORED = 3


def sample(seed: int, outputs: int, shape: tuple[int, ...], ids: int) -> tuple[Tensor, Tensor]:
    """Logits (2, outputs, \\*shape) and class ids (2, \\*shape) below ``ids``."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, outputs, *shape, generator=generator)
    return logits, torch.randint(0, ids, (2, *shape), generator=generator)
