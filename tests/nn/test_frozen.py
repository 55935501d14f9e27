"""Layers that are computed faster as long as their weights stay as they are."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from deconvseg.inference.tuning import tune
from deconvseg.models import create_model
from deconvseg.models.parts import use_own_norms
from deconvseg.nn import frozen
from deconvseg.ops import explain, native

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")
CPU = torch.device("cpu")


class ConvNormAct(nn.Module):
    """Has its layers twice, as nnU-Net's blocks do: by name, and in the sequence that is called."""

    def __init__(self, read: int, written: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(read, written, 3, stride, padding=1)
        self.norm = nn.InstanceNorm3d(written, affine=True)
        self.nonlin = nn.LeakyReLU(inplace=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, self.nonlin)

    def forward(self, x: Tensor) -> Tensor:
        return self.all_modules(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Sequential(ConvNormAct(2, 16), ConvNormAct(16, 16))
        self.down = nn.Sequential(ConvNormAct(16, 32, 2), ConvNormAct(32, 32))
        self.up = nn.ConvTranspose3d(32, 16, 2, 2)
        self.decode, self.head = ConvNormAct(32, 16), nn.Conv3d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.top(x)
        return self.head(self.decode(torch.cat([skip, self.up(self.down(skip))], 1)))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    net = Net().eval()
    for norm in (module for module in net.modules() if isinstance(module, nn.InstanceNorm3d)):
        nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(norm.bias)
    return net


@pytest.mark.parametrize("batch", [1, 2])
def test_a_tuned_network_computes_the_same_and_the_one_given_stays(network: nn.Module, batch: int) -> None:
    before, layers = deepcopy(network.state_dict()), [type(layer) for layer in network.modules()]
    tuned, x = tune(network, CPU), torch.randn(batch, 2, 12, 10, 8)
    with torch.inference_mode():
        exact = deepcopy(network).double()(x.double())
        error, plain = ((net(x).double() - exact).abs().max().item() for net in (tuned, network))
    assert error <= 4 * plain + 1e-6
    assert [type(layer) for layer in network.modules()] == layers
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert tuned.state_dict().keys() == before.keys()
    assert {"FusedSequential", "WinogradConv3d", "FrozenConv3d", "FrozenConvTranspose3d"} <= {
        type(layer).__name__ for layer in tuned.modules()
    }
    assert "winograd_conv" in str(explain(tuned))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["nnunet", "unet"])
def test_registered_networks_with_plain_convolutions_compute_the_same(name: str, dims: int) -> None:
    torch.manual_seed(0)
    network = create_model(name, in_channels=1, out_channels=2, spatial_dims=dims).eval()
    x = torch.randn(1, 1, *[32] * dims)
    tuned = tune(network, CPU)
    assert type(tuned) is type(network)
    assert tuned is not network
    with torch.inference_mode():
        torch.testing.assert_close(tuned(x), network(x), rtol=0, atol=1e-4 * network(x).abs().max().item())


def test_networks_with_kernels_of_their_own_come_back_as_they_are() -> None:
    network = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=3, widths=[16, 32])
    assert tune(network, CPU) is network
    script = torch.jit.script(nn.Conv2d(16, 16, 3, padding=1))
    assert tune(script, CPU) is script


def test_layers_of_a_sequence_can_be_called_one_by_one_and_watched() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.InstanceNorm2d(16), nn.LeakyReLU(0.2)).eval()
    tuned, x = tune(plain, CPU), torch.randn(1, 16, 9, 8)
    seen: list[Tensor] = []
    with torch.inference_mode():
        steps = [x]
        for layer in tuned:
            steps.append(layer(steps[-1]))
        torch.testing.assert_close(steps[-1], plain(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tuned(x), plain(x), rtol=1e-4, atol=1e-5)
        handles = [layer.register_forward_hook(lambda module, inputs, out: seen.append(out)) for layer in tuned]
        torch.testing.assert_close(tuned(x), plain(x), rtol=1e-4, atol=1e-5)
    assert len(handles) == len(seen) == 3
    for found, expected in zip(seen, steps[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 3, 2, 1),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 16, 5, padding=2),
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding="same"),
        nn.ConvTranspose2d(16, 16, 3, 2, 1, 1),
        nn.ConvTranspose2d(16, 16, 2, 2, groups=2),
        nn.ConvTranspose2d(16, 16, 2, 2),
    ],
    ids=str,
)
def test_a_frozen_convolution_of_any_settings_computes_the_same(conv: nn.Conv2d) -> None:
    layer, x = deepcopy(conv), torch.randn(2, conv.in_channels, 9, 8)
    frozen.freeze(layer)
    with torch.inference_mode():
        for image in (x, x[0]):
            torch.testing.assert_close(layer(image), conv(image), rtol=1e-4, atol=1e-5)
    winograd = isinstance(layer, frozen.WinogradConv2d)
    assert winograd == ("same" in str(conv))


def test_normalisations_take_a_rectifier_along_only_where_it_follows() -> None:
    layers = [nn.InstanceNorm2d(4), nn.ReLU(), nn.LeakyReLU(0.3), nn.InstanceNorm2d(4), nn.GELU(), nn.InstanceNorm2d(4)]
    plain = nn.Sequential(*layers).eval()
    tuned = deepcopy(plain)
    use_own_norms(tuned)
    frozen.freeze(tuned)
    x = torch.randn(1, 4, 6, 5)
    kept = x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(tuned(x), plain(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(x, kept)
