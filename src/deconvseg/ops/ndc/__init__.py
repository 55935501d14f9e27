"""Nonnegative deconvolution: find S ≥ 0 with X ≈ S ∗ V (Deconver, arXiv 2504.00302, section III-B)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.backends import Choice, as_stored, choose, chosen
from deconvseg.ops.cost import counted
from deconvseg.ops.ndc import cost, library, reference
from deconvseg.ops.ndc.checks import check_filters, check_image, check_problem, check_source
from deconvseg.ops.overriding import overridable
from deconvseg.ops.precision import in_full_precision, without_autocast

__all__ = ["choose_update", "ndc_error", "ndc_reconstruct", "ndc_solve", "ndc_update"]


@overridable
@counted(cost.reconstruct)
def ndc_reconstruct(source: Tensor, filters: Tensor, *, groups: int) -> Tensor:
    """Correlate a source with its filters: X̂ = S ∗ V with zero padding (Deconver, Eq. 1).

    ``source`` is (B, E, \\*S) and ``filters`` (C, E/groups, \\*K), K odd, with one to three spatial axes; returns
    (B, C, \\*S) in the type of ``source``. Half types and autocast regions compute in float32. Raises
    :class:`~deconvseg.errors.InputError` if the shapes do not fit.

    Example:
        >>> import torch
        >>> from deconvseg.ops import ndc_reconstruct
        >>> source, filters = torch.rand(1, 8, 8, 8), torch.rand(4, 2, 3, 3)
        >>> ndc_reconstruct(source, filters, groups=4).shape
        torch.Size([1, 4, 8, 8])

    """
    check_filters(filters, groups)
    check_source(source, filters, groups)
    with without_autocast(source.device.type):
        full_source, full_filters = in_full_precision(source, filters)
        adjoint = reference.adjoint_filters(full_filters, groups)
        return reference.reconstruct(full_source, adjoint, groups).to(source.dtype)


@overridable
@counted(cost.update)
def ndc_update(x: Tensor, source: Tensor, filters: Tensor, *, groups: int, eps: float = 1e-8) -> Tensor:
    """Refine a source by one multiplicative update (Deconver, Eq. 7).

    ``x`` is (B, C, \\*S), ``source`` (B, E, \\*S) and ``filters`` (C, E/groups, \\*K), K odd, with one to three spatial
    axes; all must be nonnegative, which is not checked. Returns (B, E, \\*S) in the type of ``source``. Half types and
    autocast regions compute in float32. With ``eps`` = 0 an entry whose denominator is zero becomes 0; with ``eps`` > 0
    it keeps its value. The reconstruction error never increases (Theorem 1).

    A kernel computes the result if one accepts the tensors, otherwise plain PyTorch does
    (:func:`~deconvseg.ops.explain` shows the choice, :func:`~deconvseg.ops.use_backend` forces one). Second derivatives
    always use plain PyTorch. Raises :class:`~deconvseg.errors.InputError` if shapes or ``eps`` do not fit, or if a
    forced backend cannot compute.

    Example:
        >>> import torch
        >>> from deconvseg.ops import ndc_error, ndc_update
        >>> x, source, filters = torch.rand(1, 4, 8, 8), torch.ones(1, 8, 8, 8), torch.rand(4, 2, 3, 3)
        >>> updated = ndc_update(x, source, filters, groups=4)
        >>> bool(ndc_error(x, updated, filters, groups=4) < ndc_error(x, source, filters, groups=4))
        True

    """
    check_problem(x, source, filters, groups)
    _check_eps(eps)
    with without_autocast(x.device.type):
        stored_x, stored_source, stored_filters = as_stored(x, source, filters)
        update = _chosen(stored_x, stored_source, stored_filters, groups, eps)
        return update(stored_x, stored_source, stored_filters).to(source.dtype)


def choose_update(x: Tensor, source: Tensor, filters: Tensor, *, groups: int, eps: float = 1e-8) -> Choice:
    """Return the backend of :func:`ndc_update` for these arguments, without computing; same errors."""
    check_problem(x, source, filters, groups)
    _check_eps(eps)
    return choose(library.UPDATE, *as_stored(x, source, filters))


@overridable
@counted(cost.error)
def ndc_error(x: Tensor, source: Tensor, filters: Tensor, *, groups: int) -> Tensor:
    """Return the squared reconstruction error ‖X − S ∗ V‖²_F of each sample, (B,) (Deconver, Eq. 2).

    Shapes and errors are those of :func:`ndc_update`; the result has the type of ``x``, so it may overflow float16.

    Example:
        >>> import torch
        >>> from deconvseg.ops import ndc_error, ndc_reconstruct
        >>> source, filters = torch.rand(1, 8, 8, 8), torch.rand(4, 2, 3, 3)
        >>> x = ndc_reconstruct(source, filters, groups=4)
        >>> ndc_error(x, source, filters, groups=4)
        tensor([0.])

    """
    check_problem(x, source, filters, groups)
    with without_autocast(x.device.type):
        full_x, full_source, full_filters = in_full_precision(x, source, filters)
        return reference.error(full_x, full_source, full_filters, groups).to(x.dtype)


@overridable
@counted(cost.solve)
def ndc_solve(
    x: Tensor,
    filters: Tensor,
    *,
    groups: int,
    iterations: int,
    source: Tensor | None = None,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Solve min ‖X − S ∗ V‖²_F over S ≥ 0 by repeated multiplicative updates (Deconver, Eq. 2 and 3).

    Starts from ``source``, by default from ones. Returns the source after ``iterations`` updates, (B, E, \\*S), and the
    reconstruction errors before the first and after every update, (iterations + 1, B), which never increase (Theorem
    1). Shapes and raised errors are those of :func:`ndc_update`; half types are converted to float32 for all updates.

    Example:
        >>> import torch
        >>> from deconvseg.ops import ndc_solve
        >>> x, filters = torch.rand(1, 4, 8, 8), torch.rand(4, 2, 3, 3)
        >>> source, errors = ndc_solve(x, filters, groups=4, iterations=10)
        >>> source.shape, errors.shape, bool(errors[-1] < errors[0])
        (torch.Size([1, 8, 8, 8]), torch.Size([11, 1]), True)

    """
    check_filters(filters, groups)
    check_image(x, filters)
    if source is None:
        source = x.new_ones((x.shape[0], filters.shape[1] * groups, *x.shape[2:]))
    check_problem(x, source, filters, groups)
    _check_eps(eps)
    if iterations < 0:
        raise InputError(f"iterations={iterations}: give 0 or more")
    with without_autocast(x.device.type):
        full_x, estimate, full_filters = in_full_precision(x, source, filters)
        update = _chosen(full_x, estimate, full_filters, groups, eps)
        errors = [reference.error(full_x, estimate, full_filters, groups)]
        for _ in range(iterations):
            estimate = update(full_x, estimate, full_filters)
            errors.append(reference.error(full_x, estimate, full_filters, groups))
        return estimate.to(source.dtype), torch.stack(errors).to(x.dtype)


def _chosen(x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float) -> Callable[..., Tensor]:
    backend = chosen(library.UPDATE, x, source, filters)
    if backend == "reference":
        return partial(library.by_reference, groups=groups, eps=eps)
    return partial(library.update, groups=groups, eps=eps, backend=backend)


def _check_eps(eps: float) -> None:
    if not eps >= 0:
        raise InputError(f"eps={eps}: give 0 or a small positive number")
