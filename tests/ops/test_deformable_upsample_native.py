"""The native kernels of deformable upsampling against the reference, by the rule of the project's tolerances."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deconvseg.ops.deformable_upsample import native, reference
from deconvseg.ops.native import unavailable
from threads import assert_threads_change_nothing
from tolerance import assert_near

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=f"no native kernels: {unavailable()}")
LAYOUTS = {
    "contiguous": lambda tensor: tensor.contiguous(),
    "channels last": lambda tensor: tensor.movedim(1, -1).contiguous().movedim(-1, 1),
    "strided": lambda tensor: torch.stack([tensor, tensor], -1)[..., 1],
    "reversed axes": lambda tensor: (
        tensor.permute(*reversed(range(tensor.ndim))).contiguous().permute(*reversed(range(tensor.ndim)))
    ),
}


@st.composite
def inputs(draw, pixels):
    """Features, offsets, weights, a gradient of the result, a scale, and a receptive field.

    So many samples that the features have at least that many pixels: among a few numbers, that plain PyTorch rounds one
    of them well is luck, and the rule compares the largest errors.
    """
    axes = draw(st.sampled_from((2, 3)))
    size = draw(st.lists(st.integers(1, 6), min_size=axes, max_size=axes))
    scale = tuple(draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes)))
    batch, channels = -(-pixels // math.prod(size)), draw(st.sampled_from((1, 2, 3, 7, 8, 16, 17, 33)))
    weighted, receptive_field = draw(st.booleans()), draw(st.sampled_from((1.0, 2.0, 10.0, math.inf)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scaled = [length * factor for length, factor in zip(size, scale, strict=True)]
    offsets = torch.randn(batch, axes, *scaled, generator=generator)
    offsets, weights = away_from_kinks(offsets, size, scale, receptive_field), None
    if weighted:
        # Powers of two, so that dividing by them moves no sample.
        weights = 2.0 ** torch.randint(-2, 2, offsets.shape, generator=generator)
        offsets = offsets / weights
    features, grad = (torch.randn(batch, channels, *s, generator=generator) for s in (size, scaled))
    return features, offsets, weights, grad, scale, receptive_field


def away_from_kinks(offsets: Tensor, size: Sequence[int], scale: Sequence[int], receptive_field: float) -> Tensor:
    """Move samples clear of whole pixels, where the derivative by the position jumps, and rounding chooses the side."""
    moved = offsets.clone()
    for axis, length in enumerate(size):
        channel, pixels = len(size) - 1 - axis, length / 2 if math.isinf(receptive_field) else receptive_field / 4
        where = reference.positions(offsets.double(), None, size, scale, receptive_field)[axis]
        near = (where - where.round()).abs() < 1e-3
        moved[:, channel] += near * 0.01 / pixels
    return moved


def by_reference(features, offsets, weights, grad, scale, receptive_field, dtype):
    """The result and the gradients, in plain PyTorch."""
    leaves = [None if t is None else t.to(dtype, copy=True).requires_grad_() for t in (features, offsets, weights)]
    given = [leaf for leaf in leaves if leaf is not None]
    where = reference.positions(leaves[1], leaves[2], features.shape[2:], scale, receptive_field)
    out = reference.sample(leaves[0], where)
    return [out.detach(), *torch.autograd.grad(out, given, grad.to(dtype))]


def natively(features, offsets, weights, grad, scale, receptive_field):
    out = native.forward(features, offsets, weights, scale, receptive_field)
    gradients = native.backward(grad, features, offsets, weights, scale, receptive_field)
    return [out, *(gradient for gradient in gradients if gradient is not None)]


def check_against_the_reference(*problem):
    found = natively(*problem)
    plain = by_reference(*problem, dtype=torch.float32)
    exact = by_reference(*problem, dtype=torch.float64)
    assert_near(found, plain, exact)


@given(inputs(pixels=1000))
@settings(deadline=None, max_examples=60)
def test_results_and_gradients_agree_with_the_reference(problem):
    check_against_the_reference(*problem)


@given(inputs(pixels=20), st.lists(st.sampled_from(sorted(LAYOUTS)), min_size=4, max_size=4))
@settings(deadline=None, max_examples=60)
def test_no_layout_changes_a_result(problem, layouts):
    expected = natively(*problem)
    *tensors, scale, receptive_field = problem
    laid_out = [None if t is None else LAYOUTS[name](t) for t, name in zip(tensors, layouts, strict=True)]
    for ours, theirs in zip(natively(*laid_out, scale, receptive_field), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (1, 2, 0, 4), (0, 0, 2, 3, 4), (1, 1, 3, 4, 0)])
def test_nothing_gives_nothing(shape):
    batch, channels, *size = shape
    scaled = [2 * length for length in size]
    offsets = torch.rand(batch, len(size), *scaled)
    out, *gradients = natively(
        torch.rand(shape), offsets, offsets, torch.rand(batch, channels, *scaled), (2,) * len(size), 2.0
    )
    assert out.shape == (batch, channels, *scaled)
    assert [gradient.shape for gradient in gradients] == [shape, offsets.shape, offsets.shape]
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("dims", [2, 3])
def test_expanded_tensors_are_taken(dims):
    size = (4, 5, 3)[:dims]
    features, offsets = (
        torch.rand(1, 1, *size).expand(2, 9, *size),
        torch.rand(1, dims, *size).expand(2, -1, *[-1] * dims),
    )
    grad = torch.ones(()).expand(features.shape)
    spread = natively(features, offsets, None, grad, (1,) * dims, 2.0)
    packed = natively(features.contiguous(), offsets.contiguous(), None, grad.contiguous(), (1,) * dims, 2.0)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(spread, packed, strict=True))


@pytest.mark.parametrize(("size", "scale"), [((9, 70), (1, 2)), ((5, 6, 67), (2, 1, 1)), ((3, 131), (3, 1))])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_rows_longer_than_a_block_agree_with_the_reference(size, scale, layout):
    generator = torch.Generator().manual_seed(0)
    scaled = [length * factor for length, factor in zip(size, scale, strict=True)]
    features, grad = (LAYOUTS[layout](torch.randn(2, 20, *s, generator=generator)) for s in (size, scaled))
    offsets = away_from_kinks(torch.randn(2, len(size), *scaled, generator=generator), list(size), scale, 6.0)
    check_against_the_reference(features, offsets, None, grad, scale, 6.0)


@pytest.mark.parametrize("size", [(24, 40), (12, 10, 16)])
@pytest.mark.parametrize("receptive_field", [2.0, math.inf])
def test_the_number_of_threads_changes_nothing(size, receptive_field):
    generator = torch.Generator().manual_seed(1)
    scaled = [2 * length for length in size]
    features, grad = (torch.randn(2, 40, *s, generator=generator) for s in (size, scaled))
    offsets, weights = (torch.randn(2, len(size), *scaled, generator=generator) for _ in range(2))
    assert_threads_change_nothing(lambda: natively(features, offsets, weights, grad, (2,) * len(size), receptive_field))


@pytest.mark.parametrize("size", [(6, 7), (3, 6, 5)])
def test_results_keep_the_layout_of_the_features(size):
    features = torch.randn(2, 8, *size)
    offsets = torch.randn(2, len(size), *(2 * length for length in size))
    memory_format = torch.channels_last if len(size) == 2 else torch.channels_last_3d
    last = features.to(memory_format=memory_format)
    scale = (2,) * len(size)
    for ours, expected in ((features, torch.contiguous_format), (last, memory_format)):
        out = native.forward(ours, offsets, None, scale, 2.0)
        grad_features, _, _ = native.backward(out, ours, offsets, None, scale, 2.0)
        assert out.is_contiguous(memory_format=expected)
        assert grad_features.is_contiguous(memory_format=expected)
    assert torch.equal(
        native.forward(features, offsets, None, scale, 2.0), native.forward(last, offsets, None, scale, 2.0)
    )


@given(inputs(pixels=20))
@settings(deadline=None, max_examples=30)
def test_the_gradient_of_the_features_is_the_adjoint(problem):
    features, _, _, grad, *_ = problem
    out, grad_features, *_ = natively(*problem)
    left, right = (out.double() * grad).sum(), (features.double() * grad_features).sum()
    size = (out.double() * grad).abs().sum() + 1
    assert (left - right).abs() <= 1e-6 * size


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_zero_offsets_keep_whole_positions_exact(scale):
    features = torch.randn(1, 3, 5, 4, 6)
    offsets = torch.zeros(1, 3, 5 * scale, 4 * scale, 6 * scale)
    out = native.forward(features, offsets, None, (scale,) * 3, 2.0)
    if scale % 2:
        middle = slice(scale // 2, None, scale)
        assert torch.equal(out[..., middle, middle, middle], features)
    expected = torch.nn.functional.interpolate(features, scale_factor=float(scale), mode="trilinear")
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 3e38])
def test_positions_that_are_no_numbers_read_and_write_inside(wrong):
    features, offsets = torch.randn(1, 5, 4, 3, 5), torch.zeros(1, 3, 8, 6, 10)
    offsets[0, 1, 3, 2, 4] = wrong
    grad = torch.zeros(1, 5, 8, 6, 10)
    grad[0, :, 3, 2, 4] = 1
    out, grad_features, grad_offsets = natively(features, offsets, None, grad, (2, 2, 2), 2.0)
    assert out.isnan().sum() == (5 if math.isnan(wrong) else 0)
    assert (grad_offsets[:, 1] == 0).all()  # nothing changes beyond the border
    if not math.isnan(wrong):
        torch.testing.assert_close(out, by_reference(features, offsets, None, grad, (2, 2, 2), 2.0, torch.float32)[0])
        assert grad_features.sum() == pytest.approx(5)


def test_tensors_that_it_cannot_take_are_declined_with_a_reason():
    features, offsets = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 8, 8)
    assert native.decline(features, offsets, None) is None
    assert "float64" in str(native.decline(features.double(), offsets, None))
    assert "float16" in str(native.decline(features, offsets, offsets.half()))
    assert "features is on meta, and the native kernels" in str(native.decline(features.to("meta"), offsets, None))
