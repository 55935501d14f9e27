"""The native kernels of nonnegative deconvolution against the reference, by the rule of the project's tolerances."""

import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deconvseg.ops import native as kernels
from deconvseg.ops.ndc import native, reference
from threads import assert_threads_change_nothing
from tolerance import assert_near, with_gradients

pytestmark = [
    pytest.mark.skipif(kernels.unavailable() is not None, reason=f"no native kernels: {kernels.unavailable()}"),
    pytest.mark.usefixtures("each_library"),
]
LAYOUTS = {
    "contiguous": lambda tensor: tensor.contiguous(),
    "channels last": lambda tensor: tensor.movedim(1, -1).contiguous().movedim(-1, 1),
    "every other": lambda tensor: torch.stack([tensor, tensor], -1)[..., 1],
    "padded rows": lambda tensor: torch.nn.functional.pad(tensor, (3, 2), value=math.nan)[..., 3:-2],
    "reversed axes": lambda tensor: (
        tensor.permute(*reversed(range(tensor.ndim))).contiguous().permute(*reversed(range(tensor.ndim)))
    ),
}


def draw_shape(draw, most_voxels):
    """Spatial size and kernel, one to three axes."""
    axes = draw(st.integers(1, 3))
    longest = (120, 40, 18)[axes - 1]
    size = [draw(st.sampled_from([n for n in (1, 2, 3, 5, 7, 8, 16, 17, 33, 40, 101) if n <= longest]))]
    for _ in range(axes - 1):
        size.append(draw(st.integers(1, max(1, min(longest, most_voxels // math.prod(size))))))
    return size, draw(st.lists(st.sampled_from((1, 3, 3, 5, 7)), min_size=axes, max_size=axes))


@st.composite
def problems(draw, most_voxels=600, numbers=200):
    """An image, a source, filters, the gradient of the result, groups, and eps.

    So many samples and filters that no result has only a few numbers, and none so small that its reciprocal outweighs
    all others: among a few numbers, that plain PyTorch rounds one of them well is luck.
    """
    size, kernel = draw_shape(draw, most_voxels)
    if draw(st.booleans()):
        groups, ratio, per_group = draw(st.sampled_from((1, 3, 5, 8, 15, 16, 17, 33))), draw(st.integers(1, 4)), 1
    else:
        groups, ratio, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(2, 3))
    groups *= -(-numbers // (groups * ratio * per_group * math.prod(kernel)))
    batch = max(draw(st.integers(1, 2)), -(-numbers // (groups * math.prod(size))))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shapes = ((batch, groups * per_group, *size), (batch, groups * ratio, *size), (groups * per_group, ratio, *kernel))
    x, source, filters = (torch.rand(shape, generator=generator) + 0.25 for shape in shapes)
    grad = torch.randn(source.shape, generator=generator)
    # Powers of two and what whole numbers lose, so that sums of whole numbers are exact in any order.
    return x, source, filters, grad, groups, draw(st.sampled_from((0.0, 1e-8, 2.0**-7)))


def natively(x, source, filters, grad, groups, eps) -> list[Tensor]:
    """The result and the gradients."""
    gradients = native.update_backward(grad, x, source, filters, groups, eps)
    return [native.update(x, source, filters, groups, eps), *gradients]


def by_reference(x, source, filters, grad, groups, eps, dtype) -> list[Tensor]:
    tensors = [tensor.to(dtype) for tensor in (x, source, filters)]
    return with_gradients(lambda *t: reference.update(*t, groups, eps), tensors, grad.to(dtype))


def check_against_the_reference(*problem):
    plain, exact = (by_reference(*problem, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert_near(natively(*problem), plain, exact)


def random_problem(size, kernel, groups, ratio, eps=1e-8, batch=1, per_group=1):
    generator = torch.Generator().manual_seed(0)
    x, source = (torch.rand(batch, groups * n, *size, generator=generator) for n in (per_group, ratio))
    filters = torch.rand(groups * per_group, ratio, *kernel, generator=generator)
    return x, source, filters, torch.randn(source.shape, generator=generator), groups, eps


@given(problems())
@settings(deadline=None, max_examples=60)
def test_results_and_gradients_agree_with_the_reference(problem):
    check_against_the_reference(*problem)


@pytest.mark.parametrize(
    ("size", "kernel", "groups", "ratio"),
    [
        ((40, 9, 8), (3, 3, 3), 17, 4),  # several slabs
        ((70, 150), (3, 5), 7, 2),  # several strips and columns
        ((33, 40, 100), (3, 3, 5), 5, 1),  # all of these
        ((300,), (5,), 33, 4),
        ((12, 10, 11), (7, 1, 9), 6, 3),
        ((3, 3, 3), (9, 5, 7), 16, 2),  # kernels that reach beyond the volume
    ],
)
def test_boxes_join_without_seams(size, kernel, groups, ratio):
    check_against_the_reference(*random_problem(size, kernel, groups, ratio))


@given(problems(most_voxels=200, numbers=1), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_sums_of_whole_numbers_are_exact_and_zeros_stay_zeros(problem, seed):
    *tensors, grad, groups, eps = problem
    generator = torch.Generator().manual_seed(seed)
    x, source, filters = (torch.randint(-4, 5, t.shape, generator=generator).relu().to(t) for t in tensors)
    out, *gradients = natively(x, source, filters, grad, groups, eps)
    assert torch.equal(out, reference.update(x, source, filters, groups, eps))
    adjoint = reference.adjoint_filters(filters, groups)
    denominator = reference.correlate(reference.reconstruct(source, adjoint, groups), adjoint, groups)
    if eps == 0:
        assert (out[denominator == 0] == 0).all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(("groups", "per_group"), [(16, 1), (9, 1), (2, 1), (3, 2)])
def test_entries_without_denominator_pass_no_gradient(groups, per_group):
    x, source, filters, grad, _, _ = random_problem((7, 9), (3, 3), groups, 2, per_group=per_group)
    source[:, :, :, 2:] = 0  # from column 4 on, no filter sees anything explained
    _, of_x, of_source, _ = natively(x, source, filters, grad, groups, 0.0)
    assert (of_source[:, :, :, 4:] == 0).all()
    assert (of_x[:, :, :, 3:] == 0).all()
    changed = torch.where(torch.arange(9) >= 4, torch.full_like(grad, 1e6), grad)
    for one, other in zip(
        natively(x, source, filters, grad, groups, 0.0), natively(x, source, filters, changed, groups, 0.0), strict=True
    ):
        assert torch.equal(one, other)


@given(problems(most_voxels=200, numbers=1), st.lists(st.sampled_from(sorted(LAYOUTS)), min_size=4, max_size=4))
@settings(deadline=None, max_examples=60)
def test_no_layout_changes_a_result(problem, layouts):
    *tensors, groups, eps = problem
    laid_out = [LAYOUTS[name](tensor) for tensor, name in zip(tensors, layouts, strict=True)]
    for ours, theirs in zip(natively(*laid_out, groups, eps), natively(*problem), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("groups", [2, 16, 33])
@pytest.mark.parametrize("size", [(40,), (5, 19), (3, 4, 18)])
def test_expanded_tensors_are_taken(size, groups):
    one, kernel = torch.rand(1, 1, *size), (3,) * len(size)
    tensors = (one.expand(2, groups, *size), one.expand(2, 2 * groups, *size), torch.rand(1, 2, *kernel))
    x, source, filters = (*tensors[:2], tensors[2].expand(groups, 2, *kernel))
    grad = torch.ones(()).expand(source.shape)
    packed = natively(*(tensor.contiguous() for tensor in (x, source, filters, grad)), groups, 1e-8)
    for ours, theirs in zip(natively(x, source, filters, grad, groups, 1e-8), packed, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 4, 4), (1, 3, 0, 4), (0, 0, 2, 3, 4)])
def test_nothing_gives_nothing(shape):
    batch, channels, *size = shape
    x, source, filters = (
        torch.rand(shape),
        torch.rand(batch, 2 * channels, *size),
        torch.rand(channels, 2, *[3] * len(size)),
    )
    out, *gradients = natively(x, source, filters, torch.rand_like(source), max(1, channels), 1e-8)
    assert out.shape == source.shape
    assert [gradient.shape for gradient in gradients] == [x.shape, source.shape, filters.shape]
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("size", [(6, 17), (3, 6, 5)])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_results_have_the_memory_order_of_the_source(size, layout):
    x, source, *rest = random_problem(size, [3] * len(size), 8, 2)
    out, of_x, of_source, _ = natively(x, LAYOUTS[layout](source), *rest)
    for result in (out, of_x, of_source):
        assert result.stride() == LAYOUTS[layout](result).stride()


@pytest.mark.parametrize(
    "problem",
    [
        random_problem((11, 20, 70), (3, 3, 3), 33, 4),
        random_problem((100, 130), (5, 5), 20, 2, batch=2),
        random_problem((9, 8, 30), (3, 3, 3), 3, 2, per_group=2),
    ],
    ids=["three axes", "two axes", "groups"],
)
def test_the_number_of_threads_changes_nothing(problem):
    assert_threads_change_nothing(lambda: natively(*problem))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_computes_the_same():
    # Small, because PyTorch's own threads do not survive a fork.
    problem, before = random_problem((6, 8, 10), (5, 5, 5), 16, 4), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = [result.numpy().tobytes() for result in natively(*problem)]
        child = os.fork()
        if child == 0:
            same = [result.numpy().tobytes() for result in natively(*problem)] == expected
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize(("groups", "per_group"), [(1, 1), (5, 1), (17, 1), (2, 2)])
@pytest.mark.parametrize("size", [(70,), (5, 17), (4, 3, 19)])
def test_nothing_is_written_beside_the_results(monkeypatch, size, groups, per_group, layout):
    x, source, filters, grad, *rest = random_problem(size, [3] * len(size), groups, 2, per_group=per_group, batch=2)
    memory, margin = [], 256

    def guarded(shape, **kwargs):
        memory.append(torch.full((math.prod(shape) + 2 * margin,), 7.0))
        return memory[-1][margin:-margin].view(tuple(shape))

    monkeypatch.setattr(torch, "empty", guarded)
    results = natively(x, LAYOUTS[layout](source), filters, LAYOUTS[layout](grad), *rest)
    assert len(memory) == len(results)
    for band in (part for around in memory for part in (around[:margin], around[-margin:])):
        assert (band == 7).all()


def test_tensors_that_it_cannot_take_are_declined_with_a_reason():
    x, source, filters, *_ = random_problem((4, 4), (3, 3), 4, 2)
    assert native.decline(x, source, filters) is None
    assert "float64" in str(native.decline(x.double(), source, filters))
    assert "filters is torch.float16" in str(native.decline(x, source, filters.half()))
    assert "source is on meta" in str(native.decline(x, source.to("meta"), filters))
    assert "sparse" in str(native.decline(x.to_sparse(), source, filters))


def test_dense_convolutions_are_left_to_pytorch_unless_forced():
    x, source, filters, *_ = random_problem((4, 4), (3, 3), 2, 2, per_group=3)
    assert "3 image channels per group" in str(native.decline(x, source, filters))
    assert native.supports(x, source, filters) is None
