import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.models import UNet, create_model
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS


class TestUNet(ModelTester):
    name = "unet"
    arguments = {"widths": (4, 6, 8)}  # noqa: RUF012
    prepared = {"widths": (16, 16, 32)}  # noqa: RUF012


class TestUNetWithTransposedConvolutions(ModelTester):
    name = "unet"
    arguments = {"widths": (4, 8), "upsampling": "transposed", "norm": "instance"}  # noqa: RUF012
    prepared = {"widths": (16, 32)}  # noqa: RUF012


class TestUNetWithFADEAndDTC(ModelTester):
    name = "unet"
    arguments = {"widths": (4, 8), "upsampling": "dtc+fade"}  # noqa: RUF012
    prepared = {"widths": (16, 32)}  # noqa: RUF012


def parameters(**arguments):
    with torch.device("meta"):
        model = create_model("unet", in_channels=3, out_channels=1, spatial_dims=2, **arguments)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("upsampling", "added"),
    [("linear", 0), ("dysample", 30_848), ("fade", 181_800), ("dtc+linear", 364_496), ("dtc", 364_496)],
)
def test_sizes_are_those_of_table_7(upsampling, added):
    assert parameters(upsampling=upsampling, narrowing="convolutions") == 17_262_977 + added
    if upsampling != "dtc":
        assert parameters(upsampling=upsampling) == 17_262_977 + added


def test_the_transposed_one_has_a_bottom_of_1024():
    assert parameters(upsampling="transposed") == 31_037_633
    assert parameters(upsampling="transposed", widths=(64, 128, 256, 512, 1024)) == 31_037_633


@pytest.mark.parametrize("narrowing", ["upsampling", "convolutions"])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_upsampling_works_with_both_ways_of_narrowing(upsampling, narrowing):
    torch.manual_seed(0)
    model = UNet(1, 2, 3, (4, 8, 8), strides=(1, (1, 2, 2), 2), upsampling=upsampling, narrowing=narrowing)
    logits = model(torch.randn(2, 1, 4, 8, 12))
    assert logits.shape == (2, 2, 4, 8, 12)
    logits.square().mean().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_switches_of_the_paper_reach_the_layers():
    switches = {"receptive_field": "inf", "init": "zero", "components": ("tanh",)}
    model = UNet(1, 1, 2, (4, 8), upsampling={"kind": "dtc+linear", **switches})
    layer = model.decoder[0].upsampling
    assert layer.base.align_corners
    assert layer.added.receptive_field == float("inf")
    assert (layer.added.init, layer.added.components) == ("zero", ("tanh",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upsampling": "dysampel"}, "'dysampel' is unknown: did you mean 'dysample'"),
        ({"upsampling": "dysample", "widths": (4, 6, 6)}, "6 output channels do not divide into groups=4"),
        ({"kernel_size": 2}, "kernel_size=2: a kernel needs odd sizes"),
        ({"widths": ()}, "give one positive number per stage"),
        ({"deep_supervision_heads": 5}, "5 stages allow 0 to 4"),
        ({"norm": "layer"}, "norm 'layer' is unknown: choose from instance, batch"),
        ({"upsampling": {"kind": "dtc", "components": ("tan",)}}, "components: 'tan' is unknown: did you mean 'tanh'"),
        ({"upsampling": {"kind": "dtc", "components": ("sigmoid",)}}, "add 'weight'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("unet", **{"in_channels": 1, "out_channels": 1, "spatial_dims": 2, **arguments})


def test_a_way_of_narrowing_that_is_none_is_refused():
    with pytest.raises(InputError, match="narrowing='both': give"):
        create_model("unet", in_channels=1, out_channels=1, narrowing="both")
