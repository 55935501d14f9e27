"""What a network has and takes, counted without running it."""

import math

import pytest
import torch
import torch.nn.functional as F
from monai.networks import nets
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deconvseg.catalog import FURTHER_TABLES, PUBLISHED_TABLES
from deconvseg.errors import InputError
from deconvseg.models import complexity, create_model, list_models
from deconvseg.models.complexity import RULES, measure_seconds
from deconvseg.models.complexity.memory import StorageTracker, exclude_gradient, sum_backward
from deconvseg.ops import use_backend

ROWS = [(table, row) for table in PUBLISHED_TABLES for row in table.rows if row.model in list_models()]
PRODUCTS = ("convolution", "transposed_convolution", "matrix_product", "attention")
OTHERS = {
    "DynUNet": (nets.DynUNet(3, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8]), (1, 1, 16, 16, 16)),
    "SegResNet": (nets.SegResNet(init_filters=8, in_channels=2, upsample_mode="deconv"), (1, 2, 16, 16, 16)),
    "UNETR": (nets.UNETR(1, 2, (32, 32, 32), 4, hidden_size=24, mlp_dim=24, num_heads=2), (1, 1, 32, 32, 32)),
    "SwinUNETR": (nets.SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=2), (2, 1, 64, 64)),
    "BasicUNet": (nets.BasicUNet(2, 1, 2, features=(4, 4, 8, 8, 8, 4)), (1, 1, 32, 32)),
    "AttentionUnet": (nets.AttentionUnet(2, 1, 2, (4, 8, 8), (2, 2)), (2, 1, 32, 32)),
}


@torch.library.custom_op("complexity_tests::foreign", mutates_args=())
def foreign(x: torch.Tensor) -> torch.Tensor:
    """Stand for the operators of other packages."""
    return x @ x


@foreign.register_fake
def _(x):
    return torch.empty_like(x)


class Calls(nn.Module):
    """A network that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("name", OTHERS)
def test_convolutions_and_products_are_those_of_pytorchs_own_counter(name):
    model, shape = OTHERS[name]
    counted = complexity(model, shape)
    ours = sum(tally.macs for kind, tally in counted.operators.items() if kind in PRODUCTS)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval().to("meta")(torch.empty(shape, device="meta"))
    assert 2 * ours == counter.get_total_flops()
    assert counted.uncounted == ()
    assert counted.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert counted.training_bytes > counted.inference_bytes > 0


@pytest.fixture(scope="module")
def measured():
    """The complexity of a published row, each network once."""
    known = {}

    def measure(table, row):
        key = row.model, row.preset, repr(row.network), table.size
        if key not in known:
            model = create_model(row.model, row.preset, **row.network)
            known[key] = complexity(model, (1, model.in_channels, *table.size), training=False)
        return known[key]

    return measure


@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda value: getattr(value, "system", ""))
def test_published_rows_have_their_true_cost_and_the_paper_s_by_its_rule(table, row, measured):
    found = measured(table, row)
    assert found.parameters == row.parameters
    assert round(found.flops_per_voxel / 1e3, 2) == pytest.approx(row.kflops, abs=0.011)
    assert found.flops == 2 * found.macs
    assert found.macs_per_voxel == found.macs / math.prod(table.size)
    if "repeated_products" in row.reasons:
        return  # what the profiler printed depends on what it had profiled before
    counted = RULES[table.rule].count(found) * (2 if "registered_twice" in row.reasons else 1)
    by_rule = counted / 1e9 if table.cost_unit == "G" else counted / found.voxels / 1e3
    # Only the cost of DTC's own row is not that of the network that its parameters tell of.
    assert by_rule == pytest.approx(row.published_cost, rel=3e-3 if "offset_layer" in row.reasons else 1e-3)


@pytest.mark.parametrize(
    "row", [row for table in FURTHER_TABLES for row in table.rows if row.preset is None], ids=lambda row: row.system
)
def test_networks_of_no_preset_have_the_parameters_of_the_catalogue(row):
    if row.model == "nnunet_resenc":
        pytest.importorskip("dynamic_network_architectures")
    with torch.device("meta"):
        model = create_model(row.model, **row.network)
    assert sum(parameter.numel() for parameter in model.parameters()) == row.parameters


def test_monais_networks_cost_by_deepspeeds_rule_what_deconvers_table_1_prints():
    """Normalisations of groups, and products of matrices, have no other row to be held by."""
    sizes, shape = {"in_channels": 2, "out_channels": 1}, (1, 2, 64, 64, 64)
    for model, times, printed, decimals in (
        (nets.SegResNet(3, 64, blocks_up=(1, 1, 1), upsample_mode="deconv", **sizes), 1, 2228.6, 0.05),
        (nets.UNETR(img_size=(64, 64, 64), feature_size=32, **sizes), 1, 525.9, 0.06),
        # Twice, because it holds each block twice.
        (nets.DynUNet(3, 2, 1, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[64, 128, 256, 512]), 2, 3423.5, 1),
    ):
        found = complexity(model, shape, training=False)
        assert times * RULES["deepspeed"].count(found) / found.voxels / 1e3 == pytest.approx(printed, abs=decimals)
        true = {"DynUNet": 1708.4, "UNETR": 523.6, "SegResNet": 2223.0}[type(model).__name__]
        assert found.flops_per_voxel / 1e3 == pytest.approx(true, abs=0.05)


def test_deepspeeds_rule_counts_each_element_that_is_pooled():
    pooled = complexity(nn.MaxPool2d(2), (1, 3, 8, 8))
    assert RULES["deepspeed"].count(pooled) == 3 * 8 * 8


def test_a_block_adds_to_the_stock_profiler_what_the_tables_need():
    """Of Deconver's residuals: 4 R + 11 operations for each element and channel (see the explanation of complexity)."""
    stock = {"convolution": (2, 0, 1), "relu": (0, 1, 0), "gelu": (0, 1, 0), "instance_norm": (0, 4, 0)}
    for ratio in (1, 2, 4):
        model = create_model("deconver", in_channels=4, out_channels=4, widths=[4], ratio=ratio, spatial_dims=2)
        found = complexity(model, (1, 4, 16, 16), training=False)
        by_stock = sum(
            macs * tally.macs + elements * tally.elements + biased * tally.biased
            for name, (macs, elements, biased) in stock.items()
            for tally in [found.operators[name]]
        )
        filters = model.encoder[0].blocks[0].mixer.ndc.filters.numel()
        assert RULES["deepspeed"].count(found) - by_stock == (4 * ratio + 11) * 4 * 256 + filters


def test_the_deconvolution_counts_by_its_formula_whatever_computes_it():
    model = create_model("deconver", in_channels=1, out_channels=1, widths=[4, 8], spatial_dims=2)
    found = complexity(model, (1, 1, 16, 16))
    with use_backend("reference"):
        by_reference = complexity(model, (1, 1, 16, 16))
    assert by_reference.operators == found.operators
    # The reference keeps numerator and denominator too, a kernel does not.
    assert by_reference.training_bytes > found.training_bytes
    assert found.operators["ndc_update"].calls == 3


def test_the_model_stays_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.inference_mode():
        complexity(model, (2, 1, 8, 8))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter._backward_hooks is None for parameter in model.parameters())


def test_work_grows_with_the_batch_and_frozen_networks_have_no_training():
    model = nn.Conv2d(3, 4, 3, padding=1)
    one, three = complexity(model, (1, 3, 8, 8)), complexity(model, (3, 3, 8, 8))
    assert (three.macs, three.elementwise) == (3 * one.macs, 3 * one.elementwise) == (3 * 64 * 108, 3 * 64 * 4)
    assert three.flops_per_voxel == one.flops_per_voxel
    assert complexity(model.requires_grad_(False), (1, 3, 8, 8)).training_bytes is None


SAMPLED = torch.empty(1, 5, 7, 2, device="meta")


@pytest.mark.parametrize(
    ("function", "macs", "elementwise"),
    [
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 4 * 3 * 16 * 16, 0),
        (lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), 0, 0),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), 16 * 3 * 16 * 16, 0),
        (lambda x: F.interpolate(x[None], scale_factor=2, mode="trilinear"), 8 * 6 * 16 * 16, 0),
        (lambda x: F.grid_sample(x, SAMPLED, align_corners=False), 4 * 3 * 35, 0),
        (lambda x: F.grid_sample(x, SAMPLED, mode="nearest", align_corners=False), 0, 0),
        (lambda x: F.max_pool2d(x, 2), 0, 3 * 64),
        (lambda x: F.avg_pool2d(x, 2), 0, 3 * 64),
        (lambda x: torch.relu(x) + x * 2, 0, 3 * 3 * 64),
        (lambda x: x.clone().transpose(2, 3).contiguous(), 0, 0),
        (lambda x: F.instance_norm(x), 0, 4 * 3 * 64),
        (lambda x: F.group_norm(x, 1, torch.ones(3, device="meta")), 0, 6 * 3 * 64),
        (lambda x: F.softmax(x, 1), 0, 5 * 3 * 64),
        (lambda x: torch.logsumexp(x, 1), 0, 4 * 3 * 64),
        (lambda x: x.mean(), 0, 3 * 64),
        (lambda x: F.linear(x, torch.ones(5, 8, device="meta")), 3 * 8 * 8 * 5, 0),
        (lambda x: x @ x[0, 0, 0], 3 * 8 * 8, 0),
        (lambda x: torch.addmv(x[0, 0, 0], x[0, 0], x[0, 0, 0]), 8 * 8, 8),
        (lambda x: torch.dot(x.flatten(), x.flatten()), 3 * 64, 0),
        (lambda x: torch.addr(x[0, 0], x[0, 0, 0], x[0, 0, 0]), 64, 64),
        (lambda x: torch.addbmm(x[0, 0], x[0], x[0]), 3 * 8 * 8 * 8, 64),
        (lambda x: F.bilinear(x, x, torch.empty(5, 8, 8, device="meta")), 3 * 8 * 5 * 64, 3 * 8 * 5 * 64),
        (lambda x: torch.cdist(x, x[:, :, :2]), 3 * 8 * 2 * 8, 3 * 8 * 2 * 9),
        (lambda x: F.gelu(x.clone()).abs_() + F.hardswish(x), 0, 4 * 3 * 64),
        (lambda x: F.pad(x.roll(1), (1, 1)).flip(0)[torch.tensor([0])].unsqueeze_(0), 0, 0),
        (lambda x: F.scaled_dot_product_attention(x, x, x), 2 * 3 * 8 * 8 * 8, None),
    ],
)
def test_each_operation_has_its_cost(function, macs, elementwise):
    found = complexity(Calls(function), (1, 3, 8, 8), training=False)
    assert found.macs == macs
    assert elementwise is None or found.elementwise == elementwise
    assert found.uncounted == ()


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: torch.fft.irfft(torch.fft.rfft(x)), ("fft_c2r", "fft_r2c")),
        (lambda x: x.sort().values + x.topk(1).values, ("sort", "topk")),
        (lambda x: torch.ops.complexity_tests.foreign(x), ("complexity_tests::foreign",)),
    ],
)
def test_work_without_a_formula_is_named(function, names):
    assert complexity(Calls(function), (1, 3, 8, 8), training=False).uncounted == names


def test_memory_is_what_a_hand_counts():
    image, wide, out = (channels * 8 * 8 * 4 for channels in (1, 4, 2))
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    found = complexity(model, (1, 1, 8, 8))
    # Forward: the convolution's and the ReLU's output live together; that of the image is not counted.
    assert found.inference_bytes == 2 * wide > image
    # Backward: logits and their gradient, the ReLU's output, which is kept, its gradient, and that of its input.
    assert found.training_bytes == 2 * out + 3 * wide
    in_place = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))
    assert complexity(in_place, (1, 1, 8, 8)).inference_bytes == wide + out


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(4, 2, 2, 2), nn.Sigmoid()),
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 1, 1)
        ),
    ],
    ids=["pooling", "normalisation"],
)
def test_memory_is_that_of_a_run_with_values(model):
    found = complexity(model, (2, 1, 18, 18))
    x = torch.rand(2, 1, 18, 18)
    known = [x, *model.parameters()]
    with torch.no_grad(), StorageTracker(known) as inference:
        model(x)
    tracker = StorageTracker(known)
    for parameter in model.parameters():
        exclude_gradient(tracker, parameter)
    with tracker:
        sum_backward([model(x)])
    assert (found.inference_bytes, found.training_bytes) == (inference.peak, tracker.peak)


def test_a_size_that_does_not_fit_is_refused_in_the_networks_own_words():
    model = create_model("deconver", in_channels=1, out_channels=1, widths=[4, 8], spatial_dims=2)
    with pytest.raises(InputError, match=r"must be a multiple of \(2, 2\): pad to \(8, 8\)"):
        complexity(model, (1, 1, 7, 8))


def test_time_is_measured_in_evaluation_mode():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    mean = model[1].running_mean.clone()
    assert 0 < measure_seconds(model, (1, 1, 8, 8), runs=2) < 5
    assert torch.equal(model[1].running_mean, mean)
