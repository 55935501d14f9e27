"""Upgrading other people's networks, and ours: what is changed, what stays, and what is refused."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deconvseg import create_model
from deconvseg.errors import InputError
from deconvseg.nn import DTC, upgrade_upsampling
from deconvseg.nn.upsampling import SummedUpsampling
from deconvseg.ops import use_backend
from nn.kinds import UPSAMPLINGS, ZERO, takes_skip
from nn.peers import PEERS, Interpolating

KINDS = [kind for kind in UPSAMPLINGS if not takes_skip(kind)]


def outputs(model, x):
    torch.manual_seed(7)
    out = model(x)
    return list(out) if isinstance(out, list | tuple) else [out]


def make(name):
    torch.manual_seed(0)
    return PEERS[name].make()


def ours(model="deconver", dims=2, **options):
    torch.manual_seed(0)
    return create_model(model, in_channels=1, out_channels=2, spatial_dims=dims, widths=(4, 8, 8), **options)


def new_parameters(model, before):
    known = {id(parameter) for parameter in before}
    return [parameter for parameter in model.parameters() if id(parameter) not in known]


@pytest.mark.parametrize("name", PEERS)
class TestPeers:
    def test_a_start_from_zero_leaves_the_output_bit_for_bit_and_the_weights_where_they_are(self, name):
        peer, model = PEERS[name], make(name)
        x, parameters = peer.image(), list(model.parameters())
        buffers = copy.deepcopy(dict(model.named_buffers()))
        expected = {}
        for training in (True, False):
            expected[training] = outputs(copy.deepcopy(model).train(training), x)
        changes = upgrade_upsampling(model, ZERO)
        assert len(changes) == peer.upsamplings
        assert all(model.get_submodule(change.path) for change in changes)
        assert model.training
        torch.testing.assert_close(dict(model.named_buffers()), buffers, rtol=0, atol=0)
        for training in (True, False):
            torch.testing.assert_close(
                outputs(copy.deepcopy(model).train(training), x), expected[training], rtol=0, atol=0
            )
        kept = {id(parameter) for parameter in model.parameters()}
        assert {id(parameter) for parameter in parameters} <= kept
        added = sum(isinstance(module, DTC) for module in model.modules())
        assert added == peer.upsamplings

    def test_layers_are_used_learn_and_survive_copies_and_state_dicts(self, name):
        peer, model, twin = PEERS[name], make(name), make(name)
        x, before = peer.image(), list(model.parameters())
        with torch.no_grad():
            unchanged = outputs(model.eval(), x)
            upgrade_upsampling(model)
            upgrade_upsampling(twin)
            logits = outputs(model, x)
            assert not torch.allclose(logits[0], unchanged[0])
            torch.testing.assert_close(outputs(copy.deepcopy(model), x), logits, rtol=0, atol=0)
            twin.load_state_dict(model.state_dict())
            torch.testing.assert_close(outputs(twin.eval(), x), logits, rtol=0, atol=0)
        sum(out.square().mean() for out in outputs(model.train(), x)).backward()
        added = new_parameters(model, before)
        assert len(added) == 4 * peer.upsamplings
        assert all(torch.isfinite(parameter.grad).all() and (parameter.grad != 0).any() for parameter in added)


@pytest.mark.parametrize("upsampling", ["transposed", "linear", "pixelshuffle"])
@pytest.mark.parametrize(("name", "dims"), [("deconver", 2), ("deconver", 3), ("unet", 2), ("unet", 3)])
@pytest.mark.parametrize("widths", [(4, 8, 8), (16, 16, 32)])
def test_our_networks_are_upgraded_too(widths, upsampling, name, dims):
    torch.manual_seed(0)
    sizes = {"in_channels": 1, "out_channels": 2, "spatial_dims": dims, "widths": widths}
    model = create_model(name, **sizes, upsampling=upsampling).eval()
    x = torch.randn(1, 1, *[16] * dims)
    # Also where a kernel computes the upsampling and the convolution after it as one.
    expected = model(x)
    assert len(upgrade_upsampling(model, ZERO)) == 2
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    for name, parameter in model.named_parameters():
        if "added" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    with use_backend("reference"):
        changed = model(x)
    assert not torch.allclose(changed, expected)
    torch.testing.assert_close(model(x), changed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["UNet", "DynUNet", "smp Unet"])
@pytest.mark.parametrize("mode", ["beside", "replace"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_both_modes(kind, mode, name):
    model, x = make(name), PEERS[name].image()
    before = outputs(model.eval(), x)[0].detach()
    leave = ["model.2*"] if name == "UNet" and "dysample" in kind else []
    changes = upgrade_upsampling(model, kind, mode, leave=leave)
    logits = outputs(model, x)
    assert logits[0].shape == before.shape
    assert not torch.allclose(logits[0], before)
    assert {(change.kind, change.mode) for change in changes} == {(kind, mode)}


def test_replaced_layers_are_gone_and_the_new_ones_have_their_sizes():
    model = make("DynUNet")
    changes = upgrade_upsampling(model, {"kind": "dtc", "receptive_field": "inf"}, "replace")
    assert not any(isinstance(module, nn.ConvTranspose3d) and module.out_channels != 6 for module in model.modules())
    for change, scale in zip(changes, [(2, 2, 1), (2, 2, 2)], strict=True):
        layer = model.get_submodule(change.path)
        assert isinstance(layer, DTC)
        assert layer.scale == change.scale == scale
        assert layer.receptive_field == float("inf")
        assert (layer.project.in_channels, layer.project.out_channels) == (change.in_channels, change.out_channels)


def test_modules_with_two_names_are_changed_once_in_both_places():
    model = make("DynUNet")
    upgrade_upsampling(model)
    by_name = dict(model.named_modules(remove_duplicate=False))
    here, there = by_name["upsamples.1.transp_conv.conv"], by_name["skip_layers.upsample.transp_conv.conv"]
    assert isinstance(here, SummedUpsampling)
    assert here is there

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = nn.ConvTranspose2d(1, 1, 2, 2)

        def forward(self, x):
            return self.first(x) + self.second(x)

    model = Twice()
    assert len(upgrade_upsampling(model)) == 1
    assert model.first is model.second
    assert isinstance(model.first, SummedUpsampling)


def test_training_leaves_the_zeros():
    torch.manual_seed(0)
    model, x = make("smp Unet"), PEERS["smp Unet"].image()
    before = list(model.parameters())
    upgrade_upsampling(model, ZERO)
    added = new_parameters(model, before)
    assert all((parameter == 0).all() for parameter in added)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()
    assert all((parameter != 0).any() for parameter in added)


def test_upgraded_networks_export_and_compile():
    model, x = make("smp Unet").eval(), PEERS["smp Unet"].image()
    upgrade_upsampling(model)
    expected = model(x)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), expected)


def test_a_traced_module_keeps_its_children_keys_and_signature_and_refuses_another_branch():
    model = make("smp Unet").eval()
    block, keys = model.decoder.blocks[0], list(model.state_dict())
    upgrade_upsampling(model, ZERO)
    assert model.decoder.blocks[0] is block
    assert isinstance(block, type(make("smp Unet").decoder.blocks[0]))
    assert set(keys) <= set(model.state_dict())
    x = torch.rand(1, 128, 4, 4)
    with pytest.raises(AssertionError, match="skip_connection is None, but was given when"):
        block(x, 8, 8)
    assert block(x, target_height=9, target_width=9, skip_connection=torch.rand(1, 64, 9, 9)).shape[2:] == (9, 9)
    with pytest.raises(AssertionError, match="skip_connection has been specialized to have value None"):
        model.decoder.blocks[2](torch.rand(1, 16, 4, 4), 8, 8, skip_connection=x)
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(model)


def test_new_layers_have_the_type_of_the_model_and_its_mode():
    model = make("SegResNet, nontrainable").double().eval()
    upgrade_upsampling(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Upsample(scale_factor=2)).to("meta")
    upgrade_upsampling(model)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_modes_of_single_modules_are_restored():
    model = make("UNETR").train()
    model.encoder1.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    upgrade_upsampling(model)
    after = {name: module.training for name, module in model.named_modules()}
    assert all(after[name] == training for name, training in modes.items())


def test_changes_print_what_was_done():
    model = make("UNETR")
    changes = upgrade_upsampling(model, leave="encoder*")
    assert [change.path for change in changes] == [f"decoder{n}.transp_conv.conv" for n in (5, 4, 3, 2)]
    expected = "decoder5.transp_conv.conv: dtc beside ConvTranspose3d, 24 to 32 channels, 2 x 2 x 2"
    assert str(changes[0]) == expected
    (change,) = upgrade_upsampling(Interpolating(), "dysample", "replace")
    assert str(change) == "the model itself: dysample instead of F.interpolate, 4 to 4 channels, 2 x 2"


def test_several_functional_calls_in_one_forward_get_a_layer_each():
    def resize(x, skip):
        coarse = F.interpolate(F.max_pool2d(x, 2), scale_factor=2)
        smaller = F.interpolate(skip, scale_factor=0.5)
        return F.interpolate(coarse + smaller, scale_factor=(2, 2), mode="bicubic")

    model = Interpolating(resize)
    x = torch.rand(1, 1, 16, 16)
    expected = model(x)
    changes = upgrade_upsampling(model, ZERO)
    assert [change.scale for change in changes] == [(2, 2), (2, 2)]
    assert {"upsampling.project.weight", "upsampling_1.project.weight"} <= set(model.state_dict())
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_a_second_upgrade_finds_nothing_left():
    for name in ("UNet", "smp Unet"):
        model = make(name)
        upgrade_upsampling(model)
        with pytest.raises(InputError, match="every upsampling of the model has learned positions already"):
            upgrade_upsampling(model)
    with pytest.raises(InputError, match=r"learned positions already \(decoder.0.upsampling, decoder.1.upsampling\)"):
        upgrade_upsampling(ours(upsampling="dtc+linear"))


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    output_padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.integers(3, 6),
)
def test_transposed_convolutions_that_are_taken_scale_exactly(kernel, stride, padding, output_padding, dilation, size):
    if output_padding >= max(stride, dilation):
        output_padding = 0
    extra = {"output_padding": (output_padding, 0), "dilation": (dilation, 1)}
    conv = nn.ConvTranspose2d(1, 1, (kernel, 2), (stride, 2), (padding, 0), **extra)
    model = nn.Sequential(conv)
    x = torch.rand(1, 1, size, size)
    try:
        made = conv(x).shape[2]
    except RuntimeError:
        made = 0
    try:
        (change,) = upgrade_upsampling(model, ZERO, example=torch.rand(1, 1, 16, 16))
    except InputError:
        assert made != stride * size
    else:
        assert made == stride * size
        assert change.scale == (stride, 2)
        torch.testing.assert_close(model(x), conv(x), rtol=0, atol=0)
