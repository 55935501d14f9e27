"""Properties of nonnegative deconvolution, in float64, against loops written from the equations' indices."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from deconvseg.errors import InputError
from deconvseg.ops import ndc_error, ndc_reconstruct, ndc_solve, ndc_update


@st.composite
def problems(draw, max_size=5, sparse=None, max_dims=3):
    """An image, a source, filters and groups that belong together; ``sparse`` ones have whole regions of zeros."""
    dims = draw(st.integers(1, max_dims))
    groups, image_channels, source_channels = draw(st.tuples(*[st.integers(1, 3)] * 3))
    size = draw(st.lists(st.integers(1, max_size), min_size=dims, max_size=dims))
    kernel = draw(st.lists(st.sampled_from((1, 3, 5)), min_size=dims, max_size=dims))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def nonnegative(*shape):
        values = torch.rand(shape, generator=generator, dtype=torch.float64)
        return values * (torch.rand(shape, generator=generator) > 0.7) if zeros else values

    zeros = draw(st.booleans()) if sparse is None else sparse
    batch = draw(st.integers(1, 2))
    x = nonnegative(batch, groups * image_channels, *size)
    source = nonnegative(batch, groups * source_channels, *size)
    filters = nonnegative(groups * image_channels, source_channels, *kernel)
    return x, source, filters, groups


def adjoint_filters(filters: Tensor, groups: int) -> Tensor:
    """V⁻[e, c, m] = V[c, e, 2M − m] within each group."""
    flipped = filters.flip(tuple(range(2, filters.ndim)))
    return torch.cat([group.transpose(0, 1) for group in flipped.chunk(groups)])


def correlate_by_index(source: Tensor, filters: Tensor, groups: int) -> Tensor:
    """Eq. 1, one index at a time."""
    channels, per_group, *kernel = filters.shape
    size = source.shape[2:]
    out = source.new_zeros(source.shape[0], channels, *size)
    for c, e in itertools.product(range(channels), range(per_group)):
        channel = c // (channels // groups) * per_group + e
        for h in itertools.product(*map(range, size)):
            for m in itertools.product(*map(range, kernel)):
                at = tuple(i + j - k // 2 for i, j, k in zip(h, m, kernel, strict=True))
                if all(0 <= i < n for i, n in zip(at, size, strict=True)):
                    out[(slice(None), c, *h)] += source[(slice(None), channel, *at)] * filters[(c, e, *m)]
    return out


def denominator(source, filters, groups):
    return ndc_reconstruct(
        ndc_reconstruct(source, filters, groups=groups), adjoint_filters(filters, groups), groups=groups
    )


def surrogate(source, at, x, filters, groups):
    """Q(S | S⁽ᵗ⁾) of Eq. 15, per sample."""

    def inner(a, b):
        return (a * b).flatten(1).sum(1)

    explained = ndc_reconstruct(at, filters, groups=groups)
    linear = inner(x, ndc_reconstruct(source, filters, groups=groups))
    quadratic = inner(ndc_reconstruct(source.square() / at, filters, groups=groups), explained)
    return inner(x, x) - 2 * linear + quadratic


@given(problems(max_size=4, max_dims=2))
@settings(deadline=None, max_examples=15)
def test_reconstruction_and_update_agree_with_loops_over_the_indices(problem):
    x, source, filters, groups = problem
    explained = correlate_by_index(source, filters, groups)
    torch.testing.assert_close(ndc_reconstruct(source, filters, groups=groups), explained)
    adjoint = adjoint_filters(filters, groups)
    above = correlate_by_index(x, adjoint, groups) + 1e-2
    below = correlate_by_index(explained, adjoint, groups) + 1e-2
    torch.testing.assert_close(ndc_update(x, source, filters, groups=groups, eps=1e-2), source * above / below)
    torch.testing.assert_close(ndc_error(x, source, filters, groups=groups), (x - explained).square().flatten(1).sum(1))


def test_three_axes_agree_with_loops_over_the_indices():
    generator = torch.Generator().manual_seed(0)
    source, filters = (torch.rand(s, generator=generator).double() for s in ((1, 4, 3, 2, 4), (2, 2, 3, 1, 5)))
    torch.testing.assert_close(ndc_reconstruct(source, filters, groups=2), correlate_by_index(source, filters, 2))


@given(problems())
@settings(deadline=None, max_examples=40)
def test_adjoint_identity(problem):
    y, source, filters, groups = problem
    left = (ndc_reconstruct(source, filters, groups=groups) * y).sum()
    right = (source * ndc_reconstruct(y, adjoint_filters(filters, groups), groups=groups)).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@given(problems(), st.sampled_from((0.0, 1e-8, 1e-2)))
@settings(deadline=None, max_examples=60)
def test_the_update_stays_nonnegative_and_never_raises_the_error(problem, eps):
    x, source, filters, groups = problem
    updated = ndc_update(x, source, filters, groups=groups, eps=eps)
    assert torch.isfinite(updated).all()
    assert (updated >= 0).all()
    before, after = (ndc_error(x, s, filters, groups=groups) for s in (source, updated))
    assert (after <= before + 1e-12 * x.square().flatten(1).sum(1)).all()


@given(problems(sparse=False), st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_the_surrogate_lies_above_the_error_touches_it_and_is_minimised_by_the_update(problem, seed):
    x, at, filters, groups = problem
    at = at + 1e-3
    other = at * torch.rand(at.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    tolerance = 1e-10 * (1 + x.square().sum() + ndc_reconstruct(other, filters, groups=groups).square().sum())
    assert (surrogate(other, at, x, filters, groups) >= ndc_error(x, other, filters, groups=groups) - tolerance).all()
    torch.testing.assert_close(surrogate(at, at, x, filters, groups), ndc_error(x, at, filters, groups=groups))
    best = ndc_update(x, at, filters, groups=groups, eps=0.0)
    lowest = surrogate(best, at, x, filters, groups)
    assert (lowest <= surrogate(other, at, x, filters, groups) + tolerance).all()


@given(problems(sparse=True))
@settings(deadline=None, max_examples=40)
def test_a_zero_denominator_gives_zero_without_eps_and_keeps_the_source_with_it(problem):
    x, source, filters, groups = (t.requires_grad_() if isinstance(t, Tensor) else t for t in problem)
    nothing = (denominator(source, filters, groups) == 0).detach()
    updated = ndc_update(x, source, filters, groups=groups, eps=0.0)
    assert (updated[nothing] == 0).all()
    for gradient in torch.autograd.grad(updated.sum(), (x, source, filters)):
        assert torch.isfinite(gradient).all()
    connected = ndc_reconstruct(torch.ones_like(x), adjoint_filters(filters, groups), groups=groups) > 0
    kept = ndc_update(x, source, filters, groups=groups, eps=1e-8)
    # Eq. 7 keeps an entry where numerator and denominator vanish; no filter reaches the others.
    torch.testing.assert_close(kept[~connected], source[~connected], rtol=0, atol=0)
    unexplained = nothing & (source == 0)
    assert (kept[unexplained] == 0).all()


@pytest.mark.parametrize("which", ["x", "source", "filters", "all"])
@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_zeros_and_constants_have_finite_values_and_gradients(which, eps):
    tensors = {"x": torch.ones(1, 2, 4, 4), "source": torch.ones(1, 4, 4, 4), "filters": torch.ones(2, 2, 3, 3)}
    for name in tensors:
        if which in (name, "all"):
            tensors[name] = torch.zeros_like(tensors[name])
        tensors[name].requires_grad_()
    updated = ndc_update(*tensors.values(), groups=2, eps=eps)
    assert torch.isfinite(updated).all()
    for gradient in torch.autograd.grad(updated.sum(), tuple(tensors.values())):
        assert torch.isfinite(gradient).all()


@given(problems(), st.sampled_from((0.0, 1e-8)))
@settings(deadline=None, max_examples=30)
def test_an_exact_solution_is_fixed_wherever_the_denominator_is_positive(problem, eps):
    _, source, filters, groups = problem
    x = ndc_reconstruct(source, filters, groups=groups)
    updated = ndc_update(x, source, filters, groups=groups, eps=eps)
    positive = denominator(source, filters, groups) > 0
    torch.testing.assert_close(updated[positive], source[positive], rtol=1e-12, atol=0)


@pytest.mark.parametrize("eps", [0.0, 1e-2])
@pytest.mark.parametrize(("size", "kernel"), [((5,), (3,)), ((3, 4), (3, 1)), ((2, 3, 2), (1, 3, 3))])
def test_gradients_of_first_and_second_order(size, kernel, eps):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, *size), (2, 2, *size), (4, 1, *kernel)
    x, source, filters = ((0.1 + torch.rand(s, generator=generator)).double().requires_grad_() for s in shapes)

    def update(*tensors):
        return ndc_update(*tensors, groups=2, eps=eps)

    assert gradcheck(update, (x, source, filters))
    assert gradgradcheck(update, (x, source, filters))
    assert gradgradcheck(lambda *tensors: ndc_error(*tensors, groups=2), (x, source, filters))


def test_solving_repeats_the_update_from_ones_and_reports_every_error():
    generator = torch.Generator().manual_seed(0)
    x, filters = torch.rand(2, 4, 6, 5, generator=generator), torch.rand(4, 3, 3, 3, generator=generator)
    source, errors = ndc_solve(x, filters, groups=2, iterations=3)
    expected = [torch.ones(2, 6, 6, 5)]
    for _ in range(3):
        expected.append(ndc_update(x, expected[-1], filters, groups=2, eps=0.0))
    torch.testing.assert_close(source, expected[-1])
    torch.testing.assert_close(errors, torch.stack([ndc_error(x, s, filters, groups=2) for s in expected]))
    assert errors.shape == (4, 2)


@given(problems(), st.sampled_from((0.0, 1e-8, 1e-2)))
@settings(deadline=None, max_examples=20)
def test_solving_never_raises_the_error(problem, eps):
    x, source, filters, groups = problem
    _, errors = ndc_solve(x, filters, groups=groups, iterations=20, source=source, eps=eps)
    assert (errors.diff(dim=0) <= 1e-12 * x.square().flatten(1).sum(1)).all()


def test_solving_finds_a_blurred_source():
    generator = torch.Generator().manual_seed(0)
    source = (torch.rand(1, 1, 24, 24, generator=generator) > 0.9).double()
    filters = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    filters = (filters[:, None] * filters)[None, None]
    x = ndc_reconstruct(source, filters, groups=1)
    found, errors = ndc_solve(x, filters, groups=1, iterations=1000)
    assert errors[-1] < 1e-3 * errors[0]
    assert (found - source).abs().max() < 0.2


def test_no_iteration_returns_the_start():
    x, filters = torch.rand(1, 2, 4), torch.rand(2, 1, 3)
    source, errors = ndc_solve(x, filters, groups=2, iterations=0)
    assert (source == 1).all()
    assert errors.shape == (1, 1)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_types_compute_in_float32_and_return_their_type(half):
    x, source, filters = (torch.rand(s).to(half) for s in ((1, 2, 6, 6), (1, 4, 6, 6), (2, 2, 3, 3)))
    for function in (ndc_update, ndc_error):
        full = function(x.float(), source.float(), filters.float(), groups=2)
        torch.testing.assert_close(function(x, source, filters, groups=2), full.to(half), rtol=0, atol=0)
    full, full_errors = ndc_solve(x.float(), filters.float(), groups=2, iterations=5)
    found, errors = ndc_solve(x, filters, groups=2, iterations=5)
    torch.testing.assert_close(found, full.to(half), rtol=0, atol=0)
    torch.testing.assert_close(errors, full_errors.to(half), rtol=0, atol=0)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_changes_nothing(half, dtype):
    x, source, filters = (torch.rand(s).to(dtype) for s in ((1, 2, 6, 6), (1, 4, 6, 6), (2, 2, 3, 3)))
    expected = ndc_update(x, source, filters, groups=2)
    with torch.autocast("cpu", dtype=half):
        found = ndc_update(x, source, filters, groups=2)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_inputs_keep_their_values():
    tensors = [torch.rand(s) for s in ((1, 2, 6), (1, 4, 6), (2, 2, 3))]
    copies = [tensor.clone() for tensor in tensors]
    ndc_update(*tensors, groups=2, eps=1e-2)
    ndc_solve(tensors[0], tensors[2], groups=2, iterations=2, source=tensors[1], eps=1e-2)
    for tensor, copy in zip(tensors, copies, strict=True):
        torch.testing.assert_close(tensor, copy, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shapes", "groups", "message"),
    [
        (((1, 2, 6), (1, 4, 6), (2, 2, 4)), 2, r"kernel size \(4,\) must be odd"),
        (((1, 3, 6), (1, 4, 6), (3, 2, 3)), 2, "groups=2 does not divide the 3 channels"),
        (((1, 2, 6), (1, 4, 6), (2, 2, 3)), 0, "groups=0 does not divide"),
        (((1, 2, 6), (1, 3, 6), (2, 2, 3)), 2, r"source of shape \(1, 3, 6\).*give \(B, 4, \*S\)"),
        (((1, 4, 6), (1, 4, 6), (2, 2, 3)), 2, r"x of shape \(1, 4, 6\).*give \(B, 2, \*S\)"),
        (((1, 2, 6, 6), (1, 4, 6), (2, 2, 3)), 2, "1 spatial axes"),
        (((1, 2, 6), (2, 4, 6), (2, 2, 3)), 2, "make their batch and spatial sizes the same"),
        (((1, 2, 7), (1, 4, 6), (2, 2, 3)), 2, "make their batch and spatial sizes the same"),
        (((1, 2), (1, 4), (2, 2)), 2, "one to three kernel axes"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, groups, message):
    with pytest.raises(InputError, match=message):
        ndc_update(*(torch.rand(shape) for shape in shapes), groups=groups)


def test_numbers_that_do_not_fit_are_named():
    x, source, filters = (torch.rand(s) for s in ((1, 2, 6), (1, 4, 6), (2, 2, 3)))
    with pytest.raises(InputError, match="eps=-1"):
        ndc_update(x, source, filters, groups=2, eps=-1)
    with pytest.raises(InputError, match="iterations=-1"):
        ndc_solve(x, filters, groups=2, iterations=-1)
