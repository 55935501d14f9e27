import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn import DTC, FADE, UPSAMPLING_KINDS, DySample, create_upsampling
from deconvseg.nn.upsampling import SummedUpsampling, upsample
from deconvseg.nn.upsampling.pixelshuffle import pixel_shuffle
from deconvseg.ops import deformable_upsample, reassemble

MODES = {2: "bilinear", 3: "trilinear"}


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def interpolate(x, scale):
    size = [length * factor for length, factor in zip(x.shape[2:], scale, strict=True)]
    return F.interpolate(x, size=size, mode=MODES[len(scale)], align_corners=False)


@pytest.mark.parametrize(
    ("components", "channels"),
    [
        (("weight", "sigmoid", "tanh"), 4),
        (("weight", "sigmoid"), 4),
        (("weight", "tanh"), 4),
        (("weight",), 4),
        (("tanh",), 2),
        ((), 2),
    ],
)
@pytest.mark.parametrize("receptive_field", [2.0, "inf"])
def test_dtc_is_equations_1_and_2_with_the_components_of_table_4(components, channels, receptive_field):
    layer = DTC(3, 5, (2, 3), 2, receptive_field=receptive_field, components=components)
    x = torch.randn(2, 3, 4, 5)
    predicted = F.conv_transpose2d(x, layer.coordinates.weight, layer.coordinates.bias, stride=(2, 3))
    assert predicted.shape == (2, channels, 8, 15)
    offsets = predicted[:, :2].tanh() if "tanh" in components else predicted[:, :2]
    weights = None
    if "weight" in components:
        weights = predicted[:, 2:].sigmoid() if "sigmoid" in components else predicted[:, 2:]
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


@pytest.mark.parametrize("channels", [(3, 8), (8, 8)])
@pytest.mark.parametrize("kind", UPSAMPLING_KINDS)
@pytest.mark.parametrize(("dims", "scale"), [(2, 2), (2, (1, 3)), (3, 2), (3, (1, 2, 2))])
def test_every_kind_scales_each_axis_changes_the_channels_and_learns(kind, dims, scale, channels):
    torch.manual_seed(0)
    read, written = channels
    x = torch.randn(2, read, *(4, 5, 6)[:dims], requires_grad=True)
    factors = (scale,) * dims if isinstance(scale, int) else scale
    size = tuple(length * factor for length, factor in zip(x.shape[2:], factors, strict=True))
    layer = create_upsampling(kind, read, written, scale, dims, skip_channels=6)
    out = upsample(layer, x, torch.randn(2, 6, *size))
    assert out.shape == (2, written, *size)
    out.square().mean().backward()
    assert all((tensor.grad != 0).any() for tensor in (x, *layer.parameters()))


@pytest.mark.parametrize("base", ["transposed", "linear", "pixelshuffle", "dysample", "fade"])
def test_sums_are_the_base_plus_dtc(base):
    layer = create_upsampling(f"dtc+{base}", 3, 8, 2, 2, skip_channels=5, receptive_field="inf")
    x, skip = torch.randn(2, 3, 4, 5), torch.randn(2, 5, 8, 10)
    torch.testing.assert_close(upsample(layer, x, skip), upsample(layer.base, x, skip) + layer.added(x))
    assert type(layer.base) is type(create_upsampling(base, 3, 8, 2, 2, skip_channels=5))
    assert layer.added.receptive_field == math.inf
    zero = create_upsampling(f"dtc+{base}", 3, 8, 2, 2, skip_channels=5, dtc_init="zero")
    torch.testing.assert_close(upsample(zero, x, skip), upsample(zero.base, x, skip), rtol=0, atol=0)


def test_sums_need_not_hold_dtc():
    layer = SummedUpsampling(create_upsampling("linear", 4, 4, 2, 2), create_upsampling("dysample", 4, 4, 2, 2))
    x = torch.randn(2, 4, 4, 5)
    torch.testing.assert_close(layer(x), layer.base(x) + layer.added(x))


@pytest.mark.parametrize(("dims", "scale"), [(2, (2, 2)), (2, (1, 3)), (3, (2, 2, 2)), (3, (1, 2, 3))])
def test_dysample_samples_each_group_at_positions_a_quarter_pixel_away(dims, scale):
    """Against ``grid_sample``, at the positions of the paper: centres of subpixels plus a quarter of the prediction."""
    torch.manual_seed(0)
    size = (4, 5, 6)[:dims]
    layer = DySample(3, 8, scale, dims, groups=2).double()
    nn.init.normal_(layer.coordinates.weight)
    x = torch.randn(2, 3, *size, dtype=torch.double)
    moves = layer.predict(x).unflatten(0, (2, 2))
    assert moves.shape == (2, 2, dims, *(n * s for n, s in zip(size, scale, strict=True)))
    for group in range(2):
        centres = [(torch.arange(n * s, dtype=torch.double) + 0.5) / s - 0.5 for n, s in zip(size, scale, strict=True)]
        grid = torch.stack(torch.meshgrid(*centres, indexing="ij")).flip(0) + moves[:, group] / 4
        lengths = torch.tensor(size[::-1]).view(-1, *[1] * dims)
        normalised = ((2 * grid + 1) / lengths - 1).movedim(1, -1)
        features = layer.project(x)[:, 4 * group : 4 * group + 4]
        expected = F.grid_sample(features, normalised, mode="bilinear", padding_mode="border", align_corners=False)
        torch.testing.assert_close(layer(x)[:, 4 * group : 4 * group + 4], expected)


@pytest.mark.parametrize(("dims", "scale"), [(2, (2, 2)), (3, (1, 2, 2))])
def test_dysample_starts_almost_as_linear_interpolation(dims, scale):
    x = torch.randn(2, 4, *(4, 5, 6)[:dims])
    torch.testing.assert_close(DySample(4, 4, scale, dims)(x), interpolate(x, scale), rtol=0.02, atol=0.02)


def test_dysample_and_fade_add_the_parameters_of_table_7():
    widths = (512, 256, 128, 64)
    assert sum(parameters(DySample(width, width, 2, 2)) for width in widths) == 30_848
    assert sum(parameters(FADE(width, width, 2, 2)) for width in widths) == 181_800


@pytest.mark.parametrize(("dims", "scale", "kernel"), [(2, (2, 2), 5), (2, (1, 3), 3), (3, (2, 1, 2), 3)])
def test_fade_is_a_gated_mean_of_neighbours(dims, scale, kernel):
    """Against the definition written with ``unfold``-like shifts, from the equations of the paper."""
    torch.manual_seed(0)
    size = (4, 5, 6)[:dims]
    layer = FADE(3, 4, scale, dims, skip_channels=6, embedding=5, kernel_size=kernel)
    x = torch.randn(2, 3, *size)
    skip = torch.randn(2, 6, *(n * s for n, s in zip(size, scale, strict=True)))
    low, high = layer.project(x), layer.project_skip(skip)

    def nearest(image):
        for axis, factor in enumerate(scale):
            image = image.repeat_interleave(factor, dim=2 + axis)
        return image

    logits = nearest(layer.kernels(layer.compress(low))) + layer.kernels(layer.compress_skip(high))
    gate = nearest(layer.gate(low)).sigmoid()
    mean = reassemble(low, logits.softmax(dim=1), scale=scale)
    torch.testing.assert_close(layer(x, skip), gate * high + (1 - gate) * mean)
    inside = (slice(None), slice(None), *[slice(kernel // 2 * s, -(kernel // 2 * s)) for s in scale])
    if all(n > kernel for n in size):
        assert mean[inside].max() <= low.max()
        assert mean[inside].min() >= low.min()


def test_fade_with_an_open_gate_returns_the_skip_connection():
    layer = FADE(4, 4, 2, 2)
    nn.init.constant_(layer.gate.bias, 100.0)
    skip = torch.randn(1, 4, 6, 8)
    torch.testing.assert_close(layer(torch.randn(1, 4, 3, 4), skip), skip)


@pytest.mark.parametrize("scale", [2, 3])
def test_pixel_shuffle_is_pytorchs(scale):
    x = torch.randn(2, 3 * scale**2, 4, 5)
    torch.testing.assert_close(pixel_shuffle(x, (scale, scale)), F.pixel_shuffle(x, scale), rtol=0, atol=0)


@pytest.mark.parametrize(("dims", "scale"), [(1, (3,)), (2, (1, 3)), (3, (2, 1, 3))])
def test_pixel_shuffle_starts_without_a_checkerboard(dims, scale):
    layer = create_upsampling("pixelshuffle", 3, 2, scale, dims)
    out = layer(torch.randn(1, 3, *(4, 5, 6)[:dims]))
    for axis, factor in enumerate(scale):
        blocks = out.unflatten(2 + axis, (-1, factor))
        torch.testing.assert_close(blocks, blocks.narrow(3 + axis, 0, 1).expand_as(blocks))


def test_pixel_shuffle_puts_channels_in_their_places():
    x = torch.arange(12.0).reshape(1, 12, 1, 1, 1)
    shuffled = pixel_shuffle(x, (1, 2, 3))
    torch.testing.assert_close(shuffled, torch.arange(12.0).reshape(1, 2, 1, 2, 3), rtol=0, atol=0)


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
        (
            lambda: create_upsampling("nearest", 3, 3),
            "choose from transposed, linear, pixelshuffle, dysample, fade",
        ),
        (lambda: create_upsampling("fade", 3, 3), "'fade' takes the skip connection too: give skip_channels"),
        (lambda: create_upsampling("dtc+fade", 3, 3), "takes the skip connection too: give skip_channels"),
        (lambda: create_upsampling("dysample", 3, 6), "6 output channels do not divide into groups=4: give a multiple"),
        (lambda: create_upsampling("dysample", 3, 4, spatial_dims=1), "spatial_dims=1: choose from 2, 3"),
        (lambda: create_upsampling("pixelshuffle", 3, 4, 0), "scale=0: give a positive integer"),
        (lambda: FADE(3, 3, kernel_size=4), "kernel_size=4, embedding=64: give an odd size"),
        (lambda: FADE(3, 3, 2, 2)(torch.zeros(1, 3, 4, 4)), r"skip connection of size \(8, 8\) and got none"),
        (lambda: FADE(3, 3, 2, 2)(*[torch.zeros(1, 3, 4, 4)] * 2), r"got one of size \(4, 4\)"),
        (lambda: create_upsampling("dtc+fade", 3, 3, 2, 2, skip_channels=3)(torch.zeros(1, 3, 4, 4)), "got none"),
        (lambda: DTC(3, 3, components=("tanh", "wait")), "components: 'wait' is unknown: did you mean 'weight'"),
        (lambda: DTC(3, 3, components=("sigmoid", "tanh")), "the sigmoid bounds weights, so add 'weight'"),
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
