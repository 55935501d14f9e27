"""Cost of nonnegative deconvolution, for any backend (Deconver, arXiv 2504.00302, section III-B)."""

from torch import Tensor

from deconvseg.ops.cost import Cost, positions


def correlation(image: Tensor, filters: Tensor) -> Cost:
    """Return the cost of S ∗ V or X ∗ V⁻: every filter weight once at every position."""
    return Cost(macs=positions(tuple(image.shape)) * filters.numel())


def reconstruct(source: Tensor, filters: Tensor, *, groups: int) -> Cost:
    """Return the cost of one correlation."""
    return correlation(source, filters)


def update(x: Tensor, source: Tensor, filters: Tensor, *, groups: int, eps: float = 1e-8) -> Cost:
    """Return the cost of Eq. 7: 3 correlations; per source entry a division, a product and, with ``eps``, 2 sums."""
    return correlation(source, filters) * 3 + Cost(0, (4 if eps > 0 else 2) * source.numel())


def error(x: Tensor, source: Tensor, filters: Tensor, *, groups: int) -> Cost:
    """Return the cost of Eq. 2: one correlation, a difference and a sum of squares."""
    return correlation(source, filters) + Cost(x.numel(), x.numel())


def solve(
    x: Tensor,
    filters: Tensor,
    *,
    groups: int,
    iterations: int,
    source: Tensor | None = None,
    eps: float = 0.0,
) -> Cost:
    """Return the cost of all updates, and of the error before the first and after each."""
    if source is None:
        source = x.new_empty((x.shape[0], filters.shape[1] * groups, *x.shape[2:]), device="meta")
    one_update = update(x, source, filters, groups=groups, eps=eps)
    return one_update * iterations + error(x, source, filters, groups=groups) * (iterations + 1)
