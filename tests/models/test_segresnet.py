import pytest
import torch
from monai.networks import nets

from deconvseg.errors import InputError
from deconvseg.models import SegResNet, create_model
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS, takes_skip


class TestSegResNet(ModelTester):
    name = "segresnet"
    arguments = {"init_filters": 8, "depths": (1, 1, 2)}  # noqa: RUF012
    prepared = {"init_filters": 16}  # noqa: RUF012
    supervised = None


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("upsampling", "mode"), [("transposed", "deconv"), ("linear", "nontrainable")])
def test_it_is_monais_network(dims, upsampling, mode):
    model = SegResNet(2, 3, dims, 8, upsampling=upsampling).eval()
    theirs = nets.SegResNet(dims, 8, 2, 3, upsample_mode=mode).eval()
    theirs.load_state_dict({name.replace(".project", ""): value for name, value in model.body.state_dict().items()})
    x = torch.randn(1, 2, *[8] * dims)
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_upsamplings_without_the_skip_connection_work(upsampling):
    def make():
        return SegResNet(1, 2, 2, 8, (1, 1), upsampling=upsampling)

    if takes_skip(upsampling):
        with pytest.raises(InputError, match="takes the skip connection too, which the decoder of segresnet only adds"):
            make()
        return
    model = make()
    logits = model(torch.randn(2, 1, 4, 8))
    assert logits.shape == (2, 2, 4, 8)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init_filters": 12}, "init_filters=12: give a multiple of 8"),
        ({"depths": ()}, r"depths=\(\): give 1 positive numbers, one per stage"),
        ({"depths": (1, 0)}, r"depths=\(1, 0\): give 2 positive numbers"),
        ({"decoder_depths": (1, 1)}, r"decoder_depths=\(1, 1\): give 3 positive numbers"),
        ({"upsampling": "linaer"}, "'linaer' is unknown: did you mean 'linear'"),
        ({"widths": (8, 16)}, "argument 'widths' is unknown"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("segresnet", **{"in_channels": 1, "out_channels": 1, "init_filters": 8, **arguments})
