import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.models import NNUNetArchitecture, create_model
from models.tester import ModelTester
from nn.peers import look_for_peers
from nnunet_peer import layer_arguments

look_for_peers()
architectures = pytest.importorskip(
    "dynamic_network_architectures.architectures.unet", reason="dynamic-network-architectures is not installed"
)


def arguments_in(dims, **changes):
    """``arch_kwargs`` of nnU-Net's plans."""
    stages = 3
    return {
        "n_stages": stages,
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[3] * dims] * stages,
        "strides": [[1] * dims, [2] * dims, [1, *[2] * (dims - 1)]],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        **layer_arguments(dims),
        **changes,
    }


class TestNNUNetArchitecture(ModelTester):
    name = "nnunet_architecture"
    supervised = None
    prepared = {}  # noqa: RUF012

    def arguments_in(self, dims):
        return {"arguments": arguments_in(dims, features_per_stage=[16, 16, 32])}


@pytest.mark.parametrize("architecture", ["PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"])
def test_it_is_the_packages_network(architecture):
    arguments = arguments_in(2)
    if architecture != "PlainConvUNet":
        arguments["n_blocks_per_stage"] = arguments.pop("n_conv_per_stage")
    network = NNUNetArchitecture(2, 3, 2, architecture, arguments).eval()
    layers = {"conv_op": torch.nn.Conv2d, "norm_op": torch.nn.InstanceNorm2d, "nonlin": torch.nn.LeakyReLU}
    theirs = getattr(architectures, architecture)(input_channels=2, num_classes=3, **{**arguments, **layers}).eval()
    renamed = {"upsampling.": "decoder.transpconvs.", "decoder.": "decoder.stages.", "head.": "decoder.seg_layers.1."}
    state = {}
    for name in network.state_dict():
        start = next((start for start in renamed if name.startswith(start)), "")
        state[name] = theirs.state_dict()[renamed.get(start, "") + name[len(start) :]]
    network.load_weights(state, architecture)
    x = torch.randn(2, 2, 16, 8)
    torch.testing.assert_close(network(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_dtc_starts_as_the_network_without_it():
    arguments = arguments_in(2)
    torch.manual_seed(0)
    plain = NNUNetArchitecture(1, 2, 2, "PlainConvUNet", arguments).eval()
    torch.manual_seed(0)
    zero = {"kind": "dtc+transposed", "init": "zero"}
    summed = NNUNetArchitecture(1, 2, 2, "PlainConvUNet", arguments, zero).eval()
    x = torch.randn(1, 1, 8, 16)
    torch.testing.assert_close(plain(x), summed(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_op": "os.system"}, r"conv_op='os.system': not a layer of torch.nn; known are Conv2d, Conv3d"),
        ({"nonlin": "torch.nn.modules.module.Module"}, "nonlin 'Module' is unknown: .*LeakyReLU"),
        ({"norm_op": "builtins.eval"}, "not a layer of torch.nn"),
        ({"conv_op": "torch.nn.modules.conv.Conv3d"}, "give torch.nn.modules.conv.Conv2d for 2 axes"),
        ({"block": "x.Y"}, "PlainConvUNet: argument 'block' is unknown"),
        ({"n_conv_per_stage": [2, 2]}, "its arguments do not fit each other"),
    ],
)
def test_layers_and_arguments_that_are_not_known_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        create_model(
            "nnunet_architecture", in_channels=1, out_channels=1, spatial_dims=2, arguments=arguments_in(2, **changes)
        )
