"""Cost of sampling at shifted positions, for any backend (DTC, arXiv 2601.17939, section 3.1)."""

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
    """Return the cost of Eq. 2, a weighted sum of 2^d neighbours per output element, and of Eq. 1 per position.

    Eq. 1 multiplies each offset by its weight, then scales it and adds it to the grid (one multiply-accumulate). On
    each axis a position gives the shares of its two neighbours (two differences); the 2^d sampling weights are products
    of d shares.
    """
    axes = features.ndim - 2
    sampled = positions(tuple(offsets.shape))
    elements = features.shape[1] * positions((features.shape[0], 1, *offsets.shape[2:]))
    of_positions = offsets.numel() * (2 if weights is None else 3) + sampled * 2**axes * (axes - 1)
    added = 0 if base is None else elements
    return interpolation(elements, axes) + Cost(offsets.numel(), of_positions + added)
