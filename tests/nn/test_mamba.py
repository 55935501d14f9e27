import math
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import prune

from deconvseg.errors import InputError
from deconvseg.nn import Mamba, SiameseMamba
from deconvseg.nn.mamba import SCAN_DIRECTIONS
from deconvseg.ops import explain

ORDERS = [("forward",), ("backward",), ("slices",), SCAN_DIRECTIONS]


def make(channels=6, directions=("forward",), slices=1, dtype=torch.float64, **sizes):
    torch.manual_seed(0)
    return Mamba(channels, directions, slices, **sizes).to(dtype)


def sequence(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def scan_by_steps(scan, x):
    """One direction of a Mamba block by its equations, step by step: (B, D, L)."""
    batch, channels, steps = x.shape
    kernel, rank, states = scan.conv.kernel_size[0], scan.dt_proj.in_features, scan.A_log.shape[1]
    outputs, h = [], x.new_zeros(batch, channels, states)
    for t in range(steps):
        u = scan.conv.bias.expand(batch, -1)
        for lag in range(kernel):
            if t >= lag:
                u = u + scan.conv.weight[:, 0, kernel - 1 - lag] * x[..., t - lag]
        u = F.silu(u)
        dt, b, c = scan.x_proj(u).split([rank, states, states], dim=-1)
        dt = F.softplus(scan.dt_proj(dt))
        h = torch.exp(dt[..., None] * -scan.A_log.exp()) * h + (dt * u)[..., None] * b[:, None]
        outputs.append((h * c[:, None]).sum(-1) + scan.D * u)
    return torch.stack(outputs, -1)


def places(direction, steps, slices):
    """The positions in the order of a scan."""
    if direction == "slices":
        length = steps // slices
        return [part * length + step for step in range(length) for part in range(slices)]
    return list(range(steps)) if direction == "forward" else list(range(steps))[::-1]


def mamba_by_steps(mamba, x):
    projected, gate = mamba.in_proj(x.mT).mT.chunk(2, dim=1)
    total = torch.zeros_like(projected)
    for direction, scan in zip(mamba.directions, mamba.scans, strict=True):
        order = places(direction, x.shape[-1], mamba.slices)
        # The published block gates every scan by itself.
        total[..., order] += scan_by_steps(scan, projected[..., order]) * F.silu(gate[..., order])
    return mamba.out_proj(total.mT).mT


@settings(deadline=None, max_examples=15)
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 20),
    length=st.integers(1, 5),
    slices=st.integers(1, 3),
    states=st.integers(1, 5),
    kernel_size=st.integers(1, 4),
    directions=st.sampled_from(ORDERS),
)
def test_a_block_is_what_its_equations_say(batch, channels, length, slices, states, kernel_size, directions):
    mamba = make(channels, directions, slices, states=states, kernel_size=kernel_size)
    x = sequence(batch, channels, length * slices)
    torch.testing.assert_close(mamba(x), mamba_by_steps(mamba, x))


def test_long_sequences_equal_the_equations_too():
    mamba = make(4, SCAN_DIRECTIONS, slices=25, states=3)
    x = sequence(1, 4, 700)
    torch.testing.assert_close(mamba(x), mamba_by_steps(mamba, x))


@pytest.mark.parametrize("directions", ORDERS)
def test_gradients_are_those_of_the_equations(directions):
    mamba = make(3, directions, slices=3, states=2)
    x = sequence(2, 3, 9)
    inputs = [x.requires_grad_(), *mamba.parameters()]
    weights = sequence(2, 3, 9, seed=2)
    ours = torch.autograd.grad((mamba(x) * weights).sum(), inputs)
    theirs = torch.autograd.grad((mamba_by_steps(mamba, x) * weights).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
        assert (one != 0).any()


@pytest.mark.parametrize("direction", SCAN_DIRECTIONS)
def test_a_scan_sees_only_what_came_before_in_its_order(direction):
    mamba, steps = make(4, (direction,), slices=4), 12
    x = sequence(1, 4, steps)
    order = places(direction, steps, 4)
    for place in (0, 5, 11):
        changed = x.clone()
        changed[..., order[place]] += 1
        moved = (mamba(changed) != mamba(x)).any(dim=1)[0, order]
        assert not moved[:place].any()
        assert moved[place:].all()


def test_scanning_backward_is_scanning_the_reversed_sequence():
    forward, backward = make(5), make(5, ("backward",))
    x = sequence(2, 5, 11)
    torch.testing.assert_close(backward(x), forward(x.flip(-1)).flip(-1))


def test_one_slice_and_slices_of_one_step_are_the_plain_order():
    x = sequence(2, 5, 12)
    for slices in (1, 12):
        torch.testing.assert_close(make(5, ("slices",), slices)(x), make(5)(x))


def test_the_siamese_block_is_the_mean_over_four_flips_of_one_mamba():
    torch.manual_seed(0)
    siamese = SiameseMamba(6).double()
    x = sequence(2, 6, 10)
    flips = [siamese.mamba(x), siamese.mamba(x.flip(2)).flip(2), siamese.mamba(x.flip(1)).flip(1)]
    flips.append(siamese.mamba(x.flip(1).flip(2)).flip(2).flip(1))
    torch.testing.assert_close(siamese(x), torch.stack(flips).mean(0))
    for axes in ((1,), (2,), (1, 2)):
        torch.testing.assert_close(siamese(x.flip(axes)), siamese(x).flip(axes))


def test_parameters_start_as_published():
    mamba = make(64, dtype=torch.float32, states=8)
    scan = mamba.scans[0]
    torch.testing.assert_close(-scan.A_log.exp(), -torch.arange(1.0, 9).expand(128, 8))
    assert (scan.D == 1).all()
    steps = F.softplus(scan.dt_proj.bias)
    assert steps.min() >= 1e-3 - 1e-7
    assert steps.max() <= 1e-1 + 1e-6
    assert steps.log().mean().item() == pytest.approx((math.log(1e-3) + math.log(1e-1)) / 2, abs=0.4)
    assert scan.dt_proj.weight.abs().max() <= 4**-0.5
    assert mamba.in_proj.bias is None
    assert mamba.out_proj.bias is None


def test_a_block_has_the_parameters_of_the_published_one():
    inner, rank, states = 128, 4, 16
    one = inner * (4 + 1) + inner * (rank + 2 * states) + rank * inner + inner + inner * states + inner
    for directions in (("forward",), SCAN_DIRECTIONS):
        expected = 64 * 2 * inner + inner * 64 + len(directions) * one
        assert sum(parameter.numel() for parameter in Mamba(64, directions).parameters()) == expected


def test_memory_order_makes_no_difference():
    mamba = make(6, SCAN_DIRECTIONS, slices=4, dtype=torch.float32)
    x = sequence(2, 6, 16).float()
    torch.testing.assert_close(mamba(x.mT.contiguous().mT), mamba(x), rtol=1e-5, atol=1e-6)


def test_autocast_scans_in_full_precision(monkeypatch):
    mamba = make(6, SCAN_DIRECTIONS, slices=4, dtype=torch.float32)
    x = sequence(2, 6, 16).float()
    types = set()

    def spy(inputs, *arguments):
        types.update(tensor.dtype for tensor in inputs.given().values())
        return scan(inputs, *arguments)

    package = import_module("deconvseg.ops.selective_scan")
    scan = package._scan
    monkeypatch.setattr(package, "_scan", spy)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = mamba(x)
    assert types == {torch.float32}
    torch.testing.assert_close(mixed.float(), mamba(x), rtol=0.05, atol=0.02)


def test_drawing_anew_from_the_outside_in_keeps_the_published_time_steps():
    mamba = make(64, SCAN_DIRECTIONS)
    for module in mamba.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for scan in mamba.scans:
        steps = F.softplus(scan.dt_proj.bias)
        assert ((steps > 0.9e-3) & (steps < 0.11)).all()


def test_what_scans_is_explained():
    choices = explain(make(6, SCAN_DIRECTIONS, dtype=torch.float32)).choices
    assert [(name, choice.operator) for name, choice in choices] == [
        (f"scans.{index}", "selective_scan") for index in range(3)
    ]


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="directions: 'foward' is unknown: did you mean 'forward'"):
        Mamba(4, ("foward",))
    for sizes, message in (
        ({"channels": 0}, "channels=0: give a positive number"),
        ({"channels": 4, "states": 0}, "states=0: give a positive number"),
        ({"channels": 4, "directions": ()}, "number of directions=0"),
    ):
        with pytest.raises(InputError, match=message):
            Mamba(**sizes)
    with pytest.raises(InputError, match="10 steps do not divide into slices=4: choose a divisor, or pad"):
        make(4, ("slices",), slices=4)(sequence(1, 4, 10))


class LoRA(nn.Module):
    """A linear layer, which it holds, plus a product of two smaller matrices."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base_layer = base
        self.a = nn.Parameter(torch.randn(rank, base.in_features, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(base.out_features, rank, dtype=torch.float64))

    @property
    def weight(self):
        return self.base_layer.weight

    @property
    def bias(self):
        return self.base_layer.bias

    def forward(self, x):
        return self.base_layer(x) + x @ self.a.T @ self.b.T


PROJECTIONS = ("in_proj", "scans.0.x_proj", "scans.0.dt_proj", "out_proj")


@pytest.mark.parametrize("path", PROJECTIONS)
def test_a_wrapped_projection_is_what_the_block_computes_with(path):
    mamba, merged, x = make(), make(), sequence(2, 6, 9)
    lora = LoRA(mamba.get_submodule(path))
    mamba.set_submodule(path, lora)
    with torch.no_grad():
        merged.get_submodule(path).weight += lora.b @ lora.a
    torch.testing.assert_close(mamba(x), merged(x))
    mamba(x).square().sum().backward()
    assert lora.a.grad.any()
    assert lora.b.grad.any()


@pytest.mark.parametrize("path", [*PROJECTIONS, "scans.0.conv"])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_on_projections_are_called(path, register):
    mamba, called = make(), []
    getattr(mamba.get_submodule(path), register)(lambda *_: called.append(path))
    mamba(sequence(1, 6, 5))
    assert called == [path]


@pytest.mark.parametrize("path", [*PROJECTIONS, "scans.0.conv"])
def test_any_module_of_the_same_shapes_may_take_a_projection_s_place(path):
    mamba = make()
    mamba.set_submodule(path, nn.Sequential(mamba.get_submodule(path), nn.Identity()))
    torch.testing.assert_close(mamba(sequence(1, 6, 5)), make()(sequence(1, 6, 5)))


def test_a_bias_of_a_projection_is_added():
    mamba, x = make(), sequence(2, 6, 9)
    for path in ("in_proj", "scans.0.x_proj"):
        layer = mamba.get_submodule(path)
        layer.bias = nn.Parameter(torch.randn(layer.out_features, dtype=torch.float64))
    plain = mamba(x)
    for path in PROJECTIONS:
        mamba.get_submodule(path).register_forward_hook(lambda *_: None)
    torch.testing.assert_close(plain, mamba(x))


def test_pruned_and_normalised_projections_follow_the_optimiser():
    mamba, x = make(), sequence(2, 6, 9)
    prune.l1_unstructured(mamba.in_proj, "weight", amount=0.5)
    nn.utils.parametrizations.weight_norm(mamba.scans[0].x_proj)
    nn.utils.parametrizations.spectral_norm(mamba.scans[0].dt_proj)
    optimiser = torch.optim.SGD(mamba.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        mamba(x).square().mean().backward()
        optimiser.step()
    mamba.eval()(x)
    torch.testing.assert_close(mamba.in_proj.weight, mamba.in_proj.weight_orig * mamba.in_proj.weight_mask)


def test_a_forward_replaced_on_the_linear_class_is_called(monkeypatch):
    mamba, called, forward = make(), [], nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: called.append(type(self)) or forward(self, x))
    mamba(sequence(1, 6, 5))
    assert len(called) == 4


def test_other_parameters_may_be_given_for_a_call():
    mamba, other, x = make(), make(), sequence(2, 6, 9)
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.3)
    torch.testing.assert_close(torch.func.functional_call(mamba, dict(other.named_parameters()), (x,)), other(x))


@pytest.mark.parametrize("recorded", [5, 300])
@pytest.mark.parametrize("kind", ["plain", "slices", "siamese", "pointwise"])
def test_a_traced_block_is_right_for_other_lengths_and_batches(kind, recorded):
    block = {
        "plain": lambda: make(),
        "slices": lambda: make(directions=SCAN_DIRECTIONS, slices=5),
        "siamese": lambda: SiameseMamba(6).double(),
        "pointwise": lambda: make(kernel_size=1),
    }[kind]().eval()
    program = torch.jit.trace(block, sequence(1, 6, recorded), check_trace=False)
    for batch, steps in ((1, 5), (2, 130), (3, 700)):
        x = sequence(batch, 6, steps)
        torch.testing.assert_close(program(x), block(x))


def test_a_program_of_make_fx_is_right_or_an_error():
    block = make().eval()
    program = make_fx(lambda x: block(x))(sequence(2, 6, 300))
    torch.testing.assert_close(program(sequence(2, 6, 300, seed=5)), block(sequence(2, 6, 300, seed=5)))
    for steps in (1, 299, 301, 900):
        with pytest.raises(RuntimeError):
            program(sequence(2, 6, steps))
