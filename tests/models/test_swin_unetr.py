import pytest
import torch
from monai.networks import nets

from deconvseg.errors import InputError
from deconvseg.models import SwinUNETR, SwinUNETRV2, create_model
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS

SMALL = {"feature_size": 12, "depths": (2, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 3}


class SwinTester(ModelTester):
    """Three sizes in 3D would take long: two of them are equal."""

    supervised = None

    def image(self, model, batch=2):
        size = (32, 64) if model.spatial_dims == 2 else (32, 32, 64)
        return torch.randn(batch, model.in_channels, *size, generator=torch.Generator().manual_seed(1))


class TestSwinUNETR(SwinTester):
    name = "swin_unetr"
    arguments = SMALL
    prepared = {"feature_size": 48}  # noqa: RUF012


class TestSwinUNETRV2(SwinTester):
    name = "swin_unetr_v2"
    arguments = {**SMALL, "depths": (1, 1, 1, 1), "upsampling": "dtc+transposed"}  # noqa: RUF012
    slow_exports = (3,)
    prepared = {"feature_size": 48}  # noqa: RUF012


@pytest.mark.parametrize("ours", [SwinUNETR, SwinUNETRV2])
@pytest.mark.parametrize("size", [(32, 64), (32, 32, 64)])
def test_it_is_monais_network(ours, size):
    model = ours(2, 3, len(size), **SMALL).eval()
    theirs = nets.SwinUNETR(2, 3, **SMALL, spatial_dims=len(size), use_v2=ours is SwinUNETRV2).eval()
    theirs.load_state_dict(model.body.state_dict())
    x = torch.randn(1, 2, *size)
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_smallest_image_is_taken_in_training():
    assert SwinUNETR(1, 2, 2, **SMALL)(torch.randn(1, 1, 32, 32)).shape == (1, 2, 32, 32)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_upsampling_goes_into_every_decoder_stage(upsampling):
    model = SwinUNETRV2(1, 2, 2, **SMALL, upsampling=upsampling)
    assert model(torch.randn(1, 1, 32, 64)).shape == (1, 2, 32, 64)
    layers = [model.body.get_submodule(f"decoder{stage}.transp_conv") for stage in range(1, 6)]
    assert all(hasattr(layer, "added") == upsampling.startswith("dtc+") for layer in layers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature_size": 16}, "feature_size=16: give a multiple of 12"),
        (
            {"num_heads": (5, 1, 1, 1)},
            r"num_heads=\(5, 1, 1, 1\): give divisors of the stages' channels \[12, 24, 48, 96\]",
        ),
        ({"num_heads": (1, 1)}, r"num_heads=\(1, 1\): give 4 positive numbers"),
        ({"depths": (2, 2)}, r"depths=\(2, 2\): give 4 positive numbers"),
        ({"window_size": 0}, "window_size=0: give a positive integer"),
        ({"norm": "layer"}, "norm 'layer' is unknown"),
        ({"upsampling": "dysampel"}, "did you mean 'dysample'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("swin_unetr_v2", **{"in_channels": 1, "out_channels": 1, **SMALL, **arguments})
