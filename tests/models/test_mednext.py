import pytest
import torch
from monai.networks.nets.mednext import create_mednext

from deconvseg.errors import InputError
from deconvseg.models import MedNeXt, create_model
from models.tester import ModelTester


class TestMedNeXt(ModelTester):
    name = "mednext"
    arguments = {"init_filters": 4}  # noqa: RUF012
    supervised = None


@pytest.mark.parametrize("size", ["S", "B", "M", "L"])
def test_sizes_are_monais(size):
    with torch.device("meta"):
        model = MedNeXt(1, 2, 3, size, kernel_size=5)
        theirs = create_mednext(size, 3, 1, 2, kernel_size=5)
    ours = {name: value.shape for name, value in model.body.state_dict().items()}
    assert ours == {name: value.shape for name, value in theirs.state_dict().items() if name != "dummy_tensor"}


def test_it_is_monais_network():
    model, theirs = MedNeXt(1, 2, 2).eval(), create_mednext("S", 2, 1, 2).eval()
    theirs.load_state_dict(model.body.state_dict())
    x = torch.randn(1, 1, 32, 48)
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "XL"}, "size='XL': give"),
        ({"kernel_size": 4}, "kernel_size=4: a kernel needs an odd size"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\): give int"),
        ({"init_filters": 0}, "init_filters=0: give a positive number"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("mednext", **{"in_channels": 1, "out_channels": 1, **arguments})
