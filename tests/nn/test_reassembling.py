"""CARAFE and SAPA: upsamplings that average neighbours of the input."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn import CARAFE, SAPA, create_upsampling
from deconvseg.ops import compare_neighbours, reassemble

SIZES = [(2, (2, 2), 5), (2, (1, 3), 3), (3, (2, 1, 2), 3)]


def finer(size, scale):
    return tuple(n * s for n, s in zip(size, scale, strict=True))


def positions(size, scale):
    """Yield every output position with the input position that it lies in."""
    for position in itertools.product(*map(range, finer(size, scale))):
        yield position, tuple(p // s for p, s in zip(position, scale, strict=True))


def around(image, position, kernel):
    """Return (C, kernel ** axes): the neighbours of a position in a zero-padded image (C, *S)."""
    padded = F.pad(image, (kernel // 2,) * (2 * len(position)))
    return padded[(slice(None), *(slice(p, p + kernel) for p in position))].flatten(1)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 2).flatmap(lambda extra: st.tuples(*[st.integers(1, 4)] * (1 + extra))),
    st.integers(1, 3),
    st.sampled_from([1, 3, 5]),
    st.data(),
)
def test_similarities_are_inner_products_with_the_neighbours(size, channels, kernel, data):
    scale = data.draw(st.tuples(*[st.integers(1, 3)] * len(size)))
    torch.manual_seed(0)
    keys = torch.randn(2, channels, *size, dtype=torch.double)
    queries = torch.randn(2, channels, *finer(size, scale), dtype=torch.double)
    found = compare_neighbours(queries, keys, scale=scale, kernel_size=kernel)
    assert found.shape == (2, kernel ** len(size), *finer(size, scale))
    for position, coarse in positions(size, scale):
        for item in range(2):
            expected = queries[(item, slice(None), *position)] @ around(keys[item], coarse, kernel)
            torch.testing.assert_close(found[(item, slice(None), *position)], expected)


@pytest.mark.parametrize(("dims", "scale", "kernel"), SIZES)
def test_similarities_have_the_gradients_of_finite_differences(dims, scale, kernel):
    keys = torch.randn(1, 2, *(2, 3, 2)[:dims], dtype=torch.double, requires_grad=True)
    queries = torch.randn(1, 2, *finer((2, 3, 2)[:dims], scale), dtype=torch.double, requires_grad=True)

    def compare(queries, keys):
        return compare_neighbours(queries, keys, scale=scale, kernel_size=kernel)

    assert torch.autograd.gradcheck(compare, (queries, keys))
    assert torch.autograd.gradgradcheck(compare, (queries, keys))


@pytest.mark.parametrize(("dims", "scale", "kernel"), SIZES)
def test_similarity_and_reassembly_are_adjoint(dims, scale, kernel):
    """<compare(q, k), w> = <q, reassemble(k, w)>: both are the same matrix of neighbours."""
    size = (3, 4, 3)[:dims]
    keys = torch.randn(2, 5, *size, dtype=torch.double)
    queries = torch.randn(2, 5, *finer(size, scale), dtype=torch.double)
    weights = torch.randn(2, kernel**dims, *finer(size, scale), dtype=torch.double)
    left = (compare_neighbours(queries, keys, scale=scale, kernel_size=kernel) * weights).sum()
    torch.testing.assert_close(left, (queries * reassemble(keys, weights, scale=scale)).sum())


@pytest.mark.parametrize(("dims", "scale", "kernel"), SIZES)
def test_carafe_is_a_weighted_mean_of_neighbours(dims, scale, kernel):
    """Against the definition, one output position after the other, from the layer's weights alone."""
    torch.manual_seed(0)
    size = (3, 4, 3)[:dims]
    layer = CARAFE(3, 4, scale, dims, embedding=5, kernel_size=kernel).double()
    nn.init.normal_(layer.kernels.weight)
    nn.init.normal_(layer.kernels.bias)
    x = torch.randn(1, 3, *size, dtype=torch.double)
    low = layer.project(x)
    logits = layer.kernels(layer.compress(low))[0]
    found = layer(x)
    assert found.shape == (1, 4, *finer(size, scale))
    for position, coarse in positions(size, scale):
        inside = [p % s for p, s in zip(position, scale, strict=True)]
        place = 0
        for offset, factor in zip(inside, scale, strict=True):
            place = place * factor + offset
        # The channels of one position: first the neighbours, then the positions within the input pixel.
        own = logits[(slice(None), *coarse)].view(kernel**dims, -1)[:, place]
        expected = around(low[0], coarse, kernel) @ own.softmax(dim=0)
        torch.testing.assert_close(found[(0, slice(None), *position)], expected)


def test_carafe_starts_as_the_mean_of_the_neighbourhood():
    x = torch.rand(1, 4, 8, 8)
    mean = F.avg_pool2d(x, 5, stride=1, padding=2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(CARAFE(4, 4, 2, 2)(x), mean, rtol=0, atol=0.01)


def test_carafe_has_the_parameters_of_its_paper():
    # Compression to 64 channels, and a 3x3 convolution to 25 weights for each of 4 finer pixels, with biases.
    found = sum(parameter.numel() for parameter in CARAFE(256, 256, 2, 2).parameters())
    assert found == (256 * 64 + 64) + (64 * 9 * 100 + 100)


@pytest.mark.parametrize("similarity", ["inner", "bilinear", "gated"])
@pytest.mark.parametrize(("dims", "scale", "kernel"), SIZES)
def test_sapa_weights_neighbours_by_similarity(dims, scale, kernel, similarity):
    """Against the definition, one output position after the other, from the layer's parts."""
    torch.manual_seed(0)
    size = (3, 4, 3)[:dims]
    options = {"similarity": similarity, "embedding": 5, "kernel_size": kernel}
    layer = SAPA(3, 4, scale, dims, skip_channels=6, **options).double()
    x = torch.randn(1, 3, *size, dtype=torch.double)
    skip = torch.randn(1, 6, *finer(size, scale), dtype=torch.double)

    def normalised(image):
        centred = image - image.mean(dim=1, keepdim=True)
        return centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()

    low = layer.project(x)
    keys = decoder = normalised(low)
    queries = normalised(layer.project_skip(skip) if similarity == "inner" else skip)
    if similarity != "inner":
        keys, queries = layer.keys(decoder), layer.queries(queries)
    found = layer(x, skip)
    for position, coarse in positions(size, scale):
        query = queries[(0, slice(None), *position)]
        if similarity == "gated":
            gate = layer.gate(decoder).sigmoid()[(0, 0, *coarse)]
            query = gate * query + (1 - gate) * layer.own_queries(decoder)[(0, slice(None), *coarse)]
        shares = (query @ around(keys[0], coarse, kernel)).softmax(dim=0)
        torch.testing.assert_close(found[(0, slice(None), *position)], around(low[0], coarse, kernel) @ shares)


@pytest.mark.parametrize("kind", ["carafe", "sapa"])
def test_results_lie_within_the_values_of_the_neighbourhood(kind):
    layer = create_upsampling(kind, 3, 3, 2, 2, skip_channels=4)
    x = torch.rand(2, 3, 6, 6)
    args = (x, 10 * torch.randn(2, 4, 12, 12)) if kind == "sapa" else (x,)
    out = layer(*args)
    # The neighbourhood is zero-padded at the border.
    highest = F.max_pool2d(x, 5, stride=1, padding=2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (out >= 0).all()
    assert (out <= highest + 1e-6).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CARAFE(3, 3, kernel_size=4), "kernel_size=4, encoder_size=3, embedding=64: give odd sizes"),
        (lambda: CARAFE(3, 3, encoder_size=2), "encoder_size=2"),
        (lambda: CARAFE(3, 3, 2, 2)(torch.zeros(1, 3, 4, 4, 4)), r"CARAFE got a tensor of shape \(1, 3, 4, 4, 4\)"),
        (lambda: SAPA(3, 3, similarity="inne"), "similarity 'inne' is unknown: did you mean 'inner'"),
        (lambda: SAPA(3, 3, 2, 2)(torch.zeros(1, 3, 4, 4)), r"SAPA needs .* shape \(1, 3, 8, 8\) and got none"),
        (lambda: create_upsampling("sapa", 3, 3), "'sapa' takes the skip connection too: give skip_channels"),
        (
            lambda: compare_neighbours(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), scale=2, kernel_size=3),
            r"queries of shape \(1, 2, 4, 4\) .* give \(1, 2, 8, 8\)",
        ),
        (
            lambda: compare_neighbours(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4), scale=2, kernel_size=2),
            "kernel_size=2: give an odd number",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
