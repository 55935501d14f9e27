"""Receptive fields of DTC: for each stage of a network, for each group of channels, and learned."""

import inspect

import pytest
import torch

from deconvseg import create_model
from deconvseg.errors import InputError
from deconvseg.models import list_models
from deconvseg.models.registry import _BUILDERS
from deconvseg.nn import DTC, create_upsampling
from deconvseg.ops import deformable_upsample
from nn.peers import look_for_peers

SMALL = {
    "deconver": {"widths": (4, 8, 16)},
    "unet": {"widths": (4, 8, 16)},
    "nnunet": {"widths": (4, 8, 16)},
    "nnunet_resenc": {"widths": (4, 8, 16), "depths": (1, 1, 1)},
    "segresnet": {"init_filters": 8, "depths": (1, 1, 1)},
    "factorizer": {"widths": (8, 16, 32), "window": 2, "image_size": (16, 16)},
    "unetr": {"feature_size": 4, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2, "image_size": (32, 32)},
    "swin_unetr": {"feature_size": 12},
    "swin_unetr_v2": {"feature_size": 12},
    "segmamba": {"widths": (4, 8, 8, 8), "hidden": 8},
    "nnmamba": {"channels": 4},
}


def layers(model):
    return [module for module in model.modules() if isinstance(module, DTC)]


def build(model, upsampling):
    return create_model(model, in_channels=1, out_channels=2, spatial_dims=2, upsampling=upsampling, **SMALL[model])


def test_every_network_with_an_upsampling_is_covered():
    takes = {name: inspect.signature(_BUILDERS[name]).parameters for name in list_models()}
    # Its arguments are those of nnU-Net's plans; it is built in its own tests.
    others = {"nnunet_architecture"}
    assert {name for name, parameters in takes.items() if "upsampling" in parameters} - others == {*SMALL}


@pytest.mark.parametrize("model", SMALL)
def test_a_list_gives_each_stage_its_receptive_field_the_coarsest_first(model):
    if model == "nnunet_resenc":
        look_for_peers()
        pytest.importorskip("dynamic_network_architectures", reason="dynamic-network-architectures is not installed")
    stages = len(layers(build(model, "dtc")))
    fields = [float(number) for number in range(1, stages + 1)]
    network = build(model, {"kind": "dtc", "receptive_field": fields})
    upsampled = []
    for layer in layers(network):
        layer.register_forward_pre_hook(lambda layer, args: upsampled.append((layer.receptive_field, args[0].shape[2])))
    size = [max(32, multiple) for multiple in network.size_multiple]
    network.eval()(torch.zeros(1, 1, *size))
    # In the order of the calls the resolution rises.
    assert [field for field, _ in upsampled] == fields
    assert [length for _, length in upsampled] == sorted(length for _, length in upsampled)
    rebuilt = create_model(model, **network.config)
    assert [layer.receptive_field for layer in layers(rebuilt)] == [layer.receptive_field for layer in layers(network)]
    with pytest.raises(
        InputError, match=rf"receptive_field has {stages + 1} values, but the network .* {stages} times"
    ):
        build(model, {"kind": "dtc", "receptive_field": [*fields, 1.0]})


def test_a_list_may_contain_infinity_and_any_option_of_a_sum():
    network = create_model(
        "unet",
        in_channels=1,
        out_channels=1,
        spatial_dims=2,
        widths=(4, 8, 16),
        upsampling={"kind": "dtc+linear", "receptive_field": ["inf", 2], "align_corners": [True, False]},
    )
    assert [stage.upsampling.added.receptive_field for stage in network.decoder] == [float("inf"), 2.0]


def test_a_single_layer_takes_one_value():
    with pytest.raises(InputError, match=r"receptive_field=\[2, 4\] has a value for each stage of a network: give one"):
        create_upsampling({"kind": "dtc", "receptive_field": [2, 4]}, 3, 3, 2, 2)
    with pytest.raises(InputError, match="receptive_field=-1: give a positive number"):
        create_upsampling({"kind": "dtc", "receptive_field": [2, -1]}, 3, 3, 2, 2)


@pytest.mark.parametrize(("dims", "scale"), [(2, (2, 2)), (3, (1, 2, 3))])
@pytest.mark.parametrize("components", [("weight", "sigmoid", "tanh"), ("tanh",), ()])
@pytest.mark.parametrize("based", [False, True])
def test_heads_are_layers_side_by_side(dims, scale, components, based):
    """Each group of channels is a DTC with its own part of the weights and its own learned receptive field."""
    torch.manual_seed(0)
    layer = DTC(3, 8, scale, dims, heads=2, learnable=True, components=components).double()
    torch.nn.init.normal_(layer.log_range)
    size = (3, 4, 2)[:dims]
    x = torch.randn(2, 3, *size, dtype=torch.double)
    base = torch.randn(2, 8, *(n * s for n, s in zip(size, scale, strict=True)), dtype=torch.double) if based else None
    found, features, predicted = layer(x, base), layer.project(x), layer.coordinates(x)
    for group in range(2):
        part = predicted.chunk(2, dim=1)[group]
        offsets, weights = part.chunk(2, dim=1) if "weight" in components else (part, None)
        offsets = offsets.tanh() if "tanh" in components else offsets
        # Offsets have the last axis first.
        offsets = offsets * (layer.receptive_fields[group] / 2).flip(0).view(-1, *[1] * dims)
        weights = None if weights is None else weights.sigmoid()
        own = features[:, 4 * group : 4 * group + 4]
        expected = deformable_upsample(own, offsets, weights, scale=scale, receptive_field=2.0)
        if base is not None:
            expected = expected + base[:, 4 * group : 4 * group + 4]
        torch.testing.assert_close(found[:, 4 * group : 4 * group + 4], expected)


@pytest.mark.parametrize("receptive_field", [2.0, "inf"])
def test_a_learnable_range_starts_as_the_given_one_and_is_learned(receptive_field):
    torch.manual_seed(0)
    fixed = DTC(3, 4, 2, 2, receptive_field=receptive_field)
    learned = DTC(3, 4, 2, 2, receptive_field=receptive_field, learnable=True)
    learned.load_state_dict(fixed.state_dict(), strict=False)
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(learned(x), fixed(x), rtol=0, atol=0)
    assert torch.equal(learned.receptive_fields, torch.full((1, 2), float(receptive_field)))
    learned(x).square().sum().backward()
    assert (learned.log_range.grad != 0).all()
    assert {*learned.state_dict()} - {*fixed.state_dict()} == {"log_range"}


def test_learned_ranges_are_not_decayed():
    from deconvseg.planning import Recipe
    from deconvseg.training.optimiser import create_optimiser

    network = build("unet", {"kind": "dtc", "learnable": True})
    groups = create_optimiser(network, Recipe()).param_groups
    kept = [parameter for group in groups if group["weight_decay"] == 0 for parameter in group["params"]]
    assert {id(layer.log_range) for layer in layers(network)} == {id(parameter) for parameter in kept}


def test_heads_must_divide_the_channels():
    with pytest.raises(InputError, match="6 output channels do not divide into heads=4: give a multiple of 4"):
        DTC(3, 6, heads=4)
