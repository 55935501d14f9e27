"""The operators of ``torch.library``: what PyTorch's compilers, autograd and data parallelism make of the kernels."""

import importlib
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

from deconvseg.errors import InputError
from deconvseg.ops import deformable_upsample, native, ndc_error, ndc_solve, ndc_update, selective_scan, use_backend
from deconvseg.ops.deformable_upsample import library as upsampling
from deconvseg.ops.ndc import library as deconvolution
from deconvseg.ops.selective_scan import library as scanning

pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason=f"native: {native.unavailable()}")

OPERATORS = torch.ops.deconvseg
INFINITE = float("inf")


def random(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 + torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def update(x, source, filters):
    return ndc_update(x, source, filters, groups=4)


def upsample(features, offsets, weights):
    return deformable_upsample(features, offsets, weights, scale=2, receptive_field=4.0)


def upsample_unweighted(features, offsets):
    return deformable_upsample(features, offsets, None, scale=(2, 1, 3), receptive_field=INFINITE)


def scan(u, delta, a, b, c, skip, gate, bias):
    return selective_scan(u, delta, -a, b, c, skip=skip, gate=gate, delta_bias=bias, softplus=True)


def bare_scan(u, delta, a, b, c):
    return selective_scan(u, delta, -a, b, c)


def scan_tensors() -> tuple[Tensor, ...]:
    shapes = (2, 4, 7), (2, 4, 7), (4, 3), (2, 2, 3, 7), (2, 2, 3, 7), (4,), (2, 4, 7), (4,)
    return tuple(random(*shape, seed=seed) for seed, shape in enumerate(shapes))


CASES = {
    update: lambda: (random(2, 4, 6, 5), random(2, 8, 6, 5, seed=1), random(4, 2, 3, 3, seed=2)),
    upsample: lambda: (random(2, 3, 4, 5), random(2, 2, 8, 10, seed=1), random(2, 2, 8, 10, seed=2)),
    upsample_unweighted: lambda: (random(1, 2, 3, 4, 2), random(1, 3, 6, 4, 6, seed=1)),
    scan: scan_tensors,
    bare_scan: lambda: scan_tensors()[:5],
}


@pytest.fixture(params=CASES, ids=lambda function: function.__name__)
def case(request):
    """A function and the tensors that it takes."""
    return request.param, CASES[request.param]()


@pytest.fixture
def calls(monkeypatch):
    """Names of the native functions that were called."""
    called = []

    def spy(name, function):
        def counted(*args):
            called.append(name)
            return function(*args)

        return counted

    for library, names in (
        (deconvolution.UPDATE, ("update", "update_backward")),
        (upsampling.UPSAMPLE, ("forward", "backward")),
        (scanning.SCAN, ("scan", "scan_backward")),
    ):
        module = library.kernels("native", torch.empty(0))
        for name in names:
            monkeypatch.setattr(module, name, spy(name, getattr(module, name)))
    return called


def leaves(tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def gradients(function, tensors, **options):
    tensors = leaves(tensors)
    out = function(*tensors)
    return torch.autograd.grad(out, tensors, random(*out.shape, seed=9), **options)


def by_reference(function):
    def plain(*tensors):
        with use_backend("reference"):
            return function(*tensors)

    return plain


def assert_close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def operator_cases():
    """Arguments of every operator, among them channels-last, transposed, expanded and empty tensors."""
    x, source, filters = random(2, 4, 6, 5), random(2, 8, 6, 5), random(4, 2, 3, 3)
    yield OPERATORS.ndc_update, (x, source, filters, 4, 1e-8)
    last = torch.channels_last
    yield OPERATORS.ndc_update, (x.to(memory_format=last), source.to(memory_format=last), filters, 4, 0.0)
    yield OPERATORS.ndc_update, (x, source.mT.contiguous().mT, filters[:1].expand(4, 2, 3, 3), 4, 1e-8)
    yield OPERATORS.ndc_update, (x[:0], source[:0], filters, 4, 1e-8)
    yield OPERATORS.ndc_update, (random(1, 1, 7), random(1, 3, 7), random(1, 3, 5), 1, 1e-8)
    features, moves = random(2, 3, 4, 5), random(2, 2, 8, 15)
    yield OPERATORS.deformable_upsample, (features, moves, moves.clone(), [2, 3], 2.0, None)
    yield OPERATORS.deformable_upsample, (features.to(memory_format=last), moves, None, [2, 3], INFINITE, None)
    yield (
        OPERATORS.deformable_upsample,
        (random(1, 2, 3, 4, 2), random(1, 3, 3, 4, 4), None, [1, 1, 2], 1.0, random(1, 2, 3, 4, 4)),
    )


@pytest.mark.parametrize("operator, arguments", list(operator_cases()))
def test_opcheck_passes(operator, arguments):
    arguments = [a.requires_grad_() if isinstance(a, Tensor) and a.is_leaf else a for a in arguments]
    torch.library.opcheck(operator.default, arguments)
    out = operator(*arguments).detach()
    if operator is OPERATORS.deformable_upsample:
        arguments = arguments[:-1]  # the gradient of the base needs no kernel
    backward = getattr(OPERATORS, f"{operator._qualified_op_name.split('::')[1]}_backward").default
    detached = [a.detach() if isinstance(a, Tensor) else a for a in arguments]
    torch.library.opcheck(backward, (torch.rand_like(out), *detached))
    # Without the tracing of second derivatives for dynamic shapes, which PyTorch's convolutions do not allow.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(backward, (torch.rand_like(out).requires_grad_(), *arguments), test_utils=checks)


def test_values_and_gradients_are_the_reference_s_and_come_from_the_kernels(case, calls):
    function, tensors = case
    assert_close([function(*tensors)], [by_reference(function)(*tensors)])
    found = gradients(function, tensors)
    assert len(calls) == 3
    assert_close(found, gradients(by_reference(function), tensors))


def test_only_the_gradients_that_are_needed_are_given(case):
    function, tensors = case
    for index in range(len(tensors)):
        given = [t.requires_grad_() if i == index else t.detach() for i, t in enumerate(leaves(tensors))]
        out = function(*given)
        out.sum().backward()
        assert [tensor.grad is not None for tensor in given] == [i == index for i in range(len(tensors))]
    with torch.no_grad():
        assert not function(*leaves(tensors)).requires_grad
    with torch.inference_mode():
        assert_close([function(*tensors)], [out.detach()])


def second(function, tensors, order=2):
    """Gradients of order ``order``: each of the sum of squares of the ones before."""
    tensors = leaves(tensors)
    value = function(*tensors).square().sum()
    for step in range(order):
        found = torch.autograd.grad(value, tensors, create_graph=step < order - 1, materialize_grads=True)
        value = sum(gradient.square().sum() for gradient in found) / 100
    return found


@pytest.mark.parametrize("order", [2, 3])
def test_higher_derivatives_are_the_reference_s(case, order):
    function, tensors = case
    expected = second(by_reference(function), [tensor.double() for tensor in tensors], order)
    for ours, theirs in zip(second(function, tensors, order), expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max()


def test_second_derivatives_of_tensors_made_from_each_other_count_every_path_once():
    x, filters = random(1, 2, 5), random(2, 1, 3)

    def chained(x, filters):
        return ndc_update(x, 2 * x + 1, filters * x.mean(), groups=2)

    tensors = [x.double(), filters.double()]
    expected = second(by_reference(chained), tensors)
    for ours, theirs in zip(second(chained, (x, filters)), expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_gradients_of_some_inputs_only_have_second_derivatives():
    x, source, filters = CASES[update]()

    def penalty(dtype):
        leaf = source.to(dtype).requires_grad_()
        out = update(x.to(dtype), leaf, filters.to(dtype))
        (gradient,) = torch.autograd.grad(out.square().sum(), leaf, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), leaf)[0]

    torch.testing.assert_close(penalty(torch.float32).double(), penalty(torch.float64), rtol=1e-3, atol=1e-4)


def test_compiled_code_holds_the_operator_in_one_graph(case, calls):
    function, tensors = case
    torch._dynamo.reset()
    graphs = []

    def backend(module, _):
        graphs.append(str(module.graph))
        return module

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    assert_close([compiled(*tensors)], [by_reference(function)(*tensors)])
    assert len(graphs) == len(calls) == 1
    assert "deconvseg" in graphs[0]
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert_close(gradients(compiled, tensors), gradients(by_reference(function), tensors))
    assert len(calls) == 3


def test_compiled_code_takes_what_the_kernels_do_not():
    torch._dynamo.reset()
    compiled = torch.compile(lambda *t: ndc_update(*t, groups=2), fullgraph=True, backend="aot_eager")
    for channels in (4, 6, 8):  # two image channels in a group and more: PyTorch's convolutions are faster
        tensors = random(1, channels, 5, 4), random(1, channels, 5, 4), random(channels, channels // 2, 3, 3)
        for dtype in (torch.float32, torch.float64):
            given = [tensor.to(dtype) for tensor in tensors]
            torch.testing.assert_close(compiled(*given), ndc_update(*given, groups=2))


def test_compiled_code_is_not_compiled_anew_for_every_size():
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(update, fullgraph=True, backend=counter, dynamic=True)
    for batch, height in ((7, 11), (5, 9), (6, 13)):  # not the sizes of the filters, which are assumed
        compiled(random(batch, 4, height, 5), random(batch, 8, height, 5), random(4, 2, 3, 3))
    assert counter.frame_count == 1


def test_transforms_of_torch_func_take_the_reference(case, calls):
    function, tensors = case
    batched = torch.func.vmap(function)(*(torch.stack([tensor, tensor]) for tensor in tensors))
    found = torch.func.grad(lambda *t: function(*t).square().sum(), argnums=tuple(range(len(tensors))))(*tensors)
    _, tangent = torch.func.jvp(function, tensors, tensors)
    assert not calls
    plain = by_reference(function)
    assert_close(batched, [plain(*tensors)] * 2)
    inputs = leaves(tensors)
    assert_close(found, torch.autograd.grad(plain(*inputs).square().sum(), inputs))
    with torch.autograd.forward_ad.dual_level():
        dual = [torch.autograd.forward_ad.make_dual(tensor, tensor) for tensor in tensors]
        assert_close([torch.autograd.forward_ad.unpack_dual(function(*dual)).tangent], [tangent])
    assert not calls
    with use_backend("native"), pytest.raises(InputError, match="native' cannot run: a torch.func transform needs"):
        torch.func.vmap(function)(*(tensor[None] for tensor in tensors))


class Layer(nn.Module):
    """A case as a module, with its last tensor as parameter."""

    def __init__(self, function, parameter):
        super().__init__()
        self.function = function
        self.parameter = nn.Parameter(parameter)

    def forward(self, *tensors):
        return self.function(*tensors, self.parameter)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_hold_plain_operators(case, strict):
    function, (*tensors, last) = case
    layer = Layer(function, last)
    program = torch.export.export(layer, tuple(tensors), strict=strict)
    assert "deconvseg" not in str(program.graph)
    assert_close([program.module()(*tensors)], [layer(*tensors)])


@pytest.mark.filterwarnings("ignore")
def test_traced_programs_hold_plain_operators(case):
    function, tensors = case
    traced = torch.jit.trace(function, tensors)
    assert "deconvseg::" not in str(traced.graph)
    assert_close([traced(*tensors)], [function(*tensors)])


def test_activation_checkpointing_computes_again_by_the_kernels(case, calls):
    function, tensors = case
    found = gradients(lambda *t: checkpoint(function, *t, use_reentrant=False), tensors)
    assert len(calls) == 3
    assert_close(found, gradients(function, tensors))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_and_half_types_compute_in_float32(case, calls, half):
    function, tensors = case
    expected = function(*tensors)
    with torch.autocast("cpu", dtype=half):
        torch.testing.assert_close(function(*tensors), expected, rtol=0, atol=0)
    lowered = [tensor.to(half) for tensor in tensors]
    found = function(*lowered)
    assert found.dtype == half
    expected = function(*(tensor.float() for tensor in lowered)).to(half)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert all(gradient.dtype == half for gradient in gradients(function, lowered))
    assert calls.count(calls[0]) == 5


# A process of its own, left without tidying up: taking a gloo group apart can wait for itself.
DATA_PARALLEL = """
import os, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from deconvseg.nn import DTC, NDC, Mamba

torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
from deconvseg.models import create_model

images = torch.rand(1, 16, 8, 8)
network = create_model("deconver", in_channels=16, out_channels=2, spatial_dims=2, widths=[4, 8], upsampling="dtc")
for layer, x in (
    (NDC(16, 3, spatial_dims=2), images),
    (DTC(16, 16, 2, 2), images),
    (Mamba(16), images.flatten(2)),
    (network, images),
):
    layer(x).square().sum().backward()
    alone = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    DistributedDataParallel(layer)(x).square().sum().backward()
    for parameter, expected in zip(layer.parameters(), alone, strict=True):
        torch.testing.assert_close(parameter.grad, expected)
print("equal", flush=True)
os._exit(0)
"""


def test_data_parallel_training_averages_the_kernels_gradients(tmp_path):
    command = [sys.executable, "-c", DATA_PARALLEL, str(tmp_path / "store")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.stdout == "equal\n", found.stderr


@pytest.mark.parametrize("last", [False, True])
def test_results_have_the_memory_order_of_the_first_image(last):
    form = torch.channels_last if last else torch.contiguous_format
    for function in (update, upsample):
        tensors = [tensor.to(memory_format=form).requires_grad_() for tensor in CASES[function]()]
        out = function(*tensors)
        (gradient,) = torch.autograd.grad(out.sum(), tensors[0])
        assert out.is_contiguous(memory_format=form)
        assert gradient.is_contiguous(memory_format=form)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_an_operator_called_directly_refuses_what_its_kernels_cannot_take(dtype):
    x, source, filters = (tensor.to(dtype) for tensor in CASES[update]())
    with pytest.raises(InputError, match=f"deconvseg::ndc_update: .*{dtype}.*call deconvseg.ops.ndc_update"):
        OPERATORS.ndc_update(x, source, filters, 4, 1e-8)
    features, offsets, weights = (tensor.to(dtype) for tensor in CASES[upsample]())
    with pytest.raises(InputError, match="call deconvseg.ops.deformable_upsample"):
        OPERATORS.deformable_upsample(features, offsets, weights, [2, 2], 1.0, None)


def test_solving_updates_by_the_kernels(calls):
    x, _, filters = CASES[update]()
    source, errors = ndc_solve(x, filters, groups=4, iterations=3)
    assert calls == ["update"] * 3
    with use_backend("reference"):
        expected, expected_errors = ndc_solve(x, filters, groups=4, iterations=3)
    assert_close((source, errors), (expected, expected_errors))
    torch.testing.assert_close(errors[-1], ndc_error(x, source, filters, groups=4))


def test_importing_again_registers_nothing_twice():
    for module in (deconvolution, upsampling, scanning):
        importlib.reload(module)
    tensors = CASES[update]()
    assert_close([update(*tensors)], [by_reference(update)(*tensors)])


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_a_base_is_added_and_passes_its_gradient(backend):
    if backend == "native" and native.unavailable():
        pytest.skip(native.unavailable())
    generator = torch.Generator().manual_seed(0)
    features, base = (torch.randn(s, generator=generator, requires_grad=True) for s in ((1, 3, 4, 5), (1, 3, 8, 10)))
    offsets = torch.randn(1, 2, 8, 10, generator=generator)
    options = {"scale": 2, "receptive_field": 2.0}
    with use_backend(backend):
        found = deformable_upsample(features, offsets, None, **options, base=base)
        torch.testing.assert_close(found, base + deformable_upsample(features, offsets, None, **options))
        grad = torch.randn(found.shape, generator=generator)
        of_base, of_features = torch.autograd.grad(found, (base, features), grad)
        apart = deformable_upsample(features, offsets, None, **options)
        torch.testing.assert_close(of_base, grad)
        torch.testing.assert_close(of_features, torch.autograd.grad(apart, features, grad)[0])


def test_a_base_of_another_shape_is_named():
    with pytest.raises(InputError, match=r"base of shape \(1, 3, 4, 4\) .* give \(1, 3, 8, 10\)"):
        deformable_upsample(
            torch.rand(1, 3, 4, 5),
            torch.rand(1, 2, 8, 10),
            None,
            scale=2,
            receptive_field=1,
            base=torch.rand(1, 3, 4, 4),
        )
