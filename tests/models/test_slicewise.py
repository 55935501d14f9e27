import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.models import create_model
from models.tester import ModelTester

UNET = {"name": "unet", "config": {"widths": [4, 8]}}


class TestSlicewise(ModelTester):
    name = "slicewise"
    arguments = {"network": {"name": "unet", "config": {"widths": (4, 8, 8)}}}  # noqa: RUF012
    dims = (3,)
    supervised = None
    prepared = {}  # noqa: RUF012


def test_each_slice_is_computed_by_itself():
    network = create_model("slicewise", in_channels=2, out_channels=3, network=UNET).eval()
    volume = torch.randn(2, 2, 5, 8, 4)
    logits = network(volume)
    for index in range(5):
        torch.testing.assert_close(logits[:, :, index], network.plane(volume[:, :, index]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 2, "network": UNET}, "slices are those of a volume"),
        ({}, "give the name of a 2D network"),
        ({"network": {"name": "unet", "weights": "x"}}, "give the name of a 2D network"),
        ({"network": {"name": "unnet"}}, "'unnet' is unknown: did you mean 'unet'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("slicewise", in_channels=1, out_channels=1, **arguments)
