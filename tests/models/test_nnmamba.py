import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.models import NNMamba, create_model
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS


class TestNNMamba(ModelTester):
    name = "nnmamba"
    traced = False
    slow_exports = (3,)
    arguments = {"channels": 4, "blocks": 2, "states": 2}  # noqa: RUF012
    prepared = {"channels": 16}  # noqa: RUF012


def parameters(**arguments):
    with torch.device("meta"):
        model = create_model("nnmamba", in_channels=1, out_channels=14, **arguments)
    return sum(parameter.numel() for parameter in model.parameters())


def test_sizes():
    assert parameters() == 15_955_684
    assert parameters(spatial_dims=2) == 5_861_212
    # DTC has a 1x1 convolution from C to C and a transposed convolution to its coordinates at every upsampling.
    added = sum(width * (width + 1) + width * 6 * 8 + 6 for width in (256, 128, 64, 32))
    assert parameters(upsampling="dtc+linear") == 15_955_684 + added


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_upsampling_works(upsampling):
    torch.manual_seed(0)
    model = NNMamba(1, 2, 2, channels=4, states=2, upsampling=upsampling)
    logits = model(torch.randn(2, 1, 32, 16))
    assert logits.shape == (2, 2, 32, 16)
    logits.square().mean().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_switches_of_dtc_reach_the_layers():
    switches = {"receptive_field": "inf", "init": "zero", "components": ("tanh",)}
    model = NNMamba(1, 1, 2, channels=4, upsampling={"kind": "dtc+linear", **switches})
    layers = [*(stage.upsampling for stage in model.decoder), model.upsampling]
    assert [layer.added.project.in_channels for layer in layers] == [32, 16, 8, 4]
    for layer in layers:
        assert not layer.base.align_corners
        assert layer.added.project.out_channels == layer.added.project.in_channels
        assert layer.added.receptive_field == float("inf")
        assert (layer.added.init, layer.added.components) == ("zero", ("tanh",))


def test_blocks_after_the_first_share_one_mamba():
    with torch.device("meta"):
        few, many = (NNMamba(1, 1, 3, channels=8, blocks=blocks) for blocks in (2, 4))
    for model in (few, many):
        assert sum("A_log" in name for name in model.state_dict()) == 3
    assert [len(layer.others) for layer in many.encoder] == [3, 3, 3]


def test_heads_look_at_every_second_size():
    model = NNMamba(1, 2, 3, channels=4, states=2, deep_supervision_heads=3)
    model.deep_supervision = True
    outputs = model(torch.randn(2, 1, 32, 16, 16))
    assert [tuple(output.shape[2:]) for output in outputs] == [(32, 16, 16), (16, 8, 8), (8, 4, 4), (4, 2, 2)]


def test_samples_do_not_mix_while_training_with_instance_normalisation():
    torch.manual_seed(0)
    model = NNMamba(1, 2, 2, channels=4, states=2, norm="instance")
    x = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(model(x)[1:], model(x[1:]), rtol=1e-4, atol=1e-4)


def test_logits_take_both_signs():
    torch.manual_seed(0)
    logits = NNMamba(1, 3, 2, channels=4, states=2)(torch.randn(2, 1, 32, 32))
    assert (logits < 0).any()
    assert (logits > 0).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels=0: give a positive number"),
        ({"blocks": 1}, "blocks=1: give 2 or more"),
        ({"states": 0}, "states=0: give a positive number"),
        ({"deep_supervision_heads": 4}, "4 stages allow 0 to 3"),
        ({"norm": "layer"}, "norm 'layer' is unknown"),
        ({"upsampling": "liner"}, "'liner' is unknown: did you mean 'linear'"),
        ({"spatial_dims": 1}, "spatial_dims=1: choose from 2, 3"),
        ({"states": 2.5}, "states=2.5: give int"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("nnmamba", **{"in_channels": 1, "out_channels": 1, "spatial_dims": 2, **arguments})
