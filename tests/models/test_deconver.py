import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.catalog import PUBLISHED_TABLES
from deconvseg.errors import InputError
from deconvseg.models import Deconver, create_model
from models.tester import ModelTester
from nn.kinds import UPSAMPLINGS


class TestDeconver(ModelTester):
    name = "deconver"
    arguments = {"widths": (4, 8, 8)}  # noqa: RUF012


class TestDeconverWithDTC(ModelTester):
    name = "deconver"
    arguments = {"widths": (4, 6), "upsampling": {"kind": "dtc+linear", "receptive_field": float("inf")}}  # noqa: RUF012


ROWS = [row for table in PUBLISHED_TABLES for row in table.rows if row.model == "deconver"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.system)
def test_parameters_are_exactly_those_of_the_paper(row):
    with torch.device("meta"):
        model = create_model("deconver", row.preset, **row.network)
    assert sum(parameter.numel() for parameter in model.parameters()) == row.parameters


@pytest.mark.parametrize(("dims", "kernel_size"), [(2, 5), (3, 3)])
def test_the_default_kernel_is_5_in_2d_and_3_in_3d(dims, kernel_size):
    model = Deconver(1, 1, dims, widths=(4, 8))
    assert model.encoder[1].blocks[0].mixer.ndc.filters.shape[2:] == (kernel_size,) * dims
    assert model.config["kernel_size"] == kernel_size


def test_a_debugger_that_looks_at_the_local_variables_changes_nothing():
    """In Python 3.12 a look at a frame writes into the very dictionary that ``locals()`` gave."""

    def look(frame, event, argument):
        # Only the constructor: following every call would take seconds.
        if frame.f_code is not Deconver.__init__.__code__:
            return None
        assert frame.f_locals is not None
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        config = Deconver(1, 2, 2, widths=(4, 8)).config
    finally:
        sys.settrace(before)
    assert config == Deconver(1, 2, 2, widths=(4, 8)).config
    assert Deconver(**config).config == config


def strides_of(model):
    return [(1,) * model.spatial_dims] + [stage.downsampling.stride for stage in model.encoder[1:]]


@pytest.mark.parametrize(
    ("strides", "expected", "multiple"),
    [
        (None, [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)], (8, 8, 8)),
        (2, [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)], (8, 8, 8)),
        ((1, 2, 2), [(1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2)], (1, 8, 8)),
        ((1, 2, 2, 3), [(1, 1, 1), (2, 2, 2), (2, 2, 2), (3, 3, 3)], (12, 12, 12)),
        ((1, (1, 2, 2), 2, 2), [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)], (4, 8, 8)),
    ],
)
def test_strides_are_one_number_or_per_axis_or_per_stage(strides, expected, multiple):
    model = Deconver(1, 1, 3, widths=(2, 2, 2, 2), strides=strides)
    assert strides_of(model) == expected
    assert model.size_multiple == multiple
    assert [stage.downsampling.kernel_size for stage in model.encoder[1:]] == expected[1:]
    assert [stage.upsampling.stride for stage in model.decoder] == expected[:0:-1]


def test_as_many_strides_as_stages_are_one_per_stage():
    assert strides_of(Deconver(1, 1, 3, widths=(2, 2, 2), strides=(1, 2, 4))) == [(1,) * 3, (2,) * 3, (4,) * 3]


@pytest.mark.parametrize(
    ("kernel_size", "expected"),
    [
        (5, [(5, 5, 5)] * 4),
        ((1, 3, 5), [(1, 3, 5)] * 4),
        ((5, 3, 3, 1), [(5, 5, 5), (3, 3, 3), (3, 3, 3), (1, 1, 1)]),
        (((1, 3, 3), 3, 3, 3), [(1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)]),
    ],
)
def test_kernels_are_one_number_or_per_axis_or_per_stage(kernel_size, expected):
    model = Deconver(1, 1, 3, widths=(2, 2, 2, 2), kernel_size=kernel_size)
    filters = [stage.blocks[0].mixer.ndc.filters for stage in model.encoder]
    assert [tuple(f.shape[2:]) for f in filters] == expected
    filters = [stage.blocks[0].mixer.ndc.filters for stage in model.decoder]
    assert [tuple(f.shape[2:]) for f in filters] == expected[-2::-1]


def test_depths_are_blocks_per_stage():
    model = Deconver(1, 1, 2, widths=(2, 2, 2), depths=(1, 2, 3), decoder_depths=(2, 1))
    assert [len(stage.blocks) for stage in model.encoder] == [1, 2, 3]
    assert [len(stage.blocks) for stage in model.decoder] == [2, 1]
    assert [len(stage.blocks) for stage in Deconver(1, 1, 2, widths=(2, 2, 2), depths=(1, 2, 3)).decoder] == [1, 1]


@given(
    st.sampled_from((2, 3)),
    st.lists(st.sampled_from((4, 8)), min_size=1, max_size=3),
    st.sampled_from(UPSAMPLINGS),
    st.data(),
)
@settings(deadline=None, max_examples=25)
def test_any_anisotropic_network_keeps_the_size(dims, widths, upsampling, data):
    steps = st.lists(st.integers(1, 3), min_size=dims, max_size=dims)
    strides = [(1,) * dims, *(data.draw(steps) for _ in widths[1:])]
    model = Deconver(1, 2, dims, widths, strides=strides, kernel_size=3, upsampling=upsampling)
    size = [multiple * data.draw(st.integers(1, 2)) for multiple in model.size_multiple]
    assert model(torch.randn(1, 1, *size)).shape == (1, 2, *size)


def test_supervision_may_reach_the_bottleneck():
    model = Deconver(1, 2, 2, widths=(4, 4, 4), deep_supervision_heads=2)
    model.deep_supervision = True
    assert [output.shape[2:] for output in model(torch.randn(1, 1, 16, 8))] == [(16, 8), (8, 4), (4, 2)]


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dims", [2, 3])
def test_autocast_stays_close_to_float32(half, dims):
    torch.manual_seed(0)
    model = Deconver(2, 2, dims, widths=(8, 16))
    x = torch.randn(1, 2, *[8] * dims)
    full = model(x)
    with torch.autocast("cpu", dtype=half):
        lowered = model(x)
        loss = lowered.float().square().mean()
    loss.backward()
    assert (lowered.float() - full).norm() < 0.05 * full.norm()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("fill", [torch.zeros, torch.ones])
def test_constant_images_have_finite_gradients(fill):
    model = Deconver(2, 2, 2, widths=(4, 8, 8))
    model(fill(1, 2, 16, 16)).square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims=1: choose from 2, 3"),
        ({"widths": ()}, r"widths=\(\): give one positive number per stage"),
        ({"in_channels": 0}, "in_channels=0: give a positive number"),
        ({"strides": (1, 2)}, r"strides=\(1, 2\): give one number, 3 \(one per axis\), or 4 \(one per stage"),
        ({"strides": (2, 2, 2, 2)}, "begin with 1"),
        ({"strides": (1, 2, 2, 0)}, "strides=0: give a positive integer"),
        ({"kernel_size": (3, 3)}, r"kernel_size=\(3, 3\): give one number, 3 \(one per axis\), or 4"),
        ({"kernel_size": 4}, "needs odd sizes"),
        ({"depths": (1, 1)}, r"depths=\(1, 1\): give 4 positive numbers, one per stage"),
        ({"decoder_depths": (1, 0, 1)}, r"decoder_depths=\(1, 0, 1\): give 3 positive numbers"),
        ({"groups": 3}, "groups=3 does not divide 4 channels"),
        ({"deep_supervision_heads": 4}, "deep_supervision_heads=4: 4 stages allow 0 to 3"),
        ({"upsampling": "dtc+trans"}, r"upsampling 'dtc\+trans' is unknown: did you mean 'dtc\+transposed'"),
        ({"norm": "layer"}, "norm 'layer' is unknown: choose from instance, batch"),
        ({"mlp_ratio": 0}, "mlp_ratio=0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        Deconver(**{"in_channels": 1, "out_channels": 1, "spatial_dims": 3, "widths": (4, 4, 4, 4), **arguments})
