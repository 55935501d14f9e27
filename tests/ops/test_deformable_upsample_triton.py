"""The Triton kernels of deformable upsampling against the float64 reference, on a GPU or under Triton's interpreter.

Where there is no GPU, ``test_triton_support.py`` runs this file with the interpreter.
"""

import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.ops import triton_support
from deconvseg.ops.deformable_upsample import reference
from deconvseg.ops.deformable_upsample import triton as kernels

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [] if INTERPRETED else [pytest.mark.gpu]

LAYOUTS = {
    "channels first": lambda tensor: tensor.contiguous(),
    "channels last": lambda tensor: tensor.movedim(1, -1).contiguous().movedim(-1, 1),
    "expanded": lambda tensor: tensor[:, :1].expand_as(tensor),
    "sliced": lambda tensor: torch.cat([tensor, tensor], -1)[..., : tensor.shape[-1]],
    "strided": lambda tensor: torch.stack([tensor, tensor], -1)[..., 1],
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def make(size, scale, channels=2, batch=1, weighted=True, seed=0):
    """A gradient of the result, features, offsets, weights."""
    generator = torch.Generator().manual_seed(seed)
    scaled = [length * factor for length, factor in zip(size, scale, strict=True)]
    grad = torch.randn(batch, channels, *scaled, generator=generator)
    features = torch.randn(batch, channels, *size, generator=generator)
    # Multiples of 1/16: exact in every type, so that rounding never carries a position over a pixel's centre, where
    # the derivative jumps. The odd sixteenth keeps positions off the centres.
    offsets = (2 * torch.randint(-16, 16, (batch, len(size), *scaled), generator=generator) + 1) / 16
    weights = 2.0 ** -torch.randint(0, 3, offsets.shape, generator=generator) if weighted else None
    return grad, features, offsets, weights


def by_reference(grad, features, offsets, weights, receptive_field, dtype):
    """Result and gradients in plain PyTorch."""
    given = [tensor for tensor in (features, offsets, weights) if tensor is not None]
    leaves = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in given]
    scale = [new // old for new, old in zip(offsets.shape[2:], features.shape[2:], strict=True)]
    where = reference.positions(
        leaves[1], leaves[2] if weights is not None else None, features.shape[2:], scale, receptive_field
    )
    out = reference.sample(leaves[0], where)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(dtype))]


def by_kernels(grad, features, offsets, weights, scale, receptive_field):
    grad, features, offsets, weights = (None if t is None else t.to(DEVICE) for t in (grad, features, offsets, weights))
    assert kernels.decline(features, offsets, weights) is None
    out = kernels.forward(features, offsets, weights, scale, receptive_field)
    gradients = kernels.backward(grad, features, offsets, weights, scale, receptive_field)
    return [found.cpu() for found in (out, *gradients) if found is not None]


def check_against_the_reference(grad, features, offsets, weights, scale, receptive_field):
    problem = (grad, features, offsets, weights)
    found = by_kernels(*problem, scale, receptive_field)
    plain, exact = (by_reference(*problem, receptive_field, dtype) for dtype in (torch.float32, torch.float64))
    likes = [features, *(tensor for tensor in (features, offsets, weights) if tensor is not None)]
    assert [tensor.shape for tensor in found] == [tensor.shape for tensor in exact]
    for ours, like, theirs, truth in zip(found, likes, plain, exact, strict=True):
        assert ours.dtype == like.dtype
        within_tolerance(ours, theirs.to(like.dtype), truth)


def within_tolerance(ours, theirs, truth):
    """At most twice plain PyTorch's own error, and one ulp of the largest value."""
    if truth.numel():
        ulp = truth.abs().max() * torch.finfo(ours.dtype).eps
        assert (ours - truth).abs().max() <= 2 * (theirs - truth).abs().max() + ulp


@st.composite
def problems(draw):
    dims = draw(st.integers(2, 3))
    size = draw(st.lists(st.sampled_from((1, 2, 3)), min_size=dims, max_size=dims))
    scale = tuple(draw(st.lists(st.sampled_from((1, 2)), min_size=dims, max_size=dims)))
    channels, batch = draw(st.sampled_from((1, 3, 17))), draw(st.integers(1, 2))
    problem = make(size, scale, channels, batch, draw(st.booleans()), draw(st.integers(0, 999)))
    dtype = draw(st.sampled_from(DTYPES))
    arranged = [
        None if tensor is None else LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](tensor.to(dtype))
        for tensor in problem
    ]
    return *arranged, scale, draw(st.sampled_from((1.0, 2.0, 10.0, math.inf)))


@given(problems())
@settings(deadline=None, max_examples=20)
def test_result_and_gradients_agree_with_the_reference(problem):
    check_against_the_reference(*problem)


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize(("size", "scale"), [((5, 7), (2, 4)), ((3, 2, 5), (2, 2, 1))])
def test_several_programs_of_both_layouts(size, scale, layout):
    problem = [LAYOUTS[layout](tensor) for tensor in make(size, scale, 17)]
    check_against_the_reference(*problem, scale, 4.0)


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_several_spans_of_channels(layout, monkeypatch):
    monkeypatch.setattr(kernels, "SPAN", 7)
    problem = [LAYOUTS[layout](tensor) for tensor in make((3, 2), (2, 2), 17, 2)]
    check_against_the_reference(*problem, (2, 2), 2.0)


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])  # the interpreter truncates to bfloat16
def test_a_base_is_added_before_the_result_is_rounded(layout, dtype):
    base, features, offsets, weights = (tensor.to(DEVICE) for tensor in make((3, 5), (2, 2), 17))
    features, base = (LAYOUTS[layout](tensor.to(dtype)) for tensor in (features, base))
    alone = kernels.forward(features.float(), offsets, weights, (2, 2), 2.0)
    together = kernels.forward(features, offsets, weights, (2, 2), 2.0, base)
    assert torch.equal(together, (alone + base.float()).to(dtype))


def test_offsets_and_weights_of_other_types_than_the_features():
    grad, features, offsets, weights = make((3, 5), (2, 2))
    check_against_the_reference(grad.half(), features.half(), offsets, weights.bfloat16(), (2, 2), 2.0)


def test_the_result_has_the_memory_order_of_the_features():
    _, features, offsets, weights = (tensor.to(DEVICE) for tensor in make((3, 5), (2, 2)))
    for layout, fastest in (("channels first", 3), ("channels last", 1)):
        out = kernels.forward(LAYOUTS[layout](features), offsets, weights, (2, 2), 2.0)
        assert out.stride(fastest) == 1


def test_the_gradient_does_not_depend_on_the_order_of_its_sums(monkeypatch):
    problem = (*make((5, 7), (2, 2), 3), (2, 2), math.inf)
    usual = by_kernels(*problem)
    monkeypatch.setattr(kernels, "POINTS", 16)
    for ours, theirs in zip(by_kernels(*problem), usual, strict=True):
        assert torch.equal(ours, theirs)


def test_all_points_may_fall_on_one_pixel():
    grad, features, offsets, _ = make((5, 7), (4, 4), 2)
    grad = grad.abs() * 1e30
    check_against_the_reference(grad, features, torch.full_like(offsets, 9.0), None, (4, 4), math.inf)


@pytest.mark.parametrize("factor", [0.0, 1e-37, 1e30])
def test_gradients_of_any_magnitude(factor):
    grad, *problem = make((3, 5), (2, 2), 3)
    # Each channel has its own unit: a large one takes no precision from a small one.
    grad[:, 1] *= factor
    found = by_kernels(grad, *problem, (2, 2), 2.0)[1]
    plain, exact = (by_reference(grad, *problem, 2.0, dtype)[1] for dtype in (torch.float32, torch.float64))
    for channel in range(3):
        within_tolerance(found[:, channel], plain[:, channel], exact[:, channel])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_spoils_its_channel(bad):
    grad, *problem = make((3, 5), (2, 2), 3)
    usual = by_kernels(grad, *problem, (2, 2), 2.0)[1]
    grad[0, 1, 2, 3] = bad
    found = by_kernels(grad, *problem, (2, 2), 2.0)[1]
    assert found[0, 1].isnan().all()
    assert torch.equal(found[0, [0, 2]], usual[0, [0, 2]])


def test_a_nan_offset_spoils_only_its_own_position():
    grad, features, offsets, weights = make((3, 5), (2, 2), 3)
    offsets[0, 0, 1, 2] = math.nan
    out, of_features, of_offsets, _ = by_kernels(grad, features, offsets, weights, (2, 2), 2.0)
    assert out[..., 1, 2].isnan().all()
    assert out.isnan().sum() == 3
    assert of_features.isfinite().all()
    assert of_offsets.isnan().sum() <= 2


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_64_bit_offsets_change_nothing(layout, monkeypatch):
    problem = (*(LAYOUTS[layout](tensor) for tensor in make((2, 3, 3), (2, 1, 2), 17)), (2, 1, 2), 2.0)
    narrow = by_kernels(*problem)
    monkeypatch.setattr(triton_support, "needs_int64", lambda *_: True)
    for ours, theirs in zip(by_kernels(*problem), narrow, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("weighted", [True, False])
def test_an_empty_batch(weighted):
    problem = make((3, 5), (2, 2), batch=0, weighted=weighted)
    found = by_kernels(*problem, (2, 2), 2.0)
    expected = [problem[0], *(tensor for tensor in problem[1:] if tensor is not None)]
    assert [tensor.shape for tensor in found] == [tensor.shape for tensor in expected]
