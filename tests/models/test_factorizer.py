import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deconvseg.errors import InputError
from deconvseg.models import Factorizer, complexity, create_model
from deconvseg.nn import factorizer as layers
from deconvseg.ops import nmf
from deconvseg.ops.nmf import windows as parts
from models.tester import ModelTester


class TestFactorizer(ModelTester):
    name = "factorizer"
    arguments = {"widths": (4, 8), "head_dim": 4, "window": 2, "image_size": 8}  # noqa: RUF012


class TestFactorizerOfRankTwoWithDTC(ModelTester):
    name = "factorizer"
    arguments = {  # noqa: RUF012
        "widths": (4, 6),
        "head_dim": 2,
        "window": 2,
        "rank": 2,
        "iterations": 2,
        "image_size": None,
        "upsampling": "dtc+transposed",
    }
    slow_exports = (2, 3)


ISLES = {"in_channels": 2, "out_channels": 1}
BRATS = {"in_channels": 4, "out_channels": 3, "widths": (32, 64, 128, 256, 512), "window": 8, "image_size": 128}


@pytest.mark.parametrize(
    ("network", "size", "parameters", "kflops"), [(ISLES, 64, 7_547_393, 405.84), (BRATS, 128, 7_603_459, 116.15)]
)
def test_sizes_and_costs_are_those_of_the_authors_networks(network, size, parameters, kflops):
    with torch.device("meta"):
        model = create_model("factorizer", **network)
    found = complexity(model, (1, model.in_channels, *[size] * 3), training=False)
    assert found.parameters == parameters
    assert round(found.flops_per_voxel / 1e3, 2) == kflops


def test_convolutions_are_those_of_pytorchs_own_counter():
    model = Factorizer(1, 1, 2, (8, 16), image_size=16)
    found = complexity(model, (1, 1, 16, 16), training=False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval().to("meta")(torch.empty(1, 1, 16, 16, device="meta"))
    counted = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert counted == 2 * sum(found.operators[kind].macs for kind in ("convolution", "transposed_convolution"))


@pytest.mark.parametrize(
    ("arguments", "multiple"),
    [
        ({}, (8, 8)),
        ({"window": 8}, (16, 16)),
        ({"window": (2, 4)}, (4, 8)),
        ({"strides": (1, (2, 1)), "image_size": None}, (8, 4)),
        ({"widths": (8, 8, 8), "strides": (1, 2, 3), "image_size": 12}, (24, 24)),
    ],
)
def test_sizes_are_multiples_of_all_strides_times_the_window(arguments, multiple):
    model = Factorizer(**{"in_channels": 1, "out_channels": 1, "spatial_dims": 2, "widths": (8, 8), **arguments})
    assert model.size_multiple == multiple
    assert model(torch.rand(1, 1, *multiple)).shape == (1, 1, *multiple)


@pytest.mark.parametrize(
    ("window", "shifts", "expected"),
    [
        (4, None, ((0, 0), (1, 1), (2, 2), (3, 3))),
        (8, None, ((0, 0), (2, 2), (4, 4), (6, 6))),
        ((2, 8), None, ((0, 0), (0, 2), (1, 4), (1, 6))),
        (2, None, ((0, 0), (1, 1))),
        (4, (0, (1, 2)), ((0, 0), (1, 2))),
    ],
)
def test_windows_are_shifted_by_quarters_or_as_told(window, shifts, expected):
    model = Factorizer(1, 1, 2, (8, 8), window=window, shifts=shifts)
    assert model.encoder[0].blocks[0].mixer.shifts == expected


def test_an_image_of_the_embedding_s_size_gets_it_as_it_is_and_others_get_it_interpolated():
    embedding = Factorizer(1, 1, 2, (8, 8), image_size=(16, 32)).encoder[1].blocks[0]
    assert embedding.vectors.shape == (1, 8, 8, 16)
    assert torch.equal(embedding(torch.zeros(1, 8, 8, 16)), embedding.vectors)
    torch.nn.init.constant_(embedding.vectors, 3.0)
    torch.testing.assert_close(embedding(torch.zeros(2, 8, 4, 24)), torch.full((2, 8, 4, 24), 3.0))


def test_without_shifts_and_neighbours_each_window_is_mixed_alone():
    mixer = Factorizer(1, 1, 2, (8, 8), window=4, shifts=(0,)).encoder[0].blocks[0].mixer.eval()
    x = torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        projected = mixer.project(x)[0, :, :4, 4:].flatten(1)
        f, g = nmf(projected, mixer.start)
        expected = mixer.project_out((f @ g.mT).reshape(1, 8, 4, 4))
        torch.testing.assert_close(mixer(x)[:, :, :4, 4:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_stays_close_to_float32_and_factorises_in_it(dims, half, monkeypatch):
    torch.manual_seed(0)
    model = Factorizer(2, 2, dims, (8, 16), window=2, image_size=8)
    x = torch.randn(1, 2, *[8] * dims)
    full, types = model(x), []
    factorise = parts.factorise

    def watched(x, start, iterations):
        types.append(x.dtype)
        return factorise(x, start, iterations)

    monkeypatch.setattr(parts, "factorise", watched)
    with torch.autocast("cpu", dtype=half):
        lowered = model(x)
        lowered.float().square().mean().backward()
    assert set(types) == {torch.float32}
    assert (lowered.float() - full).norm() < 0.05 * full.norm()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("fill", [torch.zeros, torch.ones])
def test_constant_images_have_finite_gradients(fill):
    model = Factorizer(2, 2, 2, (8, 8, 8), window=2)
    model(fill(1, 2, 16, 16)).square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_the_image_part_by_part_gives_the_same_as_the_whole(dims, monkeypatch):
    torch.manual_seed(0)
    model = Factorizer(1, 2, dims, (8, 16), window=2, image_size=8).eval()
    x = torch.rand(2, 1, *[8, 12, 4][:dims])
    whole = model(x)
    monkeypatch.setattr(layers, "_POSITIONS", 10)
    with torch.no_grad():
        torch.testing.assert_close(model(x), whole, rtol=1e-4, atol=1e-5)
        calls = []
        model.encoder[0].blocks[0].mlp[1].register_forward_hook(lambda *_: calls.append(1))
        torch.testing.assert_close(model(x), whole, rtol=1e-4, atol=1e-5)
    assert calls == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head_dim": 3}, "head_dim=3 does not divide 8 channels: choose a divisor"),
        ({"widths": (8, 12, 8)}, "head_dim=8 does not divide 12 channels"),
        ({"head_dim": 0}, "head_dim=0: give a positive number"),
        ({"rank": 0}, "rank=0: give a positive number"),
        ({"iterations": 0}, "iterations=0: give a positive number"),
        ({"window": (4, 4)}, r"window=\(4, 4\): give a positive integer, or 3 of them, one per axis"),
        ({"shifts": (0, (1, 2))}, r"shifts=\(0, \(1, 2\)\): give at least one, each a number from 0 on, or 3"),
        ({"image_size": 62}, r"image_size=62: give multiples of \(4, 4, 4\), the product of strides, or None"),
        ({"image_size": (64, 64)}, r"image_size=\(64, 64\): give a positive integer, or 3"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio=inf: give a number"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio=nan: give a number"),
        ({"mlp_ratio": 0}, "mlp_ratio=0: give a number that makes at least one hidden channel"),
        ({"upsampling": "dtc+trans"}, r"upsampling 'dtc\+trans' is unknown: did you mean 'dtc\+transposed'"),
        ({"strides": (1, 2)}, r"strides=\(1, 2\): give one number, 3 \(one per axis\)"),
        ({"depths": (1, 1)}, r"depths=\(1, 1\): give 3 positive numbers, one per stage"),
        ({"deep_supervision_heads": 3}, "deep_supervision_heads=3: 3 stages allow 0 to 2"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        Factorizer(**{"in_channels": 1, "out_channels": 1, "widths": (8, 8, 8), **arguments})


def test_arguments_of_the_wrong_type_are_named():
    with pytest.raises(InputError, match="model 'factorizer': argument window='four': give int"):
        create_model("factorizer", in_channels=1, out_channels=1, window="four")
    with pytest.raises(InputError, match="argument 'windows' is unknown: did you mean 'window'"):
        create_model("factorizer", in_channels=1, out_channels=1, windows=4)


@pytest.mark.parametrize("how", ["trace", "export"])
def test_position_embeddings_recorded_at_their_own_size_take_others(how):
    layer, x, other = layers.PositionEmbedding(4, (4, 6)), torch.rand(2, 4, 4, 6), torch.rand(1, 4, 5, 9)
    if how == "trace":
        program = torch.jit.trace(layer, x)
    else:
        sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
        program = torch.export.export(layer, (x,), dynamic_shapes=(sizes,)).module()
    torch.testing.assert_close(program(other), layer(other))
    torch.testing.assert_close(program(x), layer(x), rtol=0, atol=0)
