import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.errors import InputError
from deconvseg.ops import reassemble


def by_loops(features, weights, scale, kernel):
    """The definition, one output position after the other."""
    out = torch.zeros(*features.shape[:2], *weights.shape[2:], dtype=features.dtype)
    for position in itertools.product(*map(range, weights.shape[2:])):
        for index, step in enumerate(itertools.product(range(kernel), repeat=len(scale))):
            where = [p // s + d - kernel // 2 for p, s, d in zip(position, scale, step, strict=True)]
            if all(0 <= w < length for w, length in zip(where, features.shape[2:], strict=True)):
                share = weights[(slice(None), index, *position)]
                out[(..., *position)] += features[(..., *where)] * share[:, None]
    return out


@given(st.sampled_from((2, 3)), st.sampled_from((1, 3, 5)), st.data())
@settings(deadline=None, max_examples=15)
def test_reassembly_is_its_definition(dims, kernel, data):
    size = data.draw(st.lists(st.integers(1, 3), min_size=dims, max_size=dims))
    scale = data.draw(st.lists(st.integers(1, 3), min_size=dims, max_size=dims))
    features = torch.randn(2, 3, *size, dtype=torch.double)
    finer = [length * factor for length, factor in zip(size, scale, strict=True)]
    weights = torch.randn(2, kernel**dims, *finer, dtype=torch.double)
    torch.testing.assert_close(reassemble(features, weights, scale=scale), by_loops(features, weights, scale, kernel))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_middle_weight_alone_repeats_the_nearest(dims):
    features = torch.randn(1, 2, *[4] * dims)
    weights = torch.zeros(1, 3**dims, *[8] * dims)
    weights[:, 3**dims // 2] = 1
    expected = F.interpolate(features, scale_factor=2, mode="nearest")
    torch.testing.assert_close(reassemble(features, weights, scale=2), expected, rtol=0, atol=0)


def test_constant_weights_are_a_convolution_of_the_repeated_image():
    features, kernel = torch.randn(1, 2, 5, 6), torch.randn(3, 3)
    weights = kernel.reshape(1, 9, 1, 1).expand(1, 9, 10, 18)
    convolved = F.conv2d(features, kernel[None, None].expand(2, 1, 3, 3), padding=1, groups=2)
    expected = convolved.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
    torch.testing.assert_close(reassemble(features, weights, scale=(2, 3)), expected)


def test_gradients_are_those_of_finite_differences():
    features = torch.randn(1, 2, 2, 3, dtype=torch.double, requires_grad=True)
    weights = torch.randn(1, 9, 4, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, w: reassemble(f, w, scale=(2, 1)), (features, weights))
    assert torch.autograd.gradgradcheck(lambda f, w: reassemble(f, w, scale=(2, 1)), (features, weights))


@pytest.mark.parametrize(
    ("features", "weights", "scale", "message"),
    [
        ((1, 2, 4), (1, 9, 8), 2, "give (B, C, *S) with 2 or 3 spatial axes"),
        ((1, 2, 4, 4), (1, 9, 8, 8), (2, 2, 2), "scale=(2, 2, 2): give a positive integer, or 2 of them"),
        ((1, 2, 4, 4), (1, 9, 8, 8), 3, "give (1, 'K**2', 12, 12) with odd K"),
        ((1, 2, 4, 4), (1, 16, 8, 8), 2, "weights of shape (1, 16, 8, 8) do not fit"),
        ((1, 2, 4, 4), (1, 10, 8, 8), 2, "weights of shape (1, 10, 8, 8) do not fit"),
    ],
)
def test_shapes_that_do_not_fit_are_named(features, weights, scale, message):
    with pytest.raises(InputError) as caught:
        reassemble(torch.zeros(features), torch.zeros(weights), scale=scale)
    assert message in str(caught.value)
