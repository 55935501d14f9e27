import pytest
import torch
from monai.networks.nets import DynUNet

from deconvseg.errors import InputError
from deconvseg.models import NNUNet, create_model
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS


class TestNNUNet(ModelTester):
    name = "nnunet"
    arguments = {"widths": (4, 8, 8)}  # noqa: RUF012
    prepared = {"widths": (16, 16, 32)}  # noqa: RUF012


class TestResidualNNUNetWithDTC(ModelTester):
    name = "nnunet"
    arguments = {  # noqa: RUF012
        "widths": (4, 6, 6, 8),
        "strides": (1, 2, 1, 2),
        "norm": "instance_affine",
        "residual": True,
        "upsampling": "dtc+transposed",
    }
    supervised = {"deep_supervision_heads": 3}  # noqa: RUF012
    prepared = {"widths": (16, 16, 16, 32)}  # noqa: RUF012


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("norm", "affine"), [("instance", False), ("instance_affine", True)])
def test_it_is_monais_network_without_the_second_names(dims, norm, affine):
    model = NNUNet(2, 3, dims, (4, 8, 8), norm=norm).eval()
    theirs = DynUNet(
        dims, 2, 3, [3] * 3, [1, 2, 2], [2, 2], filters=(4, 8, 8), norm_name=("INSTANCE", {"affine": affine})
    ).eval()
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("skip_layers.")}
    model.load_weights(state, "DynUNet")
    x = torch.randn(2, 2, *[8] * dims)
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_deep_supervision_has_the_resolutions_of_the_decoder():
    model = NNUNet(1, 2, 2, (4, 4, 4), deep_supervision_heads=2)
    model.deep_supervision = True
    assert [output.shape[2:] for output in model(torch.randn(1, 1, 16, 8))] == [(16, 8), (8, 4), (4, 2)]


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_upsampling_goes_into_every_decoder_stage(upsampling):
    torch.manual_seed(0)
    strides = (1, (1, 2, 2), 2)
    model = NNUNet(1, 2, 3, (4, 8, 8), strides=strides, upsampling=upsampling)
    logits = model(torch.randn(2, 1, 2, 4, 8))
    assert logits.shape == (2, 2, 2, 4, 8)
    logits.square().mean().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_dtc_stands_beside_the_published_upsampling():
    zero = {"kind": "dtc+transposed", "init": "zero"}
    plain, model = NNUNet(1, 2, 2, (4, 8, 8)), NNUNet(1, 2, 2, (4, 8, 8), upsampling=zero)
    names = {name.replace("transp_conv", "transp_conv.base"): value for name, value in plain.state_dict().items()}
    added = {name: value for name, value in model.state_dict().items() if ".added." in name}
    model.load_weights({**names, **added}, "plain")
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(model(x), plain(x), rtol=0, atol=0)


def test_a_bottom_of_one_position_is_taken_in_training():
    assert NNUNet(1, 2, 3, (4, 8, 8))(torch.randn(1, 1, 4, 4, 4)).shape == (1, 2, 4, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (4, 8)}, "nnunet needs 3 stages or more"),
        ({"widths": ()}, "give one positive number per stage"),
        ({"strides": (1, 2)}, r"strides=\(1, 2\): give one number, 3"),
        ({"strides": (1, 5, 2, 2)}, r"strides: \(5, 5, 5\) skips voxels that kernel_size \(3, 3, 3\) does not reach"),
        ({"kernel_size": 2}, "a kernel needs odd sizes"),
        ({"norm": "layer"}, "norm 'layer' is unknown: choose from instance, batch"),
        ({"upsampling": "dtc+trans"}, r"'dtc\+trans' is unknown: did you mean 'dtc\+transposed'"),
        ({"residual": "false"}, "residual='false': give bool"),
        ({"deep_supervision_heads": 4}, "4 stages allow 0 to 3"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("nnunet", **{"in_channels": 1, "out_channels": 1, "widths": (4, 4, 4, 4), **arguments})
