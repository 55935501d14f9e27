import pytest
import torch
from monai.networks.nets import BasicUNetPlusPlus

from deconvseg.errors import InputError
from deconvseg.models import UNetPlusPlus, create_model
from models.tester import ModelTester

WIDTHS = (4, 4, 6, 6, 8)


class TestUNetPlusPlus(ModelTester):
    name = "unet_plus_plus"
    arguments = {"widths": WIDTHS, "last_width": 4}  # noqa: RUF012
    supervised = None
    prepared = {"widths": (16, 16, 16, 16, 32), "last_width": 16}  # noqa: RUF012


def test_it_is_monais_network_without_the_heads_of_other_nodes():
    model = UNetPlusPlus(2, 3, 2, WIDTHS, 4).eval()
    theirs = BasicUNetPlusPlus(2, 2, 3, (*WIDTHS, 4), bias=False).eval()
    missing, unexpected = theirs.load_state_dict(model.body.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing} == {"final_conv_0_1", "final_conv_0_2", "final_conv_0_3"}
    assert not unexpected
    x = torch.randn(2, 2, 32, 16)
    torch.testing.assert_close(model(x), theirs(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (4, 4)}, r"widths=\(4, 4\): give 5 positive numbers"),
        ({"last_width": 0}, "last_width=0: give a positive number"),
        ({"norm": "layer"}, "norm 'layer' is unknown"),
        ({"upsampling": "dtc"}, "argument 'upsampling' is unknown"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("unet_plus_plus", **{"in_channels": 1, "out_channels": 1, **arguments})
