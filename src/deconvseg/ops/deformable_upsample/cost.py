"""What sampling at moved positions costs, whatever computes it (DTC, arXiv 2601.17939, section 3.1)."""

from collections.abc import Sequence

from torch import Tensor

from deconvseg.ops.cost import Cost, interpolation, positions


def upsample(
    features: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    *,
    scale: int | Sequence[int],
    receptive_field: float,
    base: Tensor | None = None,
) -> Cost:
    """Eq. 2: a weighted sum of the 2^d neighbours for each output element; Eq. 1 for each position.

    Eq. 1 scales and adds (a multiply-accumulate) each offset, after its product with a weight. From a position come, on
    each axis, the shares of both neighbours (two differences), and of them the 2^d products, of d factors.
    """
    axes = features.ndim - 2
    sampled = positions(tuple(offsets.shape))
    elements = features.shape[1] * positions((features.shape[0], 1, *offsets.shape[2:]))
    of_positions = offsets.numel() * (2 if weights is None else 3) + sampled * 2**axes * (axes - 1)
    added = 0 if base is None else elements
    return interpolation(elements, axes) + Cost(offsets.numel(), of_positions + added)
