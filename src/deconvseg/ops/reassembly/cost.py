"""Cost of content-aware reassembly (CARAFE, Wang et al., ICCV 2019, Eq. 2)."""

from collections.abc import Sequence

from torch import Tensor

from deconvseg.ops.cost import Cost


def reassemble(features: Tensor, weights: Tensor, *, scale: int | Sequence[int]) -> Cost:
    """Return the cost of a weighted sum of K^d neighbours for each output element."""
    return Cost(macs=features.shape[1] * weights.numel())
