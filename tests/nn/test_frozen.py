"""Networks that are prepared for inference on a CPU: the same results, and never behind anybody's back."""

import logging
import pickle
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from deconvseg.inference.tuning import tune
from deconvseg.models import create_model
from deconvseg.nn import frozen
from deconvseg.nn.norm import own_norm
from deconvseg.nn.residual import ConvUnit
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
        error, plain = ((net(x).double() - exact).square().mean().sqrt().item() for net in (tuned, network))
    assert error <= plain + torch.finfo(torch.float32).eps * exact.square().mean().sqrt().item()
    assert [type(layer) for layer in network.modules()] == layers
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert tuned.state_dict().keys() == before.keys()
    assert {"FusedSequential", "WinogradConv3d", "FrozenConv3d", "ConvTranspose3d"} <= {
        type(layer).__name__ for layer in tuned.modules()
    }
    assert {"winograd_conv", "conv_transpose"} <= {choice.operator for _, choice in explain(tuned).choices}
    assert tune(tuned, CPU) is tuned


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
    frozen.freeze(tuned)
    x = torch.randn(1, 4, 6, 5)
    kept = x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(tuned(x), plain(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(x, kept)


def sequence(*layers: nn.Module) -> nn.Sequential:
    """A network that has something to prepare, whatever the layers are."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), *layers).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def assert_same(tuned: nn.Module, network: nn.Module) -> None:
    x = torch.randn(2, 16, 7, 6)
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(tuned(x), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


class DoubledNorm(nn.InstanceNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class DoubledConv(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class DoubledSequence(nn.Sequential):
    factor = 2

    def forward(self, input: Tensor) -> Tensor:
        return self.factor * super().forward(input)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, out: 2 * out)
    return layer


def replaced(layer: nn.Module) -> nn.Module:
    forward = layer.forward
    layer.forward = lambda input: 2 * forward(input)
    return layer


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrised(layer: nn.Module) -> nn.Module:
    return nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())


@pytest.mark.parametrize(
    "layer",
    [
        lambda: DoubledNorm(16),
        lambda: hooked(nn.InstanceNorm2d(16, affine=True)),
        lambda: replaced(nn.GroupNorm(16, 16)),
        lambda: parametrised(nn.InstanceNorm2d(16, affine=True)),
        lambda: nn.InstanceNorm2d(16, track_running_stats=True),
        lambda: nn.GroupNorm(4, 16),
        lambda: DoubledConv(16, 16, 3, padding=1),
        lambda: hooked(nn.Conv2d(16, 16, 3, padding=1)),
        lambda: replaced(nn.Conv2d(16, 16, 1)),
        lambda: parametrised(nn.Conv2d(16, 16, 3, padding=1)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 3, padding=1)),
        lambda: DoubledSequence(nn.InstanceNorm2d(16), nn.ReLU()),
        lambda: hooked(nn.Sequential(nn.InstanceNorm2d(16), nn.ReLU())),
    ],
)
def test_what_only_resembles_a_layer_stays_what_it_is(layer: Callable[[], nn.Module]) -> None:
    network = sequence(layer(), nn.LeakyReLU(0.2))
    tuned = tune(network, CPU)
    assert type(tuned[0]) is frozen.WinogradConv2d
    assert type(tuned[1]) is type(network[1])
    assert_same(tuned, network)


@pytest.mark.parametrize(
    "norm",
    [
        nn.InstanceNorm2d(16),
        nn.InstanceNorm2d(16, 0.1, affine=True),
        nn.GroupNorm(16, 16),
        nn.GroupNorm(16, 16, affine=False),
    ],
    ids=str,
)
def test_normalisations_by_channel_become_ours_with_the_very_weights(norm: nn.Module) -> None:
    network = sequence(norm)
    tuned = tune(network, CPU)
    assert type(tuned[1]).__name__ in ("InstanceNorm", "AffineInstanceNorm")
    assert tuned.state_dict().keys() == network.state_dict().keys()
    assert_same(tuned, network)
    norm.requires_grad_(False)
    own = own_norm(norm)
    assert own is not None
    assert [parameter is norm.weight for parameter in own.parameters()] == [True, False][: len([*norm.parameters()])]
    assert not own.training


def test_a_network_that_cannot_be_copied_comes_back_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    network = sequence()
    network[0].kept = network[0].weight * 2
    with caplog.at_level(logging.WARNING, logger="deconvseg"):
        assert tune(network, CPU) is network
    assert "Sequential is not optimised for this CPU, because it cannot be copied: Only" in caplog.text


def test_weights_with_hooks_that_compute_them_are_left_alone() -> None:
    with pytest.warns(FutureWarning):
        normed = nn.utils.weight_norm(nn.Conv2d(16, 16, 3, padding=1))
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), normed).eval()
    assert tune(network, CPU) is network
    with torch.no_grad():
        network(torch.randn(1, 16, 4, 4))
    tuned = tune(network, CPU)
    assert type(tuned[1]) is nn.Conv2d
    assert_same(tuned, network)


def test_weights_loaded_later_are_those_that_compute() -> None:
    tuned, other = tune(sequence(nn.InstanceNorm2d(16), nn.ReLU()), CPU), sequence(nn.InstanceNorm2d(16), nn.ReLU())
    for assign in (False, True):
        nn.init.normal_(other[0].weight)
        tuned.load_state_dict(deepcopy(other.state_dict()), assign=assign)
        assert_same(tuned, other)


def test_a_pickle_is_as_large_as_the_networks_own() -> None:
    network = sequence(nn.InstanceNorm2d(16, affine=True), nn.ReLU(), nn.Conv2d(16, 64, 3, padding=1))
    tuned = tune(network, CPU)
    sizes = [len(pickle.dumps(each)) for each in (tuned, network)]
    assert sizes[0] < 1.1 * sizes[1]
    assert_same(pickle.loads(pickle.dumps(tuned)), network)  # noqa: S301


def test_a_network_is_prepared_in_inference_mode_too() -> None:
    network = sequence(nn.InstanceNorm2d(16), nn.ReLU())
    with torch.inference_mode():
        tuned = tune(network, CPU)
    assert explain(tuned).choices[0][1].backend == "native"
    assert_same(tuned, network)


def test_a_prepared_network_can_be_compiled_and_exported() -> None:
    network = sequence(
        nn.InstanceNorm2d(16, affine=True), nn.ReLU(), nn.Conv2d(16, 4, 1), nn.ConvTranspose2d(4, 2, 2, 2)
    )
    tuned, x = tune(network, CPU), torch.randn(2, 16, 7, 6)
    with torch.no_grad():
        expected = network(x)
        for other in (torch.compile(tuned, backend="eager", fullgraph=True), torch.export.export(tuned, (x,)).module()):
            torch.testing.assert_close(other(x), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_onednn_that_is_switched_off_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = nn.Conv2d(3, 16, 3, padding=1), torch.randn(1, 3, 6, 5)
    frozen.freeze(layer)
    monkeypatch.setattr(torch, "mkldnn_convolution", lambda *arguments: pytest.fail("oneDNN was called"))
    with torch.backends.mkldnn.flags(enabled=False), torch.inference_mode():
        torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, padding=1))


def test_sequences_with_a_name_are_fused_too() -> None:
    network = sequence(ConvUnit(16, 32, 3, 2, norm="instance_affine", stride=2, slope=0.1))
    tuned = tune(network, CPU)
    assert type(tuned[1]) is frozen.FusedSequential
    assert_same(tuned, network)


@pytest.mark.parametrize("residual", [False, True])
def test_monai_s_blocks_are_fused_where_they_are_plain_sequences(residual: bool) -> None:
    network = create_model(
        "nnunet", in_channels=1, out_channels=2, spatial_dims=2, widths=[16, 32, 32], residual=residual
    ).eval()
    tuned, x = tune(network, CPU), torch.randn(1, 1, 24, 20)
    kinds = {type(layer).__name__ for layer in tuned.modules()}
    assert "FusedUnetBasicBlock" in kinds
    assert ("UnetResBlock" in kinds) == residual
    again, seen = pickle.loads(pickle.dumps(tuned)), []  # noqa: S301
    with torch.inference_mode():
        for other in (tuned, again, deepcopy(tuned)):
            torch.testing.assert_close(other(x), network(x), rtol=1e-4, atol=1e-4)
        again.input_block.lrelu.register_forward_hook(lambda module, inputs, out: seen.append(out))
        torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-4)
    assert len(seen) == 2


def test_blocks_with_a_kernel_of_their_own_keep_it_beside_other_networks() -> None:
    members = (
        {"name": "segresnet", "config": {"init_filters": 16, "depths": (1, 1)}},
        {"name": "deconver", "config": {"widths": (16, 32)}},
    )
    network = create_model("ensemble", in_channels=1, out_channels=2, spatial_dims=2, networks=members).eval()
    chosen = {choice.operator: choice.backend for _, choice in explain(tune(network, CPU)).choices}
    assert chosen["deconver_block"] == "native"
    assert chosen["winograd_conv"] == "native"


@pytest.mark.parametrize(
    "change",
    [
        {"padding": (0, 0)},
        {"stride": (2, 2)},
        {"dilation": (2, 2)},
        {"padding_mode": "circular", "_reversed_padding_repeated_twice": [1, 1, 1, 1]},
        {"bias": None},
    ],
)
@torch.no_grad()
def test_settings_changed_after_freezing_hold(change):
    torch.manual_seed(0)
    plain, x = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1)), torch.randn(1, 16, 8, 8)
    prepared = deepcopy(plain)
    frozen.freeze(prepared)
    assert type(prepared[0]) is frozen.WinogradConv2d
    for layer in (plain[0], prepared[0]):
        for name, value in change.items():
            setattr(layer, name, value)
    torch.testing.assert_close(prepared(x), plain(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_replaced_methods_and_functions_hold_for_frozen_layers(monkeypatch):
    layers = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 4, 1), nn.InstanceNorm2d(4), nn.ReLU())
    x = torch.randn(1, 16, 8, 8)
    frozen.freeze(layers)
    for kind in (nn.Conv2d, nn.ReLU):
        calls, forward = [], kind.forward
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "forward", lambda self, x, f=forward, calls=calls: calls.append(1) or f(self, x))
            layers(x)
        assert len(calls) == {nn.Conv2d: 2, nn.ReLU: 1}[kind]
    calls, conv2d = [], nn.functional.conv2d
    monkeypatch.setattr(nn.functional, "conv2d", lambda *args, **kwargs: calls.append(1) or conv2d(*args, **kwargs))
    layers(x)
    assert len(calls) == 2
