"""Which backend is chosen, how one is forced, and what is said about it."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from deconvseg import ops
from deconvseg.errors import InputError
from deconvseg.nn import DeconverBlock
from deconvseg.ops import backends, deformable_upsample, explain, native, ndc_update, use_backend
from deconvseg.ops import conv as convolutions
from deconvseg.ops.backends import Choice, ExplainsBackend, choose, forced_backend
from deconvseg.ops.ndc import choose_update
from deconvseg.ops.registry import OPERATORS, Implementation, Operator, register_backend, unregister_backend
from deconvseg.ops.winograd import winograd_conv

WHY_NOT = Implementation.why_not

needs_native = pytest.mark.skipif(native.unavailable() is not None, reason=f"native: {native.unavailable()}")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    monkeypatch.setattr(backends, "_logged", set())


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "unavailable", lambda: "not built: find a compiler")


class Computing(torch.Tensor):
    """A subclass that computes itself."""

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def problem(dtype=torch.float32, sources=2, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 6, 5), (2, 4 * sources, 6, 5), (4, sources, 3, 3)
    return tuple(torch.rand(shape, generator=generator).to(device, dtype) for shape in shapes)


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Operator:
    """One that no backend computes yet."""
    made = Operator("test", 3, images=2)
    monkeypatch.setitem(OPERATORS, "test", made)
    return made


def toy(reason: str | None = None, asked: list[str] | None = None, **functions: Any) -> SimpleNamespace:
    """The kernels of a backend, which decline for a reason, if any, and note that they were asked."""

    def decline(*tensors: Any) -> str | None:
        if asked is not None:
            asked.append("decline")
        return reason

    return SimpleNamespace(decline=decline, **functions)


def chosen(*tensors, groups=4):
    return choose_update(*tensors, groups=groups).backend


@needs_native
def test_native_runs_float32_on_a_cpu_and_the_reference_everything_else():
    x, source, filters = problem()
    assert chosen(x, source, filters) == "native"
    assert chosen(*problem(torch.bfloat16)) == "native"  # half types become float32 on a CPU
    assert chosen(*problem(torch.float64)) == "reference"
    assert chosen(*problem(torch.float64, device="meta")) == "reference"
    assert chosen(x, nn.Parameter(source), filters) == "native"
    with FakeTensorMode() as mode:
        assert chosen(*map(mode.from_tensor, problem())) == "reference"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.double(), "float64"),
        (lambda t: t.to("meta", torch.float64), "float64"),
        (lambda t: t.as_subclass(Computing), "subclasses that compute themselves"),
    ],
)
def test_every_reason_is_told(change, reason):
    choice = choose_update(*map(change, problem()), groups=4)
    assert choice.backend == "reference"
    assert set(choice.declined) == {"native", "triton"}
    assert reason in choice.declined["native"]


def test_tensors_without_values_go_the_way_of_a_kernel_and_it_is_told_so():
    tensors = problem(device="meta")
    choice = choose_update(*tensors, groups=4)
    assert choice.backend == "meta"
    assert choice.declined["native"] == "it needs tensors on cpu, not meta"
    assert choice.declined["reference"] == "a meta tensor has no values to compute with"
    assert ndc_update(*tensors, groups=4).shape == tensors[1].shape
    with use_backend("reference"):
        assert choose_update(*tensors, groups=4).backend == "reference"


def test_the_reference_is_told_why_it_does_not_run(operator):
    register_backend("test", "native", device="cpu", kernels=toy())
    register_backend("test", "triton", device="cuda", kernels=toy())
    assert choose(operator, *problem()) == Choice(
        "test", "native", {"reference": "native is faster", "triton": "it needs tensors on cuda, not cpu"}
    )


def test_an_operator_without_kernels_runs_in_plain_pytorch_and_nothing_is_logged(operator, caplog):
    choice = choose(operator, torch.rand(1, 2, 3))
    assert choice.backend == "reference"
    assert choice.declined["native"] == "it has no kernel for this operator"
    assert not caplog.records


def test_a_fallback_is_logged_once_with_its_reason(no_library, caplog):
    with caplog.at_level(logging.WARNING, logger="deconvseg"):
        for _ in range(3):
            ndc_update(*problem(), groups=4)
        ndc_update(*problem(torch.float64), groups=4)
    assert [record.getMessage() for record in caplog.records] == [
        "ndc_update runs in plain PyTorch, not on the native backend: not built: find a compiler"
    ]


@needs_native
def test_a_backend_that_would_be_slower_stands_back_silently_and_runs_where_it_is_forced(caplog):
    x, source, filters = problem()
    tensors = x, source, filters.repeat(1, 4, 1, 1)  # four image channels in a group
    assert chosen(*tensors, groups=1) == "reference"
    assert not caplog.records
    with use_backend("native"):
        assert chosen(*tensors, groups=1) == "native"


@pytest.mark.parametrize("name", ["reference", "eager"])
def test_the_reference_can_be_forced_by_both_of_its_names(name, monkeypatch):
    with use_backend(name):
        choice = choose_update(*problem(), groups=4)
    assert choice.backend == "reference"
    if native.unavailable() is None:
        assert choice.declined["native"] == "reference is forced"
    monkeypatch.setenv("DECONVSEG_BACKEND", name)
    assert chosen(*problem()) == "reference"


def test_the_innermost_block_wins_over_the_outer_ones_and_the_variable(monkeypatch):
    monkeypatch.setenv("DECONVSEG_BACKEND", "triton")
    with use_backend("native"):
        with use_backend("reference"):
            assert forced_backend() == "reference"
        assert forced_backend() == "native"
        with pytest.raises(RuntimeError), use_backend("reference"):
            raise RuntimeError
        assert forced_backend() == "native"
    assert forced_backend() == "triton"
    monkeypatch.setenv("DECONVSEG_BACKEND", "")
    assert forced_backend() is None


def test_a_block_holds_in_its_own_thread_and_the_variable_in_all(monkeypatch):
    with ThreadPoolExecutor(1) as pool:
        with use_backend("reference"):
            assert pool.submit(forced_backend).result() is None
        monkeypatch.setenv("DECONVSEG_BACKEND", "native")
        assert pool.submit(forced_backend).result() == "native"


@pytest.mark.parametrize(("name", "hint"), [("natve", "did you mean 'native'"), ("cuda", "choose from reference, nat")])
def test_an_unknown_name_is_refused_with_the_known_ones(name, hint, monkeypatch):
    with pytest.raises(InputError, match=f"backend '{name}' is unknown: .*{hint}"), use_backend(name):
        pass
    monkeypatch.setenv("DECONVSEG_BACKEND", name)
    with pytest.raises(InputError, match=f"DECONVSEG_BACKEND '{name}' is unknown"):
        ndc_update(*problem(), groups=4)


@pytest.mark.parametrize("function", [choose_update, ndc_update])
def test_a_forced_backend_that_cannot_run_is_an_error_with_the_reason(function, no_library):
    with use_backend("native"):
        with pytest.raises(InputError, match="'native' cannot run: not built: find a compiler; force another"):
            function(*problem(), groups=4)
        with pytest.raises(InputError, match="'native' cannot run: torch.float64 needs plain PyTorch"):
            function(*problem(torch.float64), groups=4)
    with use_backend("triton"), pytest.raises(InputError, match="it needs tensors on cuda, not cpu"):
        function(*problem(), groups=4)


def test_explaining_a_call_computes_nothing_and_checks_its_arguments():
    x, source, filters = problem()
    with FakeTensorMode() as mode:
        found = explain(ndc_update, *map(mode.from_tensor, (x, source, filters)), groups=4)
    ((name, choice),) = found.choices
    assert (name, choice.operator, choice.backend) == ("", "ndc_update", "reference")
    offsets = torch.zeros(2, 2, 6, 5, dtype=torch.float64)
    found = explain(deformable_upsample, x.double(), offsets, None, scale=1, receptive_field=2.0)
    assert str(found).splitlines()[0].split() == ["operator", "backend", "why", "not", "another"]
    assert "deformable_upsample  reference  native: torch.float64 needs plain PyTorch; triton" in str(found)
    with pytest.raises(InputError, match="groups=3 does not divide"):
        explain(ndc_update, x, source, filters, groups=3)


class Layer(nn.Module):
    def __init__(self, backend: str) -> None:
        super().__init__()
        self.backend = backend

    def explain_backend(self) -> Choice:
        return Choice("layer", self.backend, {"triton": "there is no GPU"})


def test_explaining_a_model_asks_the_modules_that_have_backends_and_prints_equal_ones_as_one_row():
    model = nn.Sequential(Layer("native"), nn.ReLU(), nn.Sequential(Layer("native"), Layer("reference")))
    found = explain(model)
    assert [(name, choice.backend) for name, choice in found.choices] == [
        ("0", "native"),
        ("2.0", "native"),
        ("2.1", "reference"),
    ]
    assert str(found).splitlines() == [
        "operator  backend    why not another          modules",
        "layer     native     triton: there is no GPU  0 and 1 more",
        "layer     reference  triton: there is no GPU  2.1",
    ]
    assert isinstance(model[0], ExplainsBackend)
    assert not isinstance(model[1], ExplainsBackend)
    assert "plain PyTorch runs" in str(explain(nn.ReLU()))


def test_what_cannot_be_explained_is_refused():
    for subject, inputs in ((torch.relu, ()), (torch.rand(2), ()), (nn.ReLU(), (torch.rand(2),))):
        with pytest.raises(InputError, match="give a module alone, or one of ndc_update, deformable_upsample"):
            explain(subject, *inputs)


@pytest.fixture
def toys() -> Iterator[None]:
    """Take the toy backends of the update away again."""
    yield
    unregister_backend("ndc_update", "toy")
    unregister_backend("conv", "toy")


@needs_native
@pytest.mark.usefixtures("toys")
def test_a_second_backend_of_a_device_goes_first_by_its_priority_and_stands_back_where_it_declines():
    x, source, filters = problem()
    expected = ndc_update(x, source, filters, groups=4)

    def few(x, source, filters):
        return "it takes one sample" if len(x) > 1 else None

    def update(x, source, filters, groups, eps):
        return source + 1

    kernels = SimpleNamespace(decline=few, update=update, update_backward=lambda grad, *_: (grad, grad, grad))
    register_backend("ndc_update", "toy", device="cpu", kernels=kernels, priority=1)
    assert torch.equal(ndc_update(x[:1], source[:1], filters, groups=4), source[:1] + 1)
    choice = choose_update(x[:1], source[:1], filters, groups=4)
    assert (choice.backend, choice.declined["native"]) == ("toy", "toy is faster")
    assert torch.equal(ndc_update(x, source, filters, groups=4), expected)
    choice = choose_update(x, source, filters, groups=4)
    assert (choice.backend, choice.declined["toy"]) == ("native", "it takes one sample")
    assert "native   reference: native is faster; triton: it needs tensors on cuda, not cpu; toy: it takes" in str(
        explain(ndc_update, x, source, filters, groups=4)
    )
    with use_backend("native"):
        assert choose_update(x[:1], source[:1], filters, groups=4).declined["toy"] == "native is forced"
    with use_backend("toy"), pytest.raises(InputError, match="forced backend 'toy' cannot run: it takes one sample"):
        ndc_update(x, source, filters, groups=4)
    # Behind the native kernels it is asked only where they decline.
    register_backend("ndc_update", "toy", device="cpu", kernels=kernels, priority=-1)
    assert choose_update(x[:1], source[:1], filters, groups=4).backend == "native"
    four_channels = x[:1], source[:1], filters.repeat(1, 4, 1, 1)
    assert choose_update(*four_channels, groups=1).backend == "toy"
    unregister_backend("ndc_update", "toy")
    assert "toy" not in choose_update(x, source, filters, groups=4).declined
    with pytest.raises(InputError, match="backend 'toy' is unknown"), use_backend("toy"):
        pass


@pytest.mark.usefixtures("toys")
def test_a_backend_of_layers_is_registered_in_the_same_way():
    x, weight = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3)
    asked = []
    kernels = toy(asked=asked, conv=lambda x, weight, bias, stride, padding: x.new_full((1, 3, 3, 3), 7))
    register_backend("conv", "toy", device="cpu", kernels=kernels, priority=1)
    settings = {"stride": (1, 1), "padding": (0, 0)}
    assert torch.equal(convolutions.conv(x, weight, None, **settings), torch.full((1, 3, 3, 3), 7.0))
    assert asked == ["decline"]
    assert explain(convolutions.conv, x, weight, None, **settings).choices[0][1].backend == "toy"
    with use_backend("triton"):
        torch.testing.assert_close(convolutions.conv(x, weight, None, **settings), F.conv2d(x, weight))
    unregister_backend("conv", "toy")
    torch.testing.assert_close(convolutions.conv(x, weight, None, **settings), F.conv2d(x, weight))


@pytest.mark.usefixtures("toys")
def test_a_backend_of_convolutions_that_takes_all_is_not_asked_where_the_operator_has_no_gradient():
    x, weight = torch.rand(1, 2, 5, 5, requires_grad=True), torch.rand(3, 2, 3, 3)
    register_backend("conv", "toy", device="cpu", kernels=toy(conv=lambda *given: F.conv2d(*given)), priority=1)
    settings = {"stride": (1, 1), "padding": (1, 1)}
    (found,) = torch.autograd.grad(convolutions.conv(x, weight, None, **settings).square().sum(), x)
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), x)
    torch.testing.assert_close(found, expected)
    choice = explain(convolutions.conv, x, weight, None, **settings).choices[0][1]
    assert "the gradient of the image needs a stride as large as the kernel" in choice.declined["toy"]
    with torch.no_grad():
        assert explain(convolutions.conv, x, weight, None, **settings).choices[0][1].backend == "toy"


def test_a_backend_of_an_unknown_operator_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="operator 'ndc_updat' is unknown.*did you mean 'ndc_update'"):
        register_backend("ndc_updat", "toy", device="cpu", kernels=toy())
    assert OPERATORS.keys() == {
        *("ndc_update", "deformable_upsample", "selective_scan", "instance_norm"),
        *("conv", "conv_transpose", "onednn_conv", "join", "winograd_conv", "deconver_block"),
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backend": "reference"}, "a backend cannot be named 'reference'"),
        ({"backend": "eager"}, "a backend cannot be named 'eager'"),
        ({"backend": "meta"}, "a backend cannot be named 'meta'"),
        ({"backend": ""}, "a backend cannot be named ''"),
        ({"device": "gpu"}, "device='gpu': give a type of device, such as 'cpu', 'cuda' or 'mps'"),
        ({"device": "cpu:0"}, "device='cpu:0': give a type of device"),
        ({"priority": "high"}, "priority='high': give a number"),
        ({"priority": float("nan")}, "priority=nan: give a number"),
    ],
)
def test_a_registration_that_is_refused_leaves_the_former_one(operator, changed, message):
    register_backend("test", "toy", device="cpu", kernels=toy())
    before = operator.implementations
    with pytest.raises(InputError, match=re.escape(message)):
        register_backend(**{"operator": "test", "backend": "toy", "device": "cpu", "kernels": toy()} | changed)
    assert operator.implementations == before


def test_a_backend_of_an_unknown_operator_cannot_be_taken_away():
    with pytest.raises(InputError, match="operator 'ndc_updat' is unknown.*did you mean 'ndc_update'"):
        unregister_backend("ndc_updat", "native")


@needs_native
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_an_operator_called_with_the_name_of_a_backend_reads_no_tensor_of_another_type(dtype):
    """By its name a backend is not asked; a half tensor has half the memory that its kernel would read."""
    tensors = [tensor.to(dtype) for tensor in problem()]
    with pytest.raises(InputError, match=f"the native kernels compute in torch.float32, not {dtype}"):
        torch.ops.deconvseg.ndc_update(*tensors, 4, 1e-8, "native")
    image = torch.rand(1, 16, 6, 6, dtype=dtype)
    for backend in ("native", ""):
        with pytest.raises(InputError, match=f"the native kernels compute in torch.float32, not {dtype}"):
            torch.ops.deconvseg.conv(image, torch.rand(16, 16, 3, 3, dtype=dtype), None, [1, 1], [1, 1], backend)


def test_an_operator_called_with_the_name_of_a_backend_of_another_device_is_refused():
    with pytest.raises(InputError, match="deconvseg::ndc_update: triton needs tensors on cuda, not cpu; call deconv"):
        torch.ops.deconvseg.ndc_update(*problem(), 4, 1e-8, "triton")


def calls_of_all_operators() -> dict[str, Callable[[], torch.Tensor]]:
    images, vectors = torch.rand(1, 16, 6, 6), torch.rand(1, 4, 5)
    last = images.to(memory_format=torch.channels_last)
    weight, moves = torch.rand(16, 16, 3, 3), torch.rand(1, 2, 12, 12)
    block = DeconverBlock(16, 3, spatial_dims=2)
    a, b = -torch.rand(4, 3), torch.rand(1, 3, 5)
    return {
        "ndc_update": lambda: ndc_update(images, images, torch.rand(16, 1, 3, 3), groups=16),
        "deformable_upsample": lambda: deformable_upsample(images, moves, None, scale=2, receptive_field=1),
        "selective_scan": lambda: ops.selective_scan(vectors, vectors, a, b, b),
        "instance_norm": lambda: ops.instance_norm(images),
        "conv": lambda: convolutions.conv(last, weight, None, stride=(1, 1), padding=(1, 1)),
        "conv_transpose": lambda: convolutions.conv_transpose(last, weight, None, stride=(3, 3)),
        "onednn_conv": lambda: convolutions.onednn_conv(
            last, weight, None, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1
        ),
        "join": lambda: torch.ops.deconvseg.join(
            last.bfloat16(), last[..., :3, :3].bfloat16(), weight[..., :1, :1], weight[..., :2, :2], None, "native"
        ),
        "winograd_conv": lambda: winograd_conv(last, weight),
        "deconver_block": lambda: block(last),
    }


@needs_native
@pytest.mark.parametrize("name", OPERATORS)
def test_a_backend_is_chosen_once_a_call(name, monkeypatch):
    if name == "join" and (why := native.why_no_bfloat16()) is not None:
        pytest.skip(why)
    call = calls_of_all_operators()[name]
    asked = []

    def why_not(self, *arguments):
        asked.append(self.backend)
        return WHY_NOT(self, *arguments)

    monkeypatch.setattr(Implementation, "why_not", why_not)
    with torch.set_grad_enabled(name not in ("instance_norm", "onednn_conv", "winograd_conv")):
        out = call()
        if out.requires_grad:
            out.sum().backward()
    assert asked == ([] if name == "join" else ["native"])  # called with the backend that `conv.join` chose


def test_importing_the_operators_loads_neither_compiler_nor_kernels():
    script = (
        "import sys, torch; before = set(sys.modules); import deconvseg.ops as ops; new = set(sys.modules) - before\n"
        "assert not {m for m in new if m.startswith(('torch._dynamo', 'torch._inductor', 'triton'))}, new\n"
        "assert not {m for m in new if m.endswith(('.native', '.triton'))}, new\n"
        "import deconvseg.ops.native\n"
        "assert ops.native._loaded.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_public_face():
    assert set(ops.__all__) >= {"explain", "use_backend", "ndc_update", "deformable_upsample"}
    assert all(hasattr(ops, name) for name in ops.__all__)


def test_layers_that_one_operator_computes_are_not_explained_apart():
    block = DeconverBlock(8, 3, spatial_dims=2)
    whole = explain(nn.Sequential(block, nn.ReLU())).choices
    if whole[0][1].backend != "reference":
        assert [name for name, _ in whole] == ["0"]
    with use_backend("reference"):
        apart = explain(block).choices
    assert {"deconver_block", "conv", "ndc_update"} <= {choice.operator for _, choice in apart}
