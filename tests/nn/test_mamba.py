import math
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

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
