"""The native selective scan against the reference, by the rule of the project's tolerances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deconvseg.ops import native as kernels
from deconvseg.ops.selective_scan import native, reference
from deconvseg.ops.selective_scan.inputs import Inputs
from scans import problems, random_inputs, spread, with_all_gradients
from tolerance import assert_near

pytestmark = [
    pytest.mark.skipif(kernels.unavailable() is not None, reason=f"no native kernels: {kernels.unavailable()}"),
    pytest.mark.usefixtures("each_library"),
]


def natively(inputs: Inputs, softplus: bool, grad: Tensor) -> list[Tensor]:
    """The result and the gradients."""
    out, states = native.scan(inputs, softplus, keep=True)
    assert torch.equal(out, native.scan(inputs, softplus, keep=False)[0])
    return [out, *spread(native.scan_backward(grad, states, inputs, softplus))]


def check_against_the_reference(inputs: Inputs, softplus: bool, grad: Tensor) -> None:
    plain, exact = (with_all_gradients(reference.scan, inputs, softplus, g) for g in (grad, grad.double()))
    assert_near(natively(inputs, softplus, grad), plain, exact)


@given(problems(longest=530))
@settings(deadline=None, max_examples=25)
def test_results_and_gradients_agree_with_the_reference(problem):
    check_against_the_reference(*problem)


@pytest.mark.parametrize(
    ("batch", "channels", "steps", "states", "groups"),
    [(1, 40, 1100, 16, 1), (2, 30, 2100, 5, 1), (1, 34, 600, 16, 2), (3, 16, 257, 32, 1)],
)
def test_chunks_rounds_and_blocks_join_without_seams(batch, channels, steps, states, groups):
    inputs = random_inputs(batch, channels, steps, states, groups)
    check_against_the_reference(inputs, True, torch.randn(inputs.u.shape))


@pytest.mark.parametrize("bare", [False, True])
def test_the_number_of_threads_changes_nothing(monkeypatch, bare):
    inputs, results = random_inputs(2, 50, 1500, 16, bare=bare), []
    grad = torch.randn(inputs.u.shape)
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(native, "threads_for", lambda _, threads=threads: threads)
        results.append(natively(inputs, True, grad))
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert torch.equal(one, other)


@given(problems(longest=300, numbers=1), st.data())
@settings(deadline=None, max_examples=30)
def test_no_layout_changes_a_result(problem, data):
    inputs, softplus, grad = problem
    layouts = {
        "contiguous": lambda tensor: tensor.contiguous(),
        "every other": lambda tensor: torch.stack([tensor, tensor], -1)[..., 1],
        "padded rows": lambda tensor: torch.nn.functional.pad(tensor, (3, 2), value=math.nan)[..., 3:-2],
        "transposed": lambda tensor: tensor.transpose(0, -1).contiguous().transpose(0, -1),
    }
    drawn = [layouts[data.draw(st.sampled_from(sorted(layouts)))] for _ in range(9)]
    laid_out = inputs.convert(lambda *tensors: tuple(lay(t) for lay, t in zip(drawn, tensors, strict=False)))
    for ours, theirs in zip(natively(laid_out, softplus, drawn[8](grad)), natively(*problem), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(0, 3, 5, 2), (2, 3, 0, 2), (1, 0, 4, 2)])
def test_nothing_gives_nothing(shape):
    inputs = random_inputs(*shape)
    out, *gradients = natively(inputs, True, torch.rand(inputs.u.shape))
    assert out.shape == inputs.u.shape
    assert [gradient.shape for gradient in gradients] == [tensor.shape for tensor in spread(inputs)]
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(("batch", "channels", "steps", "states"), [(1, 1, 1, 1), (2, 9, 261, 17), (1, 3, 15, 16)])
def test_nothing_is_written_beside_the_results(monkeypatch, batch, channels, steps, states, bare):
    inputs = random_inputs(batch, channels, steps, states, bare=bare)
    grad, memory, margin = torch.rand(inputs.u.shape), [], 256

    def guarded(shape, **kwargs):
        memory.append(torch.full((math.prod(shape) + 2 * margin,), 7.0))
        return memory[-1][margin:-margin].view(tuple(shape))

    expected = with_all_gradients(reference.scan, inputs, True, grad)
    monkeypatch.setattr(torch, "empty", guarded)
    gradients = native.scan_backward(grad, native.scan(inputs, True, keep=True)[1], inputs, True)
    assert len(memory) == 2 + len(spread(gradients))
    for found, theirs in zip(spread(gradients), expected[1:], strict=True):
        torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-5)
    for band in (part for around in memory for part in (around[:margin], around[-margin:])):
        assert (band == 7).all()


def ulps(found: Tensor, exact: Tensor) -> float:
    """The largest error, in units of the last place of the exact results."""
    spacing = torch.nextafter(exact.float(), torch.tensor(math.inf)) - exact.float()
    return ((found.double() - exact) / spacing.double()).abs().max().item()


def exponentials(x: Tensor) -> Tensor:
    """exp(x), as the kernels compute it: the state decays by exp(Δ a) from a first one of 1, with Δ = x and a = 1."""
    count = x.numel()
    delta = torch.stack([torch.ones(count), x], -1)[None]
    u, ones = torch.tensor([1.0, 0.0]).expand(1, count, 2), torch.ones(1, 1, 1, 2)
    inputs = Inputs(u, delta, ones, ones, None, torch.ones(count, 1), None, None)
    return native.scan(inputs, softplus=False, keep=False)[0][0, :, 1]


@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=10)
def test_the_exponential_is_right_to_two_ulp(seed):
    generator = torch.Generator().manual_seed(seed)
    everywhere = torch.rand(4000, generator=generator) * 175.3 - 87.3
    near_zero = torch.randn(4000, generator=generator) * torch.logspace(-30, 0, 4000)
    for x in (everywhere, near_zero, torch.linspace(-1, 1, 4001)):
        assert ulps(exponentials(x), x.double().exp()) <= 2


def test_the_exponential_ends_in_zero_and_infinity_and_keeps_nan():
    x = torch.tensor([-1e30, -1000, -88, -0.0, 0.0, 88.5, 1e30, math.nan])
    expected = torch.tensor([0, 0, 0, 1, 1, math.inf, math.inf, math.nan])
    torch.testing.assert_close(exponentials(x), expected, rtol=0, atol=1e-37, equal_nan=True)


def one_step(count: int) -> Inputs:
    """Inputs of a single step whose result is Δ, or, with a skip and a gate, the gate's value alone."""
    ones = torch.ones(1, count, 1)
    return Inputs(ones, ones, ones[:, None, :1], ones[:, None, :1], None, torch.zeros(count, 1), None, None)


SIZES = torch.cat([torch.logspace(-30, 2, 2000), torch.linspace(0.01, 30, 2000)])


@pytest.mark.parametrize("sign", [1, -1])
def test_softplus_is_right_also_where_it_is_tiny(sign):
    x = (sign * SIZES)[SIZES < 85]
    inputs = one_step(x.numel())._replace(delta=x[None, :, None])
    out, states = native.scan(inputs, softplus=True, keep=True)
    assert ulps(out.flatten(), torch.log1p(torch.exp(-x.double().abs())) + x.double().relu()) <= 4
    of_delta = native.scan_backward(torch.ones(out.shape), states, inputs, True).delta.flatten()
    assert ulps(of_delta, x.double().sigmoid()) <= 4


@pytest.mark.parametrize("sign", [1, -1])
def test_the_gate_is_the_sigmoid_linear_unit(sign):
    x = (sign * SIZES)[SIZES < 85]
    inputs = one_step(x.numel())._replace(gate=x[None, :, None])
    out, states = native.scan(inputs, softplus=False, keep=True)
    exact = x.double().requires_grad_()
    silu = torch.nn.functional.silu(exact)
    (slope,) = torch.autograd.grad(silu.sum(), exact)
    assert ulps(out.flatten(), silu.detach()) <= 4
    of_gate = native.scan_backward(torch.ones(out.shape), states, inputs, False).gate.flatten()
    assert (of_gate - slope).abs().max() <= 4e-7


def test_gates_and_time_steps_of_any_size_give_finite_results():
    inputs = random_inputs(1, 2, 40, 3)
    for value in (-1e30, -1e4, 1e4):
        large = inputs._replace(gate=torch.full((1, 2, 40), value), delta=torch.full((1, 2, 40), value))
        assert all(tensor.isfinite().all() for tensor in natively(large, True, torch.ones(1, 2, 40)))


def test_a_nan_reaches_what_depends_on_it_and_nothing_else():
    inputs = random_inputs(1, 3, 20, 4)
    inputs.u[0, 1, 7] = math.nan
    out, _ = native.scan(inputs, True, keep=False)
    expected = torch.zeros(1, 3, 20, dtype=torch.bool)
    expected[0, 1, 7:] = True
    assert torch.equal(out.isnan(), expected)


def test_tensors_that_it_cannot_take_are_declined_with_a_reason():
    inputs = random_inputs(1, 2, 3, 4)
    assert native.decline(*inputs) is None
    assert "u is torch.float64" in str(native.decline(*inputs._replace(u=inputs.u.double())))
    assert "gate is on meta" in str(native.decline(*inputs._replace(gate=inputs.gate.to("meta"))))
    assert "a is torch.sparse_coo" in str(native.decline(*inputs._replace(a=inputs.a.to_sparse())))
    assert "1000 states" in str(native.decline(*inputs._replace(a=torch.rand(2, 1000))))
