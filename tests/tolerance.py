"""How near a kernel must come to the reference in float64."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def assert_near(found: Sequence[Tensor], plain: Sequence[Tensor], exact: Sequence[Tensor], *, ulps: float = 1) -> None:
    """Allow twice plain PyTorch's error in the same precision (root mean square), and an ulp of the largest value."""
    for index, (mine, theirs, truth) in enumerate(zip(found, plain, exact, strict=True)):
        assert mine.shape == truth.shape
        if truth.numel() == 0:
            continue
        ulp = torch.finfo(theirs.dtype).eps * truth.abs().max().item()
        error, allowed = ((tensor.double() - truth).square().mean().sqrt().item() for tensor in (mine, theirs))
        assert error <= 2 * allowed + ulps * ulp, (
            f"result {index}: error {error:.3g}, plain PyTorch's {allowed:.3g}, {ulp=:.3g}"
        )


def with_gradients(function: Callable[..., Tensor], tensors: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    """A function's result and the gradients of all its tensors."""
    inputs = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    result = function(*inputs)
    return [result.detach(), *torch.autograd.grad(result, inputs, grad)]


def assert_as_good(
    found: Sequence[Tensor], plain: Sequence[Tensor], exact: Sequence[Tensor], factor: float = 2
) -> None:
    """Allow ``factor`` times plain PyTorch's error in the same half type (root mean square), and a tenth of an ulp.

    Unlike that of :func:`assert_near`, this allowance is relative to the size of all numbers and not to the largest.
    """
    for index, (mine, theirs, truth) in enumerate(zip(found, plain, exact, strict=True)):
        assert mine.shape == truth.shape
        if truth.numel() == 0:
            continue
        size, error, allowed = (
            tensor.square().mean().sqrt().item() for tensor in (truth, mine.double() - truth, theirs.double() - truth)
        )
        limit = factor * allowed + torch.finfo(torch.bfloat16).eps / 10 * size
        assert error <= limit, f"result {index}: error {error:.3g}, plain PyTorch's {allowed:.3g}, {size=:.3g}"
