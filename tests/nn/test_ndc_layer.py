import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg import nn as layers
from deconvseg.errors import InputError
from deconvseg.nn import NDC, DeconverBlock, DeconvMixer
from deconvseg.ops import ndc_update


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from((1, 2, 4)),
    st.sampled_from((1, 3, 5)),
    st.integers(0, 2),
)
@settings(deadline=None, max_examples=20)
def test_ndc_updates_a_rectified_projection_with_rectified_filters(dims, groups, each, ratio, kernel, iterations):
    channels = groups * each
    layer = NDC(channels, kernel, ratio, groups, iterations, eps=1e-3, spatial_dims=dims)
    x = torch.rand(2, channels, *(6, 5, 4)[:dims])
    assert layer.filters.shape == (channels, each * ratio, *[kernel] * dims)
    weight = layer.initial_source.weight.flatten(1)
    source = F.relu(torch.einsum("ec,bc...->be...", weight, x) + layer.initial_source.bias.view(-1, *[1] * dims))
    for _ in range(iterations):
        source = ndc_update(x, source, layer.filters.relu(), groups=groups, eps=1e-3)
    torch.testing.assert_close(layer(x), source)
    assert layer(x).shape == (2, channels * ratio, *x.shape[2:])


def test_filters_start_kaiming_uniform():
    filters = NDC(64, 3, spatial_dims=3).filters
    bound = 1 / math.sqrt(4 * 27)  # of PyTorch's convolutions: one over the root of the fan-in
    assert filters.abs().max() <= bound
    assert abs(filters.std() - bound / math.sqrt(3)) < 0.05 * bound
    assert abs(filters.mean()) < 0.05 * bound


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_the_update_is_float32_under_autocast(half):
    layer = NDC(4, 3, spatial_dims=2)
    x = torch.rand(1, 4, 8, 8)
    with torch.autocast("cpu", dtype=half):
        found = layer(x)
        source = layer.initial_source(x).relu()
    assert source.dtype == half  # the projection itself is lowered, the update is not
    expected = ndc_update(x, source.float(), layer.filters.relu(), groups=4)
    torch.testing.assert_close(found, expected.to(half), rtol=0, atol=0)


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inputs", [torch.zeros, torch.ones])
@pytest.mark.parametrize("filters", ["drawn", "zero"])
@pytest.mark.parametrize("source", ["drawn", "zero"])
@pytest.mark.parametrize("dims", [2, 3])
def test_values_and_gradients_stay_finite(half, inputs, filters, source, dims):
    block = DeconverBlock(4, 3, spatial_dims=dims)
    ndc = block.mixer.ndc
    with torch.no_grad():
        if filters == "zero":
            ndc.filters.zero_()
        if source == "zero":
            ndc.initial_source.weight.zero_()
            ndc.initial_source.bias.zero_()
    for module in (ndc, block):
        module.zero_grad()
        x = inputs(1, 4, *[4] * dims).requires_grad_()
        with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
            out = module(x)
        assert torch.isfinite(out).all()
        out.float().square().sum().backward()
        for gradient in [x.grad, *(parameter.grad for parameter in module.parameters())]:
            assert torch.isfinite(gradient).all()


def test_mixer_and_block_are_equations_4_to_6():
    block = DeconverBlock(6, (3, 5), ratio=2, groups=3, eps=1e-4)
    x = torch.randn(2, 6, 7, 5)

    def pointwise(layer, value):
        return F.conv2d(value, layer.weight, layer.bias)

    mixer, (expand, _, contract) = block.mixer, block.mlp
    mixed = pointwise(mixer.project_out, mixer.ndc(pointwise(mixer.project_in, F.instance_norm(x)).relu()))
    torch.testing.assert_close(mixer(F.instance_norm(x)), mixed)
    z = mixed + x
    y = pointwise(contract, F.gelu(pointwise(expand, F.instance_norm(z)))) + z
    torch.testing.assert_close(block(x), y)
    assert expand.out_channels == 4 * 6


def test_biases_are_those_of_the_published_sizes():
    mixer = DeconvMixer(8, 3, spatial_dims=3)
    assert mixer.project_in.bias is None
    assert sum(p.numel() for p in mixer.parameters()) == 8 * 8 + (8 * 4 * 27 + 32 * 8 + 32) + (8 * 32 + 8)


def test_a_single_position_is_normalised_to_zero():
    block = DeconverBlock(4, 3, spatial_dims=2)
    x = torch.randn(2, 4, 1, 1)
    torch.testing.assert_close(block.norm1(x), torch.zeros_like(x))
    assert torch.isfinite(block(x)).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_channels_last_inputs_give_the_same_and_stay_channels_last(dims):
    form = {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    block = DeconverBlock(4, 3, spatial_dims=dims)
    x = torch.randn(2, 4, *(6, 5, 4)[:dims])
    found = block(x.contiguous(memory_format=form))
    assert found.is_contiguous(memory_format=form)
    torch.testing.assert_close(found, block(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 4, "kernel_size": 4}, "kernel_size=4: deconvolution needs odd sizes"),
        ({"channels": 4, "kernel_size": (3, 3), "spatial_dims": 3}, r"kernel_size=\(3, 3\): .* or 3 of them"),
        ({"channels": 4, "kernel_size": 0}, "kernel_size=0: give a positive integer"),
        ({"channels": 4, "kernel_size": 3, "groups": 3}, "groups=3 does not divide 4 channels"),
        ({"channels": 4, "kernel_size": 3, "ratio": 0.3}, "ratio=0.3 makes 1.2 source channels"),
        ({"channels": 4, "kernel_size": 3, "iterations": -1}, "iterations=-1"),
        ({"channels": 4, "kernel_size": 3, "eps": -1.0}, "eps=-1.0"),
        ({"channels": 4, "kernel_size": 3, "spatial_dims": 4}, "spatial_dims=4: choose from 1, 2, 3"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        NDC(**arguments)


def test_an_unknown_norm_suggests_the_nearest():
    with pytest.raises(InputError, match="norm 'instence' is unknown: did you mean 'instance'"):
        DeconverBlock(4, 3, norm="instence")


def test_constructors_take_numbers_and_names_only():
    for name in ("NDC", "DeconvMixer", "DeconverBlock", "DTC"):
        for parameter in inspect.signature(getattr(layers, name)).parameters.values():
            assert "Module" not in str(parameter.annotation)
            assert "Callable" not in str(parameter.annotation)
