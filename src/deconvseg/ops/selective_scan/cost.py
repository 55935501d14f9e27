"""What the selective scan costs, whatever computes it (Mamba, arXiv 2312.00752, Eq. 2 and 4)."""

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
    """For each state and step the recurrence and the output, one multiply-accumulate each; ``skip`` is another a step.

    Elementwise are, for each state and step, the exponential and the two products that make the coefficients, and what
    is done for each step: the products with Δ, its bias and softplus, the gate and its SiLU.
    """
    steps, states = u.numel(), a.shape[1]
    for_each_step = 1 + (delta_bias is not None) + softplus + 2 * (gate is not None)
    return Cost((2 * states + (skip is not None)) * steps, (3 * states + for_each_step) * steps)
