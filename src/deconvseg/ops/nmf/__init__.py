"""Nonnegative matrix factorisation X ≈ F Gᵀ (Factorizer, arXiv 2202.12295), of matrices and of an image's windows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.backends import forced_backend, why_reference
from deconvseg.ops.cost import counted
from deconvseg.ops.layout import in_order_of
from deconvseg.ops.nmf import cost, reference
from deconvseg.ops.nmf.places import Windows, shifts_per_axis
from deconvseg.ops.nmf.windows import by_parts, factorise
from deconvseg.ops.overriding import overridable
from deconvseg.ops.precision import in_full_precision, without_autocast
from deconvseg.ops.torch_internals import is_counting_flops

__all__ = ["nmf", "windowed_nmf"]


@overridable
@counted(cost.factorise)
def nmf(x: Tensor, start: Tensor, *, iterations: int = 5) -> tuple[Tensor, Tensor]:
    """Approximate matrices by a product of nonnegative factors, X ≈ F Gᵀ, with the HALS algorithm.

    ``x`` is (\\*B, M, N) and ``start``, the initial G, is (N, R) for rank R; both must be nonnegative, which is not
    checked. Each of the ``iterations`` sweeps sets the columns of F, then those of G, one after the other to their
    nonnegative optimum, so the error ‖X − F Gᵀ‖ never increases. Returns F (\\*B, M, R), whose columns sum to one, and
    G (\\*B, N, R), in the type of ``x``; an unused component is zero. Half types and autocast regions compute in
    float32. Raises :class:`~deconvseg.errors.InputError` if shapes or ``iterations`` do not fit.

    Example:
        >>> import torch
        >>> from deconvseg.ops import nmf
        >>> x = torch.outer(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0, 4.0]))
        >>> f, g = nmf(x, torch.ones(3, 1))
        >>> torch.allclose(f @ g.mT, x)
        True

    """
    if x.ndim < 2 or start.ndim != 2 or start.shape[0] != x.shape[-1] or start.shape[1] < 1:
        raise InputError(
            f"x of shape {tuple(x.shape)} and start of shape {tuple(start.shape)}: give (*B, M, N) and (N, R), with R "
            "the rank"
        )
    _check_iterations(iterations)
    with without_autocast(x.device.type):
        full_x, full_start = in_full_precision(x, start)
        by_definition = forced_backend() == "reference" or is_counting_flops()
        compute = reference.factorise if by_definition else factorise
        f, g = compute(full_x, full_start, iterations)
        return f.to(x.dtype), g.to(x.dtype)


@overridable
@counted(cost.windowed)
def windowed_nmf(
    x: Tensor,
    start: Tensor,
    *,
    window: int | Sequence[int],
    shifts: Sequence[int | Sequence[int]],
    head_dim: int,
    iterations: int = 5,
) -> Tensor:
    """Replace each window of an image by its low-rank approximation, head by head, and average over shifted windows.

    ``x`` is (B, C, \\*S) with two or three spatial axes; it must be nonnegative, which is not checked. For each of the
    ``shifts`` (one number, or one per axis; 0 means no shift) the image is rolled by the shift and split into windows
    of ``window`` positions (one number, or one per axis, dividing S) and heads of ``head_dim`` consecutive channels.
    Each of these matrices (head_dim, positions) is approximated by :func:`nmf`; then the image is reassembled and
    rolled back. ``start`` (positions of a window, R), the initial G of all windows, is a constant without a gradient.
    Returns the mean over the shifts, (B, C, \\*S), in the type and memory format of ``x``. Half types and autocast
    regions compute in float32.

    The backward pass factorises again instead of saving intermediate results. Raises
    :class:`~deconvseg.errors.InputError` if shapes, windows, shifts or ``iterations`` do not fit.

    Example:
        >>> import torch
        >>> from deconvseg.ops import windowed_nmf
        >>> windowed_nmf(torch.rand(1, 8, 8, 8), torch.rand(16, 1), window=4, shifts=(0, 2), head_dim=8).shape
        torch.Size([1, 8, 8, 8])

    """
    windows = _check_windows(x, start, window, shifts, head_dim)
    _check_iterations(iterations)
    with without_autocast(x.device.type):
        full_x, full_start = in_full_precision(x, start.detach())
        # A FLOP counter must see the products of the definition.
        forced = forced_backend() == "reference" or is_counting_flops()
        if forced or torch.compiler.is_compiling() or why_reference() or x.numel() == 0:
            explained = reference.windowed(full_x, full_start, windows, iterations)
        else:
            explained = by_parts(full_x, full_start, windows, iterations)
        return in_order_of(x, explained.to(x.dtype))


def _check_iterations(iterations: int) -> None:
    if iterations < 1:
        raise InputError(f"iterations={iterations}: give 1 or more")


def _check_windows(
    x: Tensor, start: Tensor, window: int | Sequence[int], shifts: Sequence[int | Sequence[int]], head_dim: int
) -> Windows:
    """Expand windows and shifts to one number per axis; :class:`InputError` for arguments that do not fit."""
    axes = x.ndim - 2
    if axes not in (2, 3):
        raise InputError(f"x of shape {tuple(x.shape)}: give (B, C, *S) with 2 or 3 spatial axes")
    sizes = (window,) * axes if isinstance(window, int) else tuple(window)
    if len(sizes) != axes or any(size < 1 for size in sizes):
        raise InputError(f"window={window!r}: give a positive integer, or {axes} of them, one per axis")
    if any(length % size for length, size in zip(x.shape[2:], sizes, strict=True)):
        raise InputError(f"x of spatial size {tuple(x.shape[2:])} is not cut evenly by windows of {sizes}")
    if head_dim < 1 or x.shape[1] % head_dim:
        raise InputError(f"head_dim={head_dim} does not divide {x.shape[1]} channels: choose a divisor")
    positions = torch.Size(sizes).numel()
    if start.ndim != 2 or start.shape[0] != positions or start.shape[1] < 1:
        raise InputError(
            f"start of shape {tuple(start.shape)}: give ({positions}, R) for windows of {sizes}, with R the rank"
        )
    steps = shifts_per_axis(shifts, axes)
    # Rolling by a whole window only permutes the windows.
    reduced = (tuple(along % size for along, size in zip(step, sizes, strict=True)) for step in steps)
    return Windows(sizes, tuple(reduced), head_dim)
