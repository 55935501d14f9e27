"""The map of where an upsampling samples agrees with what the layer does."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.quiver import Quiver
from monai.networks import nets
from torch import nn

from deconvseg import create_model
from deconvseg.errors import InputError
from deconvseg.nn import DTC, DySample, upgrade_upsampling
from deconvseg.ops.deformable_upsample.reference import positions
from deconvseg.reporting import sampling_map

STILL = {"kind": "dtc+linear", "init": "bilinear"}


def network(upsampling="dtc+linear", dims=2, **options):
    torch.manual_seed(0)
    sizes = {"in_channels": 1, "out_channels": 2, "spatial_dims": dims, "widths": (4, 8, 8)}
    return create_model("deconver", **sizes, upsampling=upsampling, **options)


def image(dims=2, batch=()):
    return torch.randn(*batch, 1, *(16, 24, 8)[:dims], generator=torch.Generator().manual_seed(0))


def sampled(features, places):
    """Sample features (G, C, *S) at positions in pixels (G, axes, *N) by PyTorch."""
    size = features.shape[2:]
    grid = [(2 * places[:, axis] + 1) / size[axis] - 1 for axis in reversed(range(len(size)))]
    return F.grid_sample(features, torch.stack(grid, dim=-1), padding_mode="border", align_corners=False)


class Decoder(nn.Module):
    """Calls its layer by keyword, and goes on to work in place and to count."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.up = nn.Conv2d(1, 4, 3, padding=1), DTC(4, 4, 2, 2)
        self.register_buffer("calls", torch.zeros(()))
        nn.init.normal_(self.up.coordinates.weight)

    def forward(self, image):
        x = self.stem(image)
        out = self.up(x=x)
        x.zero_()
        image.zero_()
        self.calls += 1
        return out


@pytest.mark.parametrize("upsampling", ["dtc", "dtc+linear", "dtc+transposed", "dysample"])
@pytest.mark.parametrize("dims", [2, 3])
def test_sampling_there_with_grid_sample_gives_the_output_of_the_layer(upsampling, dims):
    far = upsampling if upsampling == "dysample" else {"kind": upsampling, "receptive_field": 6.0}
    model = network(far, dims)
    seen = {}
    for path, module in model.named_modules():
        if isinstance(module, DTC | DySample):
            nn.init.normal_(module.coordinates.weight, std=0.5)
            module.register_forward_hook(lambda layer, args, out, path=path: seen.update({path: (layer, args, out)}))
    drawn = sampling_map(model, image(dims))
    layer, (x, *base), out = seen[drawn.layer]
    assert drawn.layer.startswith("decoder.1.upsampling")
    with torch.no_grad():
        features = layer.project(x).reshape(len(drawn.positions), -1, *x.shape[2:])
        expected = sampled(features.double(), torch.as_tensor(drawn.positions)).reshape(out.shape).float()
    torch.testing.assert_close(out, expected + sum(base), rtol=1e-4, atol=1e-4)


def test_a_layer_that_interpolates_linearly_has_a_regular_map():
    for dims in (2, 3):
        drawn = sampling_map(network(STILL, dims), image(dims))
        assert np.allclose(drawn.density, 2**dims)
        assert drawn.mean_displacement == drawn.large_displacement == drawn.unsampled == 0
        centres = drawn.image_positions[0][(0, *[slice(None)] + [0] * (dims - 1))]
        assert centres == pytest.approx(np.arange(16) + 0.0)


def test_every_output_position_is_counted_once_also_beyond_the_border():
    model = network({"kind": "dtc+linear", "receptive_field": 40.0})
    nn.init.normal_(model.decoder[1].upsampling.added.coordinates.weight, std=2.0)
    drawn = sampling_map(model, image())
    assert (drawn.positions < 0).any()
    assert drawn.density.sum() == pytest.approx(16 * 24)
    assert drawn.density.shape == (8, 12)
    grid = np.stack(np.meshgrid(np.arange(16) / 2 - 0.25, np.arange(24) / 2 - 0.25, indexing="ij"))
    distances = np.hypot(*(drawn.positions[0] - grid))
    assert drawn.mean_displacement == pytest.approx(distances.mean())
    assert drawn.large_displacement == pytest.approx(np.percentile(distances, 95))
    assert distances.max() <= 10 * math.sqrt(2)


def test_what_a_model_does_afterwards_or_the_image_is_made_of_does_not_matter():
    model, x = Decoder(), torch.rand(1, 8, 8)
    drawn = sampling_map(model, x)
    assert model.calls == 0
    assert x.any()
    assert np.array_equal(drawn.image, x)
    offsets, weights = model.up.predict(model.stem(x[None]))
    expected = torch.stack(positions(offsets, weights, (8, 8), model.up.scale, model.up.receptive_field), dim=1)
    assert np.allclose(drawn.positions, expected.detach(), atol=1e-6)
    backwards = sampling_map(model, x.numpy()[:, ::-1, ::-1])
    assert np.allclose(backwards.positions, sampling_map(model, x.flip(1, 2)).positions)


def test_layers_are_chosen_by_path_and_foreign_models_work():
    model = network()
    drawn = sampling_map(model, image(batch=(1,)).numpy(), layer="decoder.0.upsampling.added")
    assert (drawn.layer, drawn.size, drawn.positions.shape) == ("decoder.0.upsampling.added", (4, 6), (1, 2, 8, 12))
    foreign = nets.UNet(3, 1, 2, (4, 8, 16), ((2, 2, 1), 2))
    upgrade_upsampling(foreign)
    foreign.model[0].eval()
    modes = [module.training for module in foreign.modules()]
    drawn = sampling_map(foreign, image(3), slice=1)
    assert (drawn.layer, drawn.scale) == ("model.2.conv.added", (2, 2, 1))
    assert [module.training for module in foreign.modules()] == modes
    assert not any(module._forward_pre_hooks for module in foreign.modules())


@pytest.mark.parametrize("dims", [2, 3])
def test_the_figure_shows_image_points_and_density(dims):
    drawn = sampling_map(network(STILL, dims), image(dims), slice=5 if dims == 3 else None)
    figure = drawn.figure()
    (row,) = figure.subfigs
    pictured, scattered, overlaid, moved, _ = row.axes
    points = np.asarray(scattered.collections[0].get_offsets())
    # Slice 5 of 8 lies in slice 2 of 4, on which every second of the output's positions lies, rounded.
    assert len(points) == 16 * 24 * (1 if dims == 2 else 2)
    height, width = (16, 24) if dims == 2 else (24, 16)
    assert sorted(set(points[:, 0].round(6))) == pytest.approx(list(range(width)))
    assert sorted(set(points[:, 1].round(6))) == pytest.approx(list(range(height)))
    assert pictured.images[0].get_array().shape == (height, width, 3)
    assert np.allclose(overlaid.images[1].get_array(), 1.0)
    assert row.get_suptitle() == "decoder.1.upsampling.added"
    (arrows,) = [part for part in moved.collections if isinstance(part, Quiver)]
    assert not arrows.U.any()
    assert not arrows.V.any()
    assert "move 0.00 pixels on average (95 %: 0.00)" in str(drawn)


def test_points_lie_where_the_image_is():
    """A layer that samples at one corner: in 3D the view has its first axis from right to left."""
    model = network({**STILL, "receptive_field": 100.0, "components": ("tanh",)}, 3)
    layer = model.decoder[1].upsampling.added
    with torch.no_grad():
        layer.coordinates.bias[:] = torch.tensor([0.0, 9.0, -9.0])
    drawn = sampling_map(model, image(3))
    assert (drawn.positions[0, 0] < 0).all()
    assert (drawn.positions[0, 1] > drawn.size[1]).all()
    assert drawn.density[0, -1].sum() == pytest.approx(drawn.density.sum())
    assert drawn.unsampled == pytest.approx(1 - 1 / (8 * 12))
    shown = drawn.figure().subfigs[0].axes[2].images[1].get_array()
    assert shown[0, -1] > 0
    assert shown.sum() == shown[0, -1]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (network("linear"), {}, r"no upsampling with learned positions: build it with .* by nn.upgrade_upsampling"),
        (network(), {"layer": "decoder.1.upsamplin.added"}, "did you mean 'decoder.1.upsampling.added'"),
        (network(), {"layer": "decoder.1.upsampling.added", "stage": 1}, "both choose the layer; give one of them"),
        (network(), {"stage": 0}, "learned upsamplings at 2 stages, 1 the lowest resolution"),
        (network(), {"slice": 1}, "slice=1: a 2D image has none"),
        (network(dims=3), {"image": image(3), "slice": 8}, "slice=8: the image has 0 to 7"),
        (network(), {"image": image(3)}, r"needs \(batch, 1 channels, 2 spatial sizes\)"),
        (network(), {"image": image(batch=(2,))}, r"shape \(2, 1, 16, 24\): give one, \(C, \*S\) with 2 spatial axes"),
        (network(), {"image": image()[:, 1:]}, r"must be a multiple of \(4, 4\): pad to \(16, 24\)"),
        (network().to("meta"), {}, "the model or the image has no values .*meta device"),
        (network(), {"image": image().to("meta")}, "the model or the image has no values .*meta device"),
        (Decoder(), {"image": torch.rand(3, 8, 8)}, r"cannot be run on an image \(1, 3, 8, 8\): .*expected input"),
    ],
)
def test_what_does_not_fit_is_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        sampling_map(model, **{"image": image(), **options})


def test_layers_that_are_not_used_and_positions_that_are_not_finite():
    model = network()
    model.spare = DTC(1, 1, 2, 2)
    with pytest.raises(
        InputError, match="does not use its layer spare here; used: decoder.0.upsampling.added, decoder"
    ):
        sampling_map(model, image(), layer="spare")
    nn.init.constant_(model.decoder[1].upsampling.added.coordinates.bias, math.nan)
    with pytest.raises(InputError, match="positions that are not finite"):
        sampling_map(model, image())
