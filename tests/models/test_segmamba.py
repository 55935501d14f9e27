import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.models import SegMamba, create_model
from deconvseg.models.segmamba import weigh_by_certainty
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS

SMALL = {"widths": (4, 6), "depths": (1, 1), "hidden": 8, "slices": (4, 2), "states": 2}


class TestSegMamba(ModelTester):
    name = "segmamba"
    traced = False
    slow_exports = (3,)
    arguments = SMALL
    prepared = {"widths": (16, 32), "hidden": 16}  # noqa: RUF012


def build(**arguments):
    with torch.device("meta"):
        return create_model("segmamba", in_channels=1, out_channels=14, **arguments)


def parameters(**arguments):
    return sum(parameter.numel() for parameter in build(**arguments).parameters())


def test_sizes():
    assert parameters() == 67_362_542
    assert parameters(spatial_dims=2) == 26_493_038
    assert parameters(uncertainty=False) == 67_362_542
    read, written = (768, 384, 192, 96), (384, 192, 96, 48)
    added = sum(i * o + o + i * 6 * 8 + 6 for i, o in zip(read, written, strict=True))
    assert parameters(upsampling="dtc+transposed") == 67_362_542 + added


def test_slices_divide_every_stage_of_sizes_that_are_taken():
    assert build().size_multiple == (32, 32, 32)
    assert build(spatial_dims=2).size_multiple == (64, 64)
    # 12 x 12 pixels have 6 x 6 and 3 x 3 positions, and 9 do not divide into 4 slices; 24 x 24 are the first that do.
    model = SegMamba(1, 1, 2, widths=(4, 4), depths=(1, 1), hidden=4, slices=(3, 4), states=2)
    assert model.size_multiple == (24, 24)
    assert model(torch.randn(1, 1, 24, 24)).shape[2:] == (24, 24)


def test_sizes_with_undivided_slices_name_the_one_to_pad_to():
    # Positions: 8 * 8 * 8, 4 * 4 * 4, 2 * 2 * 2 and 1, which 8 slices do not divide.
    with pytest.raises(InputError, match=r"\(16, 16, 48\), which must be a multiple of .*: pad to \(32, 32, 64\)"):
        build()(torch.empty(1, 1, 16, 16, 48, device="meta"))


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_upsampling_works(upsampling):
    torch.manual_seed(0)
    arguments = {**SMALL, "widths": (4, 8), "upsampling": upsampling}
    model = SegMamba(1, 2, 2, **arguments)
    size = model.size_multiple[0]
    logits = model(torch.randn(2, 1, 2 * size, size))
    assert logits.shape == (2, 2, 2 * size, size)
    logits.square().mean().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_switches_of_dtc_reach_the_layers():
    switches = {"receptive_field": 4.0, "init": "bilinear", "components": ("weight", "tanh")}
    for stage in build(upsampling={"kind": "dtc+transposed", **switches}).decoder:
        layer = stage.upsampling
        assert layer.added.project.out_channels == layer.base.out_channels
        assert layer.added.receptive_field == 4
        assert (layer.added.init, layer.added.components) == ("bilinear", ("weight", "tanh"))


def test_uncertain_features_are_strengthened_less():
    x = torch.tensor([-50.0, -1.0, 0.0, 50.0]).reshape(1, 1, 2, 2).repeat(1, 3, 1, 1)
    p = torch.sigmoid(x.double())
    torch.testing.assert_close(weigh_by_certainty(x).double(), x * (2 + p * p.log()).double(), rtol=1e-6, atol=1e-6)
    assert weigh_by_certainty(torch.full((1, 2, 1, 1), -1e6)).isfinite().all()
    assert weigh_by_certainty(torch.full((1, 2, 1, 1), 1e6)).isfinite().all()


def test_what_uncertainty_does_reaches_the_logits():
    torch.manual_seed(0)
    model = SegMamba(1, 2, 2, **SMALL).eval()
    x = torch.randn(1, 1, *model.size_multiple)
    before = model(x)
    model.uncertainty = False
    assert (model(x) != before).any()


def test_every_layer_scans_in_three_orders_over_its_slices():
    scans = [layer.mamba for stage in build().encoder for layer in stage.mambas]
    assert [scan.slices for scan in scans] == [64, 64, 32, 32, 16, 16, 8, 8]
    assert {scan.directions for scan in scans} == {("forward", "backward", "slices")}


def test_heads_look_at_every_second_size():
    model = SegMamba(1, 2, 3, **SMALL, deep_supervision_heads=2)
    model.deep_supervision = True
    size = model.size_multiple[0]
    outputs = model(torch.randn(1, 1, *model.size_multiple))
    assert [output.shape[2] for output in outputs] == [size, size // 2, size // 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slices": (4,)}, "slices=.4,.: give 2 positive numbers, one per stage"),
        ({"depths": (1, 0)}, "depths=.1, 0.: give 2 positive numbers, one per stage"),
        ({"hidden": 0}, "give one positive number per stage"),
        ({"deep_supervision_heads": 3}, "3 stages allow 0 to 2"),
        ({"states": 0}, "states=0: give a positive number"),
        ({"upsampling": "transpose"}, "'transpose' is unknown: did you mean 'transposed'"),
        ({"uncertainty": "false"}, "uncertainty='false': give bool"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("segmamba", **{"in_channels": 1, "out_channels": 1, "spatial_dims": 2, **SMALL, **arguments})
