"""The selective scan: its reference, the chunked form, and the public function."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops import explain, native, selective_scan, use_backend
from deconvseg.ops.registry import register_backend
from deconvseg.ops.selective_scan import choose_scan, chunked, library, mamba, reference
from deconvseg.ops.selective_scan.inputs import KEPT_EVERY
from scans import problems, random_inputs, spread, with_all_gradients
from tolerance import assert_near

needs_native = pytest.mark.skipif(native.unavailable() is not None, reason=f"native: {native.unavailable()}")


def public(inputs, softplus=True, **changes):
    """The public function's arguments, from a problem's."""
    named = inputs._replace(**changes)
    options = {"skip": named.skip, "gate": named.gate, "delta_bias": named.delta_bias, "softplus": softplus}
    return selective_scan(named.u, named.delta, named.a, named.b, named.c, **options)


def by_matrices(inputs, softplus) -> Tensor:
    """The scan as one lower triangular matrix for each channel: M[t, s] = ⟨c_t, exp(a (Δ_{s+1} + … + Δ_t)) b_s⟩ Δ_s."""
    delta = inputs.delta if inputs.delta_bias is None else inputs.delta + inputs.delta_bias[:, None]
    if softplus:
        delta = torch.log1p(torch.exp(delta))
    batch, channels, _ = inputs.u.shape
    out = torch.zeros_like(inputs.u)
    for sample in range(batch):
        for channel in range(channels):
            group = channel * inputs.b.shape[1] // channels
            b, c = inputs.b[sample, group], inputs.c[sample, group]  # (N, L)
            until = delta[sample, channel].cumsum(0)
            since = (until[:, None] - until[None, :]).tril()
            decay = torch.exp(inputs.a[channel, :, None, None] * since)
            matrix = (c[:, :, None] * decay * b[:, None, :]).sum(0).tril() * delta[sample, channel]
            out[sample, channel] = matrix @ inputs.u[sample, channel]
    if inputs.skip is not None:
        out = out + torch.einsum("bdl,d->bdl", inputs.u, inputs.skip)
    return out if inputs.gate is None else out * inputs.gate / (1 + torch.exp(-inputs.gate))


def doubled(inputs):
    return inputs.convert(lambda *tensors: tuple(tensor.double() for tensor in tensors))


@pytest.mark.parametrize("scan", [reference.scan, chunked.scan])
@given(problems(longest=150, numbers=1))
@settings(deadline=None, max_examples=20)
def test_scanning_is_a_product_with_a_triangular_matrix(scan, problem):
    inputs, softplus, _ = problem
    inputs = doubled(inputs)
    torch.testing.assert_close(scan(inputs, softplus), by_matrices(inputs, softplus), rtol=1e-9, atol=1e-9)


@given(problems(longest=270))
@settings(deadline=None, max_examples=15)
def test_chunks_give_the_reference_s_values_and_gradients(problem):
    inputs, softplus, grad = problem
    plain, exact = (with_all_gradients(reference.scan, inputs, softplus, g) for g in (grad, grad.double()))
    assert_near(with_all_gradients(chunked.scan, inputs, softplus, grad), plain, exact)
    found = with_all_gradients(chunked.scan, inputs, softplus, grad.double())
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours - theirs).abs().max() <= 1e-11 * (1 + theirs.abs().max())


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_of_chunks_are_the_numerical_ones(monkeypatch, bare, recompute):
    monkeypatch.setattr(chunked, "CHUNK", 3)
    inputs = doubled(random_inputs(1, 2, 7, 2, groups=2, bare=bare))

    def scan(*tensors: Tensor) -> Tensor:
        return chunked.scan(inputs.convert(lambda *_: tensors), not bare, recompute=recompute)

    tensors = [tensor.requires_grad_() for tensor in spread(inputs)]
    assert torch.autograd.gradcheck(scan, tensors)
    assert torch.autograd.gradgradcheck(scan, tensors)


def test_solving_gives_every_state_of_the_recurrence():
    for steps in (1, 2, 3, 7, 16, 33):
        decay, value = torch.rand(2, steps, 3), torch.randn(2, steps, 3)
        state, expected = torch.zeros(2, 3), []
        for t in range(steps):
            state = decay[:, t] * state + value[:, t]
            expected.append(state)
        torch.testing.assert_close(chunked.solve(decay, value), torch.stack(expected, 1))


def test_decays_that_vanish_within_a_chunk_give_finite_results():
    inputs = random_inputs(1, 2, 300, 4)._replace(delta=torch.full((1, 2, 300), 50.0))
    found = with_all_gradients(chunked.scan, inputs, True, torch.ones(1, 2, 300))
    assert all(tensor.isfinite().all() for tensor in found)


def bytes_kept(steps: int, recompute: bool = True) -> tuple[int, int]:
    """Bytes that the graph of a scan keeps, and those of its inputs."""
    inputs = random_inputs(1, 4, steps, 16)
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    tensors = [tensor.requires_grad_() for tensor in spread(inputs)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = chunked.scan(inputs, True, recompute=recompute)
    out.sum().backward()
    return sum(kept.values()), sum(tensor.nbytes for tensor in tensors)


def test_chunks_keep_no_states_of_single_steps():
    (kept, given_bytes), states = bytes_kept(4096), 4 * 4 * 4096 * 16
    assert kept < 1.5 * given_bytes
    assert kept + states / 4 < bytes_kept(4096, recompute=False)[0]


@pytest.mark.parametrize("backend", ["reference", pytest.param("native", marks=needs_native), None])
@given(st.integers(2, 300), st.data())
@settings(deadline=None, max_examples=15)
def test_nothing_depends_on_later_steps_and_the_scan_is_linear_in_its_sequence(backend, steps, data):
    inputs = random_inputs(1, 5, steps, 3, seed=data.draw(st.integers(0, 1000)))
    now = data.draw(st.integers(1, steps - 1))

    def scan(**changes):
        if backend is None:
            return chunked.scan(inputs._replace(**changes), True)
        with use_backend(backend):
            return public(inputs, **changes)

    plain = scan()
    later = torch.arange(steps) >= now
    changed = {
        name: torch.where(later, torch.randn_like(tensor), tensor)
        for name, tensor in inputs.given().items()
        if tensor.ndim > 2
    }
    torch.testing.assert_close(scan(**changed)[..., :now], plain[..., :now], rtol=1e-5, atol=1e-5)
    other = torch.randn_like(inputs.u)
    combined = scan(u=2 * inputs.u - 3 * other)
    torch.testing.assert_close(combined, 2 * plain - 3 * scan(u=other), rtol=1e-4, atol=1e-4 * plain.abs().max().item())


def test_without_decay_and_with_unit_coefficients_the_scan_is_a_cumulative_sum():
    u = torch.randn(2, 3, 50)
    ones = torch.ones(2, 1, 50)
    found = selective_scan(u, torch.ones_like(u), torch.zeros(3, 1), ones, ones)
    torch.testing.assert_close(found, u.cumsum(-1))


def test_groups_share_their_coefficients():
    inputs = random_inputs(2, 6, 20, 4, groups=3)
    halves = [
        public(
            inputs._replace(
                **{name: getattr(inputs, name)[:, 2 * g : 2 * g + 2] for name in ("u", "delta", "gate")},
                **{name: getattr(inputs, name)[:, g] for name in ("b", "c")},  # as (B, N, L)
                **{name: getattr(inputs, name)[2 * g : 2 * g + 2] for name in ("a", "skip", "delta_bias")},
            )
        )
        for g in range(3)
    ]
    torch.testing.assert_close(public(inputs), torch.cat(halves, 1))


@needs_native
def test_the_backends_are_chosen_and_forced():
    inputs = random_inputs(1, 2, 5, 3)
    arguments = inputs.u, inputs.delta, inputs.a, inputs.b, inputs.c
    assert choose_scan(*arguments).backend == "native"
    assert "selective_scan  native" in str(explain(selective_scan, *arguments, skip=inputs.skip))
    choice = choose_scan(*(tensor.double() for tensor in arguments))
    assert (choice.backend, choice.declined["native"]) == ("reference", "torch.float64 needs plain PyTorch")
    many = random_inputs(1, 2, 5, 65)
    assert (
        "65 states, and the native kernels hold up to"
        in choose_scan(*spread(many)[:2], many.a, many.b, many.c).declined["native"]
    )
    with use_backend("reference"):
        assert choose_scan(*arguments).declined["native"] == "reference is forced"
    with use_backend("native"), pytest.raises(InputError, match="'native' cannot run: torch.float64 needs plain"):
        choose_scan(*(tensor.double() for tensor in arguments))
    with use_backend("triton"), pytest.raises(InputError, match="it has no kernel for this operator"):
        choose_scan(*arguments)


def test_forcing_the_reference_runs_step_by_step_and_else_plain_pytorch_runs_by_chunks(monkeypatch):
    inputs, ran = doubled(random_inputs(1, 2, 5, 3)), []
    for module in (reference, chunked):
        monkeypatch.setattr(module, "scan", lambda *_, module=module, **__: ran.append(module) or inputs.u)
    public(inputs)
    with use_backend("reference"):
        public(inputs)
    assert ran == [chunked, reference]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_types_compute_in_float32(half):
    inputs = random_inputs(2, 3, 30, 4).convert(lambda *tensors: tuple(tensor.to(half) for tensor in tensors))
    expected = public(inputs.convert(lambda *tensors: tuple(tensor.float() for tensor in tensors)))
    found = public(inputs)
    assert found.dtype == half
    torch.testing.assert_close(found, expected.to(half), rtol=0, atol=0)
    mixed = public(inputs, a=inputs.a.float())
    torch.testing.assert_close(mixed, found, rtol=0, atol=0)


def test_no_samples_give_no_results():
    for backend in ("reference", None):
        inputs = random_inputs(0, 3, 5, 2)
        scan = chunked.scan if backend is None else reference.scan
        assert scan(inputs, True).shape == (0, 3, 5)
    assert public(inputs).shape == (0, 3, 5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"u": torch.rand(3, 5)}, r"u of shape \(3, 5\): give \(B, D, L\)"),
        ({"u": torch.rand(2, 3, 0)}, r"u of shape \(2, 3, 0\): give .* at least one channel and one step"),
        (
            {"delta": torch.rand(2, 3, 1)},
            r"delta of shape \(2, 3, 1\) does not fit u of shape \(2, 3, 5\): give \(2, 3, 5\)",
        ),
        ({"gate": torch.rand(2, 5, 3)}, r"gate of shape \(2, 5, 3\) does not fit u"),
        ({"skip": torch.rand(5)}, r"skip of shape \(5,\) does not fit u of shape \(2, 3, 5\): give \(3,\)"),
        ({"delta_bias": torch.rand(3, 1)}, r"delta_bias of shape \(3, 1\) does not fit u"),
        ({"a": torch.rand(4, 3)}, r"a of shape \(4, 3\): give \(3, N\)"),
        ({"a": torch.rand(3, 0)}, r"a of shape \(3, 0\): give \(3, N\), at least one state"),
        ({"b": torch.rand(2, 3, 4)}, r"b of shape \(2, 3, 4\): give \(2, 4, 5\), or \(2, G, 4, 5\) for G groups"),
        ({"c": torch.rand(1, 1, 4, 5)}, r"c of shape \(1, 1, 4, 5\): give \(2, 4, 5\)"),
        ({"b": torch.rand(2, 2, 4, 5)}, "b has 2 groups: choose a divisor of the 3 channels of u"),
        ({"b": torch.rand(2, 3, 4, 5)}, "b has 3 groups and c has 1: give both the same"),
        ({"a": torch.rand(3, 4, dtype=torch.complex64)}, "a is torch.complex64: give real floating-point numbers"),
        ({"u": torch.ones(2, 3, 5, dtype=torch.int64)}, "u is torch.int64: give real floating-point numbers"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_give(changes, text):
    inputs = random_inputs(2, 3, 5, 4)
    with pytest.raises(InputError, match=text) as caught:
        public(inputs, **changes)
    assert "\n" not in str(caught.value)


def test_mamba_s_kernels_get_what_they_name(monkeypatch):
    """With a stand-in, because the package needs a GPU."""
    inputs = random_inputs(1, 4, 6, 3, groups=2)

    def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):  # noqa: N803
        delta = F.softplus(delta + delta_bias[:, None]) if delta_softplus else delta
        state, outputs = torch.zeros(*u.shape[:2], A.shape[1]), []
        for t in range(u.shape[-1]):
            b, c = (tensor[..., t].repeat_interleave(2, dim=1) for tensor in (B, C))
            state = torch.exp(delta[..., t, None] * A) * state + (delta[..., t] * u[..., t])[..., None] * b
            outputs.append((state * c).sum(-1))
        return (torch.stack(outputs, -1) + D[:, None] * u) * F.silu(z)

    stand_in = ModuleType("selective_scan_interface")
    stand_in.selective_scan_fn = selective_scan_fn
    monkeypatch.setitem(sys.modules, "mamba_ssm", ModuleType("mamba_ssm"))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", ModuleType("mamba_ssm.ops"))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", stand_in)
    torch.testing.assert_close(mamba.scan(inputs, True), reference.scan(inputs, True))
    assert mamba.decline(*inputs) == "it needs tensors on cuda, not cpu"
    monkeypatch.setattr(mamba, "decline", lambda *_: None)
    called = []
    monkeypatch.setattr(mamba, "scan", lambda *arguments: called.append(arguments) or inputs.u)
    monkeypatch.setattr(library.SCAN, "implementations", library.SCAN.implementations)
    register_backend("selective_scan", "mamba_ssm", device="cpu", kernels=mamba, priority=1)
    public(inputs)
    assert len(called) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("no", name="mamba_ssm"), "mamba-ssm is not installed"),
        (ModuleNotFoundError("no triton", name="triton"), "mamba-ssm cannot be imported: no triton"),
        (ImportError("undefined symbol"), "mamba-ssm cannot be imported: undefined symbol"),
    ],
)
def test_a_package_that_is_missing_or_broken_is_declined_with_its_reason(monkeypatch, error, reason):
    def refuse(name):
        raise error

    monkeypatch.setattr(mamba, "import_module", refuse)
    mamba._unavailable.cache_clear()
    assert mamba._unavailable() == reason
    mamba._unavailable.cache_clear()


def test_exports_of_long_sequences_hold_few_operators():
    inputs = random_inputs(1, 1, 8192, 1)

    class Scanning(torch.nn.Module):
        def forward(self, u):
            return public(inputs, u=u)

    program = torch.export.export(Scanning(), (inputs.u,))
    assert len(program.graph.nodes) < 300
    torch.testing.assert_close(program.module()(inputs.u), public(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recorded", [1, 5, 300])
def test_a_traced_scan_is_right_for_every_other_length(recorded):
    class Scanning(torch.nn.Module):
        def forward(self, *tensors):
            *varying, a, skip, bias = tensors
            u, delta, b, c, gate = varying
            return selective_scan(u, delta, a, b, c, skip=skip, gate=gate, delta_bias=bias, softplus=True)

    program = torch.jit.trace(Scanning(), spread(random_inputs(2, 4, recorded, 3)), check_trace=False)
    for steps in (1, 2, 127, 128, 129, 1000):
        inputs = random_inputs(3, 4, steps, 3, seed=steps)
        torch.testing.assert_close(program(*spread(inputs)), public(inputs), rtol=1e-4, atol=1e-4)


def test_chunks_of_kept_states_are_those_of_the_kernels():
    source = (Path(chunked.__file__).parent / "scan.h").read_text()
    assert int(re.search(r"kChunk\s*=\s*(\d+)", source)[1]) == KEPT_EVERY


@needs_native
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_type_of_new_tensors_makes_no_difference(default):
    inputs = random_inputs(1, 4, 600, 3)
    expected = library.scan(inputs, True)
    torch.set_default_dtype(default)
    try:
        found = library.scan(inputs, True)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@needs_native
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("case", ["all", "bare", "strided", "empty"])
def test_opcheck_passes(case, keep):
    inputs = random_inputs(0 if case == "empty" else 2, 4, 6, 3, groups=2, bare=case == "bare")
    if case == "strided":
        inputs = inputs._replace(u=inputs.u.mT.contiguous().mT, b=inputs.b[:1].expand(2, -1, -1, -1))
    tensors = [tensor if tensor is None else tensor.detach().requires_grad_() for tensor in inputs]
    operators = torch.ops.deconvseg
    torch.library.opcheck(operators.selective_scan.default, (*tensors, True, keep))
    out, states = operators.selective_scan(*inputs, True, keep)
    torch.library.opcheck(operators.selective_scan_backward.default, (torch.rand_like(out), states, *inputs, True))


@needs_native
def test_an_operator_called_directly_refuses_what_its_kernels_cannot_take():
    with pytest.raises(InputError, match=r"deconvseg::selective_scan: .*float64.*call deconvseg.ops.selective_scan"):
        torch.ops.deconvseg.selective_scan(*doubled(random_inputs(1, 2, 3, 2)), True, False)
