import pytest
import torch
from monai.networks import nets

from deconvseg.errors import InputError
from deconvseg.models import UNETR, create_model
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS

SMALL = {"feature_size": 4, "hidden_size": 8, "mlp_dim": 8, "num_heads": 2}


class TestUNETR(ModelTester):
    name = "unetr"
    prepared = {"feature_size": 16}  # noqa: RUF012
    supervised = None

    def arguments_in(self, dims):
        return {**SMALL, "image_size": (16, 32, 16)[:dims]}


@pytest.mark.parametrize("dims", [2, 3])
def test_it_is_monais_network_without_cross_attention(dims):
    model = UNETR(2, 3, 16, dims, **SMALL).eval()
    theirs = nets.UNETR(2, 3, 16, **SMALL, spatial_dims=dims).eval()
    missing, unexpected = theirs.load_state_dict(model.body.state_dict(), strict=False)
    assert all("cross_attn" in name for name in missing)
    assert not unexpected
    x = torch.randn(1, 2, *[16] * dims)
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_upsampling_goes_into_the_decoder_only(upsampling):
    model = UNETR(1, 2, 16, 2, **SMALL, upsampling=upsampling)
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 2, 16, 16)
    before, after = UNETR(1, 2, 16, 2, **SMALL).state_dict(), model.state_dict()
    changed = {name for name in before.keys() ^ after.keys() if not name.startswith("body.decoder")}
    assert not changed
    assert ("body.decoder5.transp_conv.added.coordinates.weight" in after) == upsampling.startswith("dtc+")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 40}, "image_size=40: give multiples of 16"),
        ({"image_size": (32, 32)}, r"image_size=\(32, 32\): give a positive integer, or 3 of them"),
        ({"num_heads": 3}, "hidden_size=8: give a multiple of num_heads=3"),
        ({"feature_size": 0}, "feature_size=0: give a positive number"),
        ({"norm": "layer"}, "norm 'layer' is unknown"),
        ({"upsampling": "dtc+"}, r"upsampling 'dtc\+' is unknown: did you mean"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("unetr", **{"in_channels": 1, "out_channels": 1, "image_size": 16, **SMALL, **arguments})


def test_the_size_of_the_image_is_needed():
    with pytest.raises(InputError, match="model 'unetr' needs image_size"):
        create_model("unetr", in_channels=1, out_channels=1)
