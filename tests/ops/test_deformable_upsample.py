"""Properties of deformable upsampling, against PyTorch's own interpolation and sampling."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from deconvseg.errors import InputError
from deconvseg.ops import deformable_upsample

MODES = {2: "bilinear", 3: "trilinear"}


@st.composite
def inputs(draw):
    dims = draw(st.sampled_from((2, 3)))
    size = draw(st.lists(st.integers(1, 5), min_size=dims, max_size=dims))
    scale = draw(st.lists(st.integers(1, 3), min_size=dims, max_size=dims))
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scaled = [length * factor for length, factor in zip(size, scale, strict=True)]
    features = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    offsets = torch.randn(batch, dims, *scaled, generator=generator, dtype=torch.float64)
    weights = torch.rand(batch, dims, *scaled, generator=generator, dtype=torch.float64)
    return features, offsets, weights, scale


def sample_by_pytorch(features, offsets, weights, scale, receptive_field):
    """Eq. 1 and 2 in `grid_sample` coordinates."""
    size = features.shape[2:]
    axes = []
    for length, factor in zip(size, scale, strict=True):
        axes.append((2 * torch.arange(length * factor, dtype=features.dtype) + 1) / (length * factor) - 1)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)
    factors = [1.0 if math.isinf(receptive_field) else receptive_field / (2 * length) for length in reversed(size)]
    moves = (offsets * weights).movedim(1, -1) * torch.tensor(factors, dtype=features.dtype)
    return F.grid_sample(features, grid + moves, mode="bilinear", padding_mode="border", align_corners=False)


@given(inputs(), st.sampled_from((1.0, 2.0, math.inf)))
@settings(deadline=None, max_examples=40)
def test_zero_offsets_interpolate_linearly(drawn, receptive_field):
    features, offsets, weights, scale = drawn
    found = deformable_upsample(
        features, torch.zeros_like(offsets), weights, scale=scale, receptive_field=receptive_field
    )
    expected = F.interpolate(features, size=found.shape[2:], mode=MODES[len(scale)], align_corners=False)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@given(inputs(), st.sampled_from((1.0, 2.0, 10.0, math.inf)))
@settings(deadline=None, max_examples=60)
def test_agrees_with_grid_sample(drawn, receptive_field):
    features, offsets, weights, scale = drawn
    found = deformable_upsample(features, offsets, weights, scale=scale, receptive_field=receptive_field)
    expected = sample_by_pytorch(features, offsets, weights, scale, receptive_field)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_gradients_agree_with_grid_sample():
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 3, 4, 3, 5), (2, 3, 8, 3, 15), (2, 3, 8, 3, 15)
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    found = deformable_upsample(*tensors, scale=(2, 1, 3), receptive_field=4.0)
    expected = sample_by_pytorch(*tensors, (2, 1, 3), 4.0)
    direction = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    pairs = (torch.autograd.grad(out, tensors, direction) for out in (found, expected))
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("receptive_field", [1.0, 2.0, 10.0, math.inf])
def test_the_receptive_field_says_how_far_a_unit_offset_moves_along_each_axis(axis, receptive_field):
    size, scale = (6, 5, 4), (1, 2, 3)
    ramp = torch.arange(size[axis], dtype=torch.float64).view([-1 if a == axis else 1 for a in range(3)])
    features = ramp.expand(1, 1, *size)
    offsets = torch.zeros(1, 3, 6, 10, 12, dtype=torch.float64)
    offsets[:, 2 - axis] = 1  # `grid_sample` order: the last array axis first
    still = deformable_upsample(features, torch.zeros_like(offsets), None, scale=scale, receptive_field=1.0)
    moved = deformable_upsample(features, offsets, None, scale=scale, receptive_field=receptive_field)
    length = size[axis]
    step = length / 2 if math.isinf(receptive_field) else receptive_field / 4
    centres = (torch.arange(length * scale[axis], dtype=torch.float64) + 0.5) / scale[axis] - 0.5
    expected = (centres + step).clamp(0, length - 1).view([-1 if a == axis else 1 for a in range(3)])
    torch.testing.assert_close(moved, expected.expand_as(moved))
    assert (moved >= still).all()


def test_offsets_are_not_bounded():
    features = torch.arange(9, dtype=torch.float64).expand(1, 1, 9, 9)
    offsets = torch.full((1, 2, 9, 9), 3.0, dtype=torch.float64)
    found = deformable_upsample(features, offsets, torch.full_like(offsets, 2.0), scale=1, receptive_field=2.0)
    torch.testing.assert_close(found, (features + 3).clamp(max=8))


def test_no_weights_means_weights_of_one():
    features, offsets = torch.randn(1, 2, 4, 5), torch.randn(1, 2, 8, 10)
    found = deformable_upsample(features, offsets, None, scale=2, receptive_field=2.0)
    expected = deformable_upsample(features, offsets, torch.ones_like(offsets), scale=2, receptive_field=2.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("size", "scale"), [((3, 2), (2, 1)), ((2, 3, 1), (1, 2, 2))])
def test_gradients_of_first_and_second_order(size, scale):
    generator = torch.Generator().manual_seed(3)
    scaled = [length * factor for length, factor in zip(size, scale, strict=True)]
    features = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64).requires_grad_()
    # Small offsets from the pixel centres' midpoints keep clear of the kinks of linear interpolation.
    offsets = (0.1 + 0.1 * torch.rand(1, len(size), *scaled, generator=generator, dtype=torch.float64)).requires_grad_()
    weights = (0.5 + 0.5 * torch.rand(offsets.shape, generator=generator, dtype=torch.float64)).requires_grad_()

    def upsample(*tensors):
        return deformable_upsample(*tensors, scale=scale, receptive_field=2.0)

    assert gradcheck(upsample, (features, offsets, weights))
    assert gradgradcheck(upsample, (features, offsets, weights))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_types_compute_in_float32_and_return_the_type_of_the_features(half):
    features, offsets, weights = (torch.rand(s).to(half) for s in ((1, 2, 5, 5), (1, 2, 10, 10), (1, 2, 10, 10)))
    full = deformable_upsample(features.float(), offsets.float(), weights.float(), scale=2, receptive_field=2.0)
    found = deformable_upsample(features, offsets, weights, scale=2, receptive_field=2.0)
    torch.testing.assert_close(found, full.to(half), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=half):
        under = deformable_upsample(features.float(), offsets, weights, scale=2, receptive_field=2.0)
    torch.testing.assert_close(under, full, rtol=0, atol=0)


def test_a_nan_offset_spoils_only_its_own_position():
    offsets = torch.zeros(1, 2, 4, 4)
    offsets[0, 0, 1, 2] = math.nan
    found = deformable_upsample(torch.rand(1, 3, 2, 2), offsets, None, scale=2, receptive_field=2.0)
    assert found[..., 1, 2].isnan().all()
    assert found.isnan().sum() == 3


@pytest.mark.parametrize(
    ("shapes", "scale", "receptive_field", "message"),
    [
        (((1, 2, 4), (1, 1, 8), (1, 1, 8)), 2, 2.0, "2 or 3 spatial axes"),
        (((1, 2, 4, 4), (1, 2, 8, 9), (1, 2, 8, 8)), 2, 2.0, r"offsets of shape \(1, 2, 8, 9\).*give \(1, 2, 8, 8\)"),
        (((1, 2, 4, 4), (1, 2, 8, 8), (1, 3, 8, 8)), 2, 2.0, r"weights of shape \(1, 3, 8, 8\).*give \(1, 2, 8, 8\)"),
        (
            ((1, 2, 4, 4), (1, 2, 8, 8), (1, 2, 8, 8)),
            (2, 2, 2),
            2.0,
            r"scale=\(2, 2, 2\): give a positive integer, or 2",
        ),
        (((1, 2, 4, 4), (1, 2, 8, 8), (1, 2, 8, 8)), 0, 2.0, "scale=0"),
        (((1, 2, 4, 4), (1, 2, 8, 8), (1, 2, 8, 8)), 2, math.nan, "receptive_field=nan"),
    ],
)
def test_inputs_that_do_not_fit_are_named(shapes, scale, receptive_field, message):
    with pytest.raises(InputError, match=message):
        deformable_upsample(*(torch.rand(s) for s in shapes), scale=scale, receptive_field=receptive_field)
