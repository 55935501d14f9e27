"""Cost of the selective scan, for any backend (Mamba, arXiv 2312.00752, Eq. 2 and 4)."""

from torch import Tensor

from deconvseg.ops.cost import Cost


def scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    skip: Tensor | None = None,
    gate: Tensor | None = None,
    delta_bias: Tensor | None = None,
    softplus: bool = False,
) -> Cost:
    """Return the cost: two multiply-accumulates per state and step (recurrence, output), and one per step for ``skip``.

    Elementwise operations are the exponential and two products of the coefficients per state and step, and per step the
    product with Δ, its bias, softplus, the gate and its SiLU.
    """
    steps, states = u.numel(), a.shape[1]
    for_each_step = 1 + (delta_bias is not None) + softplus + 2 * (gate is not None)
    return Cost((2 * states + (skip is not None)) * steps, (3 * states + for_each_step) * steps)
