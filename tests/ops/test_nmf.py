import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from deconvseg.errors import InputError
from deconvseg.ops import nmf, windowed_nmf
from deconvseg.ops.cost import Cost, told_to
from deconvseg.ops.nmf import rank_one, reference
from deconvseg.ops.nmf import windows as parts
from deconvseg.ops.nmf.places import Windows, extend, fold, from_places, matrices_of, shifted, to_places
from tolerance import assert_near, with_gradients


def matrices(*shape, zeros=0.3, dtype=torch.double, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator, dtype=dtype) - zeros).relu()


def error(x, f, g):
    return (x - f @ g.mT).square().sum((-2, -1))


SIZES = st.integers(1, 7)


@given(SIZES, SIZES, st.integers(1, 4), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_the_error_never_rises_from_sweep_to_sweep(rows, columns, rank, seed):
    x, start = matrices(3, rows, columns, seed=seed), matrices(columns, rank, zeros=0, seed=seed + 1)
    before = x.square().sum((-2, -1))
    for iterations in range(1, 7):
        f, g = nmf(x, start, iterations=iterations)
        assert (f >= 0).all()
        assert (g >= 0).all()
        after = error(x, f, g)
        assert (after <= before + 1e-12 * x.square().sum()).all()
        before = after


@given(SIZES, SIZES, st.integers(1, 3), st.integers(1, 4), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_a_sweep_takes_each_column_to_its_best(rows, columns, rank, iterations, seed):
    """No column of G, the last to be refined, can be improved by a small step that keeps it nonnegative."""
    x, start = matrices(rows, columns, seed=seed), matrices(columns, rank, zeros=0, seed=seed + 1)
    f, g = nmf(x, start, iterations=iterations)
    last = g[:, -1].clone().requires_grad_()
    moved = torch.cat([g[:, :-1], last.unsqueeze(-1)], dim=-1)
    (slope,) = torch.autograd.grad(error(x, f, moved), last)
    positive = last > 0
    torch.testing.assert_close(slope[positive], torch.zeros_like(slope[positive]), rtol=0, atol=1e-9)
    assert (slope[~positive] >= -1e-9).all()


@given(SIZES, SIZES, st.integers(1, 6), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_rank_one_is_the_reference_s_value_and_gradient(rows, columns, iterations, seed):
    x, start = matrices(2, rows, columns, seed=seed), matrices(columns, 1, zeros=0, seed=seed + 1)
    grad = torch.rand_like(x)

    def by(form):
        return lambda x, start: torch.matmul(*[factor.mT if i else factor for i, factor in enumerate(form(x, start))])

    found, expected = (
        with_gradients(by(lambda x, start: form.factorise(x, start, iterations)), (x, start), grad)  # noqa: B023
        for form in (rank_one, reference)
    )
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


def test_both_ways_of_rank_one_are_as_near_as_the_reference():
    """Few rows go by X Xᵀ, many by products with X."""
    for rows in (8, 100):
        x, start = matrices(50, rows, 64, dtype=torch.float32), matrices(64, 1, zeros=0, dtype=torch.float32)
        exact = reference.factorise(x.double(), start.double(), 5)
        assert_near(rank_one.factorise(x, start, 5), reference.factorise(x, start, 5), exact)


@pytest.mark.parametrize(("rank", "iterations"), [(1, 1), (1, 5), (2, 2)])
def test_a_nonnegative_matrix_of_rank_one_is_recovered_exactly(rank, iterations):
    f, g = matrices(4, 6, 1), matrices(4, 9, 1)
    x = f @ g.mT
    found_f, found_g = nmf(x, matrices(9, rank, zeros=0), iterations=iterations)
    torch.testing.assert_close(found_f @ found_g.mT, x, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found_f[..., :1], f / f.sum(-2, keepdim=True), rtol=1e-12, atol=1e-14)


def test_blocks_are_components():
    x = torch.block_diag(torch.ones(2, 3), 2 * torch.ones(3, 4)).double()
    f, g = nmf(x, matrices(7, 2, zeros=0), iterations=200)
    torch.testing.assert_close(f @ g.mT, x, rtol=1e-6, atol=1e-6)
    assert ((f > 1e-6).sum(0).sort().values == torch.tensor([2, 3])).all()


def test_rank_one_tends_to_the_best_approximation():
    x = matrices(5, 6, 8)
    f, g = nmf(x, torch.ones(8, 1, dtype=torch.double), iterations=200)
    u, s, v = torch.linalg.svd(x)
    best = u[..., :1] * s[..., None, :1] @ v[..., :1, :]
    torch.testing.assert_close(f @ g.mT, best, rtol=1e-8, atol=1e-10)


@given(st.integers(1, 3), st.integers(0, 100))
@settings(deadline=None, max_examples=10)
def test_columns_of_f_sum_to_one_or_are_zero(rank, seed):
    f, g = nmf(matrices(3, 4, 5, zeros=0.6, seed=seed), matrices(5, rank, zeros=0), iterations=3)
    total = f.sum(-2)
    assert (((total - 1).abs() < 1e-12) | (total == 0)).all()
    assert (g.sum(-2)[total == 0] == 0).all()


@pytest.mark.parametrize("rank", [1, 2])
def test_gradients_are_those_of_finite_differences(rank):
    x = (matrices(2, 3, 4, zeros=0) + 0.1).requires_grad_()
    start = matrices(4, rank, zeros=0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, start: nmf(x, start, iterations=3), (x, start))
    assert torch.autograd.gradgradcheck(lambda x, start: nmf(x, start, iterations=2), (x, start))


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1e-7, 1.0, 1e9])
def test_zeros_constants_and_any_scale_have_finite_gradients(scale, rank):
    for pattern in (torch.ones(4, 8, 64), matrices(4, 8, 64, zeros=0.9, dtype=torch.float32), torch.eye(8, 64)[None]):
        x = (scale * pattern).requires_grad_()
        f, g = nmf(x, matrices(64, rank, zeros=0, dtype=torch.float32))
        (grad,) = torch.autograd.grad((f @ g.mT).sum(), x)
        assert torch.isfinite(f).all()
        assert torch.isfinite(g).all()
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_types_and_autocast_compute_in_float32(half):
    x, start = matrices(2, 8, 64, dtype=torch.float32).to(half), matrices(64, 1, zeros=0, dtype=torch.float32)
    expected = nmf(x.float(), start)
    found = nmf(x, start)
    assert [factor.dtype for factor in found] == [half, half]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs.to(half), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=half):
        for mine, theirs in zip(nmf(x.float(), start), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@st.composite
def cut_images(draw):
    axes = draw(st.sampled_from((2, 3)))
    window = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    grid = [draw(st.integers(1, 3)) for _ in range(axes)]
    size = [count * length for count, length in zip(grid, window, strict=True)]
    shifts = draw(st.lists(st.tuples(*(st.integers(0, length - 1) for length in window)), min_size=1, max_size=3))
    heads, head_dim, batch = (draw(st.integers(1, 3)) for _ in range(3))
    x = matrices(batch, heads * head_dim, *size, seed=draw(st.integers(0, 1000)))
    return x, Windows(window, tuple(shifts), head_dim)


@given(cut_images())
@settings(deadline=None, max_examples=40)
def test_shifted_windows_put_back_are_the_image(cut):
    x, windows = cut
    rows = x.movedim(1, -1)
    extended = extend(rows, windows.margins)
    torch.testing.assert_close(fold(extended.clone().zero_(), windows.margins), torch.zeros_like(rows))
    for shift in windows.shifts:
        rolled = torch.roll(rows, shift, tuple(range(1, rows.ndim - 1)))
        places = to_places(shifted(extended, windows.margins, shift), windows)
        torch.testing.assert_close(places, to_places(rolled, windows), rtol=0, atol=0)
        torch.testing.assert_close(from_places(places), rolled, rtol=0, atol=0)
        back = torch.zeros_like(extended)
        to_places(shifted(back, windows.margins, shift), windows).copy_(places)
        torch.testing.assert_close(fold(back, windows.margins), rows, rtol=0, atol=0)


def test_a_matrix_is_one_head_of_one_window():
    x = torch.arange(2 * 6 * 4 * 6).reshape(2, 6, 4, 6)
    found = matrices_of(to_places(x.movedim(1, -1), Windows((2, 3), ((0, 0),), 2))).reshape(2, 2, 2, 3, 2, 6)
    for sample, row, column, head in ((0, 0, 0, 0), (1, 1, 0, 2), (0, 1, 1, 1)):
        block = x[sample, 2 * head : 2 * head + 2, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        assert torch.equal(found[sample, row, column, head], block.flatten(1))


@given(cut_images(), st.integers(1, 2), st.integers(1, 3), st.sampled_from((1, 40, 2**20)))
@settings(deadline=None, max_examples=40)
def test_parts_of_any_size_give_the_reference_s_values_and_gradients(cut, rank, iterations, elements):
    x, windows = cut
    start = matrices(torch.Size(windows.size).numel(), rank, zeros=0)
    grad = torch.rand_like(x)
    options = {"window": windows.size, "shifts": windows.shifts, "head_dim": windows.head_dim}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_ELEMENTS", {"cpu": elements})
        found = with_gradients(lambda x: windowed_nmf(x, start, iterations=iterations, **options), (x,), grad)
    expected = with_gradients(lambda x: reference.windowed(x, start, windows, iterations), (x,), grad)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)
    assert found[0].is_contiguous()


def test_windowed_gradients_are_those_of_finite_differences():
    x = (matrices(1, 2, 4, 2, zeros=0) + 0.1).requires_grad_()
    start = matrices(4, 1, zeros=0)

    def approximate(x):
        return windowed_nmf(x, start, window=2, shifts=(0, 1), head_dim=2, iterations=2)

    assert torch.autograd.gradcheck(approximate, (x,))
    assert torch.autograd.gradgradcheck(approximate, (x,))


def test_rolling_by_the_window_changes_nothing():
    x, start = matrices(1, 4, 8, 8), matrices(16, 1, zeros=0)
    options = {"window": 4, "head_dim": 2}
    expected = windowed_nmf(x, start, shifts=(1,), **options)
    torch.testing.assert_close(windowed_nmf(x, start, shifts=(5,), **options), expected, rtol=0, atol=0)
    moved = windowed_nmf(torch.roll(x, (4, -4), (2, 3)), start, shifts=(1,), **options)
    torch.testing.assert_close(torch.roll(moved, (-4, 4), (2, 3)), expected)


def test_windows_of_rank_one_stay_as_they_are():
    pattern, weight = matrices(1, 4, 2, 3, zeros=0) + 0.1, matrices(1, 1, 4, 6, zeros=0)
    x = pattern.repeat_interleave(2, 2).repeat_interleave(2, 3) * weight
    found = windowed_nmf(x, matrices(4, 1, zeros=0), window=2, shifts=(0,), head_dim=4)
    torch.testing.assert_close(found, x)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_windows_compute_in_float32_under_autocast_forward_and_backward(half):
    x, start = matrices(2, 8, 8, 8, dtype=torch.float32), matrices(16, 1, zeros=0, dtype=torch.float32)
    options = {"window": 4, "shifts": (0, 1), "head_dim": 4}
    grad = torch.rand_like(x)
    expected = with_gradients(lambda x: windowed_nmf(x, start, **options), (x,), grad)
    with torch.autocast("cpu", dtype=half):
        found = with_gradients(lambda x: windowed_nmf(x, start, **options), (x,), grad)
        assert windowed_nmf(x.to(half), start, **options).dtype == half
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_compilers_and_transforms_see_plain_operations():
    x, start = matrices(2, 4, 4, 4), matrices(4, 1, zeros=0)
    options = {"window": 2, "shifts": (0, 1), "head_dim": 2}
    expected = windowed_nmf(x, start, **options)
    compiled = torch.compile(windowed_nmf, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, start, **options), expected)
    each = torch.func.vmap(lambda x: windowed_nmf(x[None], start, **options)[0])
    torch.testing.assert_close(each(x), expected)


class Costs(list):
    """Writes down what it is told."""

    def record(self, operator, cost, result):
        self.append(cost)


@pytest.mark.parametrize("iterations", [1, 5])
def test_rank_one_costs_the_products_of_its_sweeps(iterations):
    x, start = torch.empty(3, 8, 64, device="meta"), torch.empty(64, 1, device="meta")
    with told_to(costs := Costs()):
        nmf(x, start, iterations=iterations)
    with FlopCounterMode(display=False) as counter:
        reference.factorise(x, start, iterations)
    (cost,) = costs
    assert 2 * cost.macs == counter.get_total_flops()
    assert cost.elementwise == iterations * 3 * (8 + 64)


def test_windows_cost_what_their_matrices_do_for_every_shift():
    image, start = torch.empty(2, 16, 8, 8, device="meta"), torch.empty(16, 1, device="meta")
    with told_to(costs := Costs()):
        windowed_nmf(image, start, window=4, shifts=(0, 1, 2), head_dim=8)
        nmf(torch.empty(2 * 2 * 4, 8, 16, device="meta"), start)
    assert costs[0] == (costs[1] + Cost(image.numel())) * 3 + Cost(0, 3 * image.numel())


@pytest.mark.parametrize("rank", [2, 3])
def test_a_further_component_costs_its_share_in_all_columns(rank):
    x, start = torch.empty(4, 6, device="meta"), torch.empty(6, rank, device="meta")
    with told_to(costs := Costs()):
        nmf(x, start, iterations=1)
    of_columns = (4 + 6) * rank * (rank - 1)
    assert costs[0].macs == 2 * 4 * 6 * rank + (4 + 6) * rank**2 + of_columns


def test_no_image_is_no_image():
    assert windowed_nmf(torch.ones(0, 4, 4, 4), torch.ones(4, 1), window=2, shifts=(1,), head_dim=2).shape[0] == 0


@pytest.mark.parametrize(
    ("x", "start", "iterations", "message"),
    [
        ((5,), (5, 1), 5, "x of shape (5,) and start of shape (5, 1): give (*B, M, N) and (N, R)"),
        ((2, 3, 4), (3, 1), 5, "give (*B, M, N) and (N, R), with R the rank"),
        ((2, 3, 4), (4,), 5, "start of shape (4,): give (*B, M, N) and (N, R)"),
        ((2, 3, 4), (4, 0), 5, "start of shape (4, 0)"),
        ((2, 3, 4), (4, 1), 0, "iterations=0: give 1 or more"),
    ],
)
def test_matrices_that_do_not_fit_are_named(x, start, iterations, message):
    with pytest.raises(InputError) as caught:
        nmf(torch.zeros(x), torch.zeros(start), iterations=iterations)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(1, 4, 8)}, "x of shape (1, 4, 8): give (B, C, *S) with 2 or 3 spatial axes"),
        ({"window": (2, 2, 2)}, "window=(2, 2, 2): give a positive integer, or 2 of them, one per axis"),
        ({"window": 0}, "window=0: give a positive integer"),
        ({"window": 3}, "x of spatial size (8, 4) is not cut evenly by windows of (3, 3)"),
        ({"head_dim": 3}, "head_dim=3 does not divide 4 channels: choose a divisor"),
        ({"start": torch.ones(3, 1)}, "start of shape (3, 1): give (4, R) for windows of (2, 2), with R the rank"),
        ({"shifts": ()}, "shifts=(): give at least one, each a number from 0 on, or 2, one per axis"),
        ({"shifts": (0, (1, 1, 1))}, "shifts=(0, (1, 1, 1)): give at least one"),
        ({"shifts": (-1,)}, "shifts=(-1,): give at least one"),
        ({"iterations": 0}, "iterations=0: give 1 or more"),
    ],
)
def test_images_that_do_not_fit_are_named(arguments, message):
    fitting = {"x": torch.zeros(1, 4, 8, 4), "start": torch.ones(4, 1), "window": 2, "shifts": (0,), "head_dim": 2}
    with pytest.raises(InputError) as caught:
        windowed_nmf(**{**fitting, **arguments})
    assert message in str(caught.value)
