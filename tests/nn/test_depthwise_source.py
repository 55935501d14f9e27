"""Ablations of nonnegative deconvolution: depthwise convolutions in its place, and no update."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.errors import InputError
from deconvseg.models import complexity, create_model
from deconvseg.nn import NDC, DeconverBlock, DeconvMixer, DepthwiseSource


@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from((1, 2, 4)), st.sampled_from((1, 3, 5)), st.integers(0, 2))
@settings(deadline=None, max_examples=20)
def test_sources_are_a_rectified_projection_and_rectified_depthwise_convolutions(dims, channels, ratio, kernel, count):
    layer = DepthwiseSource(channels, kernel, ratio, iterations=count, spatial_dims=dims)
    x = torch.rand(2, channels, *(6, 5, 4)[:dims])
    weight = layer.initial_source.weight.flatten(1)
    source = F.relu(torch.einsum("ec,bc...->be...", weight, x) + layer.initial_source.bias.view(-1, *[1] * dims))
    skeleton = NDC(channels, kernel, ratio, iterations=0, spatial_dims=dims)
    skeleton.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(skeleton(x), source)
    assert len(layer.convs) == 3 * count
    conv = getattr(F, f"conv{dims}d")
    for one in layer.convs:
        source = F.relu(conv(source, one.weight, padding=kernel // 2, groups=channels * ratio))
    torch.testing.assert_close(layer(x), source)


@pytest.mark.parametrize(("dims", "kernel"), [(2, 3), (2, 5), (3, 3), (3, (3, 3, 1))])
@pytest.mark.parametrize("iterations", [1, 2])
def test_depthwise_convolutions_cost_what_the_updates_cost(dims, kernel, iterations):
    found = {}
    rows = {"ndc": ("ndc", iterations), "depthwise": ("depthwise", iterations), "none": ("depthwise", 0)}
    for name, (mixing, updates) in rows.items():
        options = {"kernel_size": kernel, "iterations": updates, "mixing": mixing}
        network = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=dims, widths=(4, 8), **options)
        found[name] = complexity(network, (1, 1, *[8] * dims), training=False)
        assert network.config["mixing"] == mixing
    assert found["depthwise"].macs == found["ndc"].macs > found["none"].macs
    # Per block: the filters of C x R channels once, three times for each update, or not at all.
    size = torch.Size([kernel] * dims if isinstance(kernel, int) else kernel).numel()
    # Two blocks of 4 channels and one of 8, with 4 source channels for each.
    filters = (2 * 4 + 8) * 4 * size
    assert found["ndc"].parameters - found["none"].parameters == filters
    assert found["depthwise"].parameters - found["none"].parameters == 3 * iterations * filters


@pytest.mark.parametrize("iterations", [0, 1])
def test_gradients_of_an_ablated_block_are_right(iterations):
    block = DeconverBlock(2, 3, ratio=2, iterations=iterations, spatial_dims=2, mixing="depthwise").double()
    assert "in place of nonnegative deconvolution" in str(block.explain_backend())
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, x)
    block(x).sum().backward()
    # The sum over a normalised image has no gradient, but its filters have one.
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_the_variance_of_the_source_survives_three_depthwise_convolutions():
    torch.manual_seed(0)
    layer, x = DepthwiseSource(32, 3, spatial_dims=2), torch.rand(1, 32, 32, 32)
    first = torch.relu(layer.initial_source(x))
    assert 0.2 < layer(x).square().mean() / first.square().mean() < 5


def test_the_choice_is_checked():
    with pytest.raises(InputError, match="mixing 'depth' is unknown: did you mean 'depthwise'"):
        DeconvMixer(4, 3, mixing="depth")
    with pytest.raises(InputError, match="groups=2: depthwise convolutions have one group per channel"):
        DeconvMixer(4, 3, groups=2, mixing="depthwise")
    with pytest.raises(InputError, match="iterations=-1"):
        DepthwiseSource(4, 3, iterations=-1)
    with pytest.raises(InputError, match="deconvolution needs odd sizes"):
        DepthwiseSource(4, 2)
    assert isinstance(DeconverBlock(4, 3).mixer.ndc, NDC)
