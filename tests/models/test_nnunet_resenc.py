import sys

import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.models import ResEncUNet, create_model
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS
from nn.peers import look_for_peers

look_for_peers()
architectures = pytest.importorskip(
    "dynamic_network_architectures.architectures.unet", reason="dynamic-network-architectures is not installed"
)


class TestResEncUNet(ModelTester):
    name = "nnunet_resenc"
    arguments = {"widths": (4, 8, 8), "depths": (1, 2, 1)}  # noqa: RUF012
    prepared = {"widths": (16, 16, 32)}  # noqa: RUF012


def test_it_is_the_packages_network_without_the_second_names():
    model = ResEncUNet(2, 3, 2, (4, 8, 8), deep_supervision_heads=1).eval()
    theirs = architectures.ResidualEncoderUNet(
        2, 3, (4, 8, 8), torch.nn.Conv2d, 3, (1, 2, 2), (1, 3, 4), 3, 1, conv_bias=True,
        norm_op=torch.nn.InstanceNorm2d, norm_op_kwargs={"affine": True}, nonlin=torch.nn.LeakyReLU,
        deep_supervision=True,
    ).eval()  # fmt: skip
    renamed = {"upsampling.": "decoder.transpconvs.", "decoder.": "decoder.stages.", "head.": "decoder.seg_layers.1."}
    renamed["extra_heads.0."] = "decoder.seg_layers.0."
    state = {}
    for name in model.state_dict():
        start = next((start for start in renamed if name.startswith(start)), "")
        state[name] = theirs.state_dict()[renamed.get(start, "") + name[len(start) :]]
    model.load_weights(state, "ResidualEncoderUNet")
    model.deep_supervision = True
    x = torch.randn(2, 2, 16, 8)
    for ours, expected in zip(model(x), theirs(x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dims", "widths"), [(2, [32, 64, 128, 256, 512, 512]), (3, [32, 64, 128, 256, 320, 320])])
def test_the_default_is_nnunets(dims, widths):
    with torch.device("meta"):
        config = ResEncUNet(1, 2, dims).config
    assert (config["widths"], config["depths"]) == (widths, [1, 3, 4, 6, 6, 6])


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_upsampling_goes_into_every_decoder_stage(upsampling):
    model = ResEncUNet(1, 2, 3, (4, 8), (1, 1), strides=(1, (1, 2, 2)), upsampling=upsampling)
    assert model(torch.randn(2, 1, 2, 4, 8)).shape == (2, 2, 2, 4, 8)


def test_supervision_may_reach_the_bottleneck():
    model = ResEncUNet(1, 2, 2, (4, 4, 4), deep_supervision_heads=2)
    model.deep_supervision = True
    assert [output.shape[2:] for output in model(torch.randn(1, 1, 16, 8))] == [(16, 8), (8, 4), (4, 2)]


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures", None)
    with pytest.raises(InputError, match=r"is not installed: pip install 'deconvseg\[nnunet\]'"):
        ResEncUNet(1, 2, 2, (4, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (4,)}, "nnunet_resenc needs two stages or more"),
        ({"depths": (1, 2)}, r"depths=\(1, 2\): give 3 positive numbers"),
        ({"norm": "instance"}, "norm 'instance' is unknown: did you mean 'instance_affine'"),
        ({"upsampling": "dct"}, "'dct' is unknown: did you mean 'dtc'"),
        ({"kernel_size": 4}, "a kernel needs odd sizes"),
        ({"deep_supervision_heads": 3}, "3 stages allow 0 to 2"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("nnunet_resenc", **{"in_channels": 1, "out_channels": 1, "widths": (4, 4, 4), **arguments})
