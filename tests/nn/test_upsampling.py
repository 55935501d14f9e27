import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn import DTC, FADE, DySample, create_upsampling
from deconvseg.nn.upsampling import SummedUpsampling, upsample
from deconvseg.nn.upsampling.kinds.pixelshuffle import pixel_shuffle
from deconvseg.ops import deformable_upsample
from nn.kinds import UPSAMPLINGS

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
@pytest.mark.parametrize("kind", UPSAMPLINGS)
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


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", UPSAMPLINGS)
def test_an_empty_batch_gives_one_and_zero_gradients(kind, dims):
    layer = create_upsampling(kind, 8, 4, 2, dims, skip_channels=6)
    x = torch.rand(0, 8, *(3, 4, 5)[:dims], requires_grad=True)
    out = upsample(layer, x, torch.rand(0, 6, *(6, 8, 10)[:dims]))
    assert out.shape == (0, 4, *(6, 8, 10)[:dims])
    out.sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize("base", ["transposed", "linear", "pixelshuffle", "dysample", "fade"])
def test_sums_are_the_base_plus_dtc(base):
    layer = create_upsampling({"kind": f"dtc+{base}", "receptive_field": "inf"}, 3, 8, 2, 2, skip_channels=5)
    x, skip = torch.randn(2, 3, 4, 5), torch.randn(2, 5, 8, 10)
    torch.testing.assert_close(upsample(layer, x, skip), upsample(layer.base, x, skip) + layer.added(x))
    assert type(layer.base) is type(create_upsampling(base, 3, 8, 2, 2, skip_channels=5))
    assert layer.added.receptive_field == math.inf
    zero = create_upsampling({"kind": f"dtc+{base}", "init": "zero"}, 3, 8, 2, 2, skip_channels=5)
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
    """Against the definition, one output position after the other, from the layer's weights alone."""
    torch.manual_seed(0)
    size = (3, 4, 3)[:dims]
    layer = FADE(3, 4, scale, dims, skip_channels=6, embedding=5, kernel_size=kernel).double()
    x = torch.randn(1, 3, *size, dtype=torch.double)
    skip = torch.randn(1, 6, *(n * s for n, s in zip(size, scale, strict=True)), dtype=torch.double)

    def pointwise(name, image):
        conv = getattr(layer, name)
        bias = 0 if conv.bias is None else conv.bias.view(-1, *[1] * dims)
        return torch.einsum("oi,bi...->bo...", conv.weight.flatten(1), image) + bias

    def look(image, position):
        """The weights that the 3x3 convolution gives around a position."""
        padded = F.pad(image, (1, 1) * dims)[0]
        window = padded[(slice(None), *(slice(p, p + 3) for p in position))]
        return torch.einsum("oi...,i...->o", layer.kernels.weight, window) + layer.kernels.bias

    low, high = pointwise("project", x), pointwise("project_skip", skip)
    compressed, compressed_skip = pointwise("compress", low), pointwise("compress_skip", high)
    gate, around = pointwise("gate", low).sigmoid()[0, 0], F.pad(low, (kernel // 2,) * (2 * dims))[0]
    expected = torch.empty_like(high)
    for position in itertools.product(*map(range, high.shape[2:])):
        coarse = tuple(p // s for p, s in zip(position, scale, strict=True))
        shares = (look(compressed, coarse) + look(compressed_skip, position)).softmax(dim=0)
        neighbours = around[(slice(None), *(slice(p, p + kernel) for p in coarse))].flatten(1)
        mean = neighbours @ shares
        open_ = gate[coarse]
        expected[(0, slice(None), *position)] = open_ * high[(0, slice(None), *position)] + (1 - open_) * mean
    torch.testing.assert_close(layer(x, skip), expected)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [(3, 8), (8, 8)])
@pytest.mark.parametrize("kind", UPSAMPLINGS)
def test_every_kind_works_under_autocast(kind, channels, half):
    torch.manual_seed(0)
    read, written = channels
    layer = create_upsampling(kind, read, written, 2, 2, skip_channels=8)
    x, skip = torch.randn(2, read, 6, 6), torch.randn(2, 8, 12, 12)
    full = upsample(layer, x, skip)
    with torch.autocast("cpu", dtype=half):
        lowered = upsample(layer, x, skip)
    assert (lowered.float() - full).norm() < 0.02 * full.norm()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", UPSAMPLINGS)
def test_every_kind_is_exported_with_any_batch(kind, dims):
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = create_upsampling(kind, 4, 8, 2, dims, skip_channels=4)

        def forward(self, x, skip):
            return upsample(self.layer, x, skip)

    def images(batch):
        return torch.randn(batch, 4, *[4] * dims), torch.randn(batch, 4, *[8] * dims)

    model, batch = Up().eval(), torch.export.Dim("batch", max=64)
    program = torch.export.export(model, images(2), dynamic_shapes={"x": {0: batch}, "skip": {0: batch}})
    inputs = images(3)
    torch.testing.assert_close(program.module()(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


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
            "choose from carafe, dtc, dysample, fade, linear, pixelshuffle, sapa, transposed, or a sum",
        ),
        (lambda: create_upsampling("fade", 3, 3), "'fade' takes the skip connection too: give skip_channels"),
        (lambda: create_upsampling("dtc+fade", 3, 3), "takes the skip connection too: give skip_channels"),
        (lambda: create_upsampling("dysample", 3, 6), "6 output channels do not divide into groups=4: give a multiple"),
        (lambda: create_upsampling("dysample", 3, 4, spatial_dims=1), "spatial_dims=1: choose from 2, 3"),
        (lambda: create_upsampling("pixelshuffle", 3, 4, 0), "scale=0: give a positive integer"),
        (lambda: create_upsampling("dtc", 3, 4, 1.5), "scale=1.5: give a positive integer"),
        (lambda: create_upsampling("dtc", 3, 4, "22"), "scale='22': give a positive integer"),
        (lambda: create_upsampling("linear", 0, 4), "in_channels=0: give a positive number"),
        (lambda: FADE(3, 3, 2, 2)(torch.zeros(1, 3, 4, 4, 4)), r"FADE got a tensor of shape \(1, 3, 4, 4, 4\): give"),
        (
            lambda: FADE(3, 3, 2, 2)(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 8, 8)),
            r"got one of shape \(2, 3, 8, 8\)",
        ),
        (lambda: FADE(3, 3, 2, 2)(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 8, 8)), r"one of shape \(1, 4, 8, 8\)"),
        *(
            (
                lambda kind=kind: create_upsampling(kind, 4, 8)(torch.zeros(1, 4, 5, 5)),
                r"\(batch, 4 channels, 3 spatial",
            )
            for kind in ("linear", "pixelshuffle", "dysample", "dtc")
        ),
        (lambda: FADE(3, 3, kernel_size=4), "kernel_size=4, embedding=64: give an odd size"),
        (lambda: FADE(3, 3, 2, 2)(torch.zeros(1, 3, 4, 4)), r"skip connection of shape \(1, 3, 8, 8\) and got none"),
        (lambda: FADE(3, 3, 2, 2)(*[torch.zeros(1, 3, 4, 4)] * 2), r"got one of shape \(1, 3, 4, 4\)"),
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
