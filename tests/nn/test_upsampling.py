import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn import DTC, UPSAMPLING_KINDS, create_upsampling
from deconvseg.ops import deformable_upsample

MODES = {2: "bilinear", 3: "trilinear"}


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def interpolate(x, scale):
    size = [length * factor for length, factor in zip(x.shape[2:], scale, strict=True)]
    return F.interpolate(x, size=size, mode=MODES[len(scale)], align_corners=False)


@pytest.mark.parametrize(
    ("switches", "channels"),
    [
        ({}, 4),
        ({"tanh": False}, 4),
        ({"sigmoid": False}, 4),
        ({"sigmoid": False, "tanh": False}, 4),
        ({"weight": False}, 2),
        ({"weight": False, "tanh": False}, 2),
    ],
)
@pytest.mark.parametrize("receptive_field", [2.0, "inf"])
def test_dtc_is_equations_1_and_2_with_the_components_of_table_4(switches, channels, receptive_field):
    layer = DTC(3, 5, (2, 3), 2, receptive_field=receptive_field, **switches)
    x = torch.randn(2, 3, 4, 5)
    predicted = F.conv_transpose2d(x, layer.coordinates.weight, layer.coordinates.bias, stride=(2, 3))
    assert predicted.shape == (2, channels, 8, 15)
    offsets = predicted[:, :2] if switches.get("tanh") is False else predicted[:, :2].tanh()
    weights = None
    if switches.get("weight", True):
        weights = predicted[:, 2:] if switches.get("sigmoid") is False else predicted[:, 2:].sigmoid()
    projected = F.conv2d(x, layer.project.weight, layer.project.bias)
    expected = deformable_upsample(projected, offsets, weights, scale=(2, 3), receptive_field=float(receptive_field))
    torch.testing.assert_close(layer(x), expected)


def test_dtc_adds_the_parameters_of_table_7():
    # Table 7's U-Net: DTC on four levels of 512, 256, 128 and 64 channels adds 67.243 - 65.853 MiB in float32.
    assert sum(parameters(DTC(width, width, 2, 2)) for width in (512, 256, 128, 64)) == 364_496


@pytest.mark.parametrize(("dims", "scale"), [(2, (2, 2)), (2, (1, 3)), (3, (2, 2, 2)), (3, (1, 2, 2))])
def test_dtc_starts_as_its_init_says(dims, scale):
    x = torch.randn(2, 3, *(4, 5, 6)[:dims])
    bilinear = DTC(3, 5, scale, dims, init="bilinear")
    torch.testing.assert_close(bilinear(x), interpolate(bilinear.project(x), scale))
    assert (DTC(3, 5, scale, dims, init="zero")(x) == 0).all()
    default = DTC(3, 5, scale, dims)
    assert not torch.allclose(default(x), interpolate(default.project(x), scale))


@pytest.mark.parametrize("init", ["default", "bilinear", "zero"])
def test_dtc_learns_from_every_start(init):
    torch.manual_seed(0)
    layer = DTC(3, 2, 2, 2, init=init)
    x, target = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 8, 8)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all((parameter.grad != 0).any() for parameter in layer.parameters())


@pytest.mark.parametrize("kind", UPSAMPLING_KINDS)
@pytest.mark.parametrize(("dims", "scale"), [(2, 2), (2, (1, 3)), (3, 2), (3, (1, 2, 2))])
def test_every_kind_scales_each_axis_and_changes_the_channels(kind, dims, scale):
    x = torch.randn(2, 3, *(4, 5, 6)[:dims])
    factors = (scale,) * dims if isinstance(scale, int) else scale
    size = tuple(length * factor for length, factor in zip(x.shape[2:], factors, strict=True))
    assert create_upsampling(kind, 3, 5, scale, dims)(x).shape == (2, 5, *size)


@pytest.mark.parametrize("base", ["transposed", "linear"])
def test_sums_are_the_base_plus_dtc(base):
    layer = create_upsampling(f"dtc+{base}", 3, 5, 2, 2, receptive_field="inf", dtc_init="default")
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layer(x), layer.base(x) + layer.dtc(x))
    assert type(layer.base) is type(create_upsampling(base, 3, 5, 2, 2))
    assert layer.dtc.receptive_field == math.inf
    zero = create_upsampling(f"dtc+{base}", 3, 5, 2, 2, dtc_init="zero")
    torch.testing.assert_close(zero(x), zero.base(x), rtol=0, atol=0)


def test_transposed_has_kernel_and_stride_of_the_scale():
    layer = create_upsampling("transposed", 3, 5, (1, 2, 3), 3)
    assert isinstance(layer, nn.ConvTranspose3d)
    assert layer.kernel_size == layer.stride == (1, 2, 3)


def test_linear_interpolates_and_projects_where_the_channels_change():
    x = torch.randn(2, 3, 4, 5)
    layer = create_upsampling("linear", 3, 3, 2, 2)
    assert parameters(layer) == 0
    torch.testing.assert_close(layer(x), interpolate(x, (2, 2)))
    layer = create_upsampling("linear", 3, 5, 2, 2)
    torch.testing.assert_close(layer(x), layer.project(interpolate(x, (2, 2))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: create_upsampling("dtc+lineer", 3, 3), r"'dtc\+lineer' is unknown: did you mean 'dtc\+linear'"),
        (lambda: create_upsampling("nearest", 3, 3), r"choose from transposed, linear, dtc, dtc\+transposed"),
        (lambda: create_upsampling("linear", 3, 3, (2, 2)), r"scale=\(2, 2\): .* or 3 of them"),
        (lambda: DTC(3, 3, spatial_dims=1), "spatial_dims=1: choose from 2, 3"),
        (lambda: DTC(3, 3, init="bilinar"), "init 'bilinar' is unknown: did you mean 'bilinear'"),
        (lambda: DTC(3, 3, receptive_field=0), "receptive_field=0: give a positive number, or 'inf'"),
        (lambda: DTC(3, 3, receptive_field="far"), "receptive_field='far'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
