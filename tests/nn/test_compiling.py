"""``torch.compile``: its graphs hold the fused operators, compute the same, and follow what changes the layers."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial, reduce

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deconvseg import create_model
from deconvseg.inference.tuning import tune
from deconvseg.nn import DeconverBlock, Mamba
from deconvseg.nn.conv import Conv2d
from deconvseg.nn.residual import ConvUnit
from deconvseg.ops import native, use_backend

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Compiled:
    """A compiled module, with the names of the operators of this package in each graph that the compiler made."""

    def __init__(self, module: Callable[..., Tensor], backend: str = "aot_eager", **options: object) -> None:
        self.graphs: list[Counter[str]] = []
        self.next = torch._dynamo.lookup_backend(backend)
        self.call = torch.compile(module, fullgraph=True, backend=self.spy, **options)

    def spy(self, module: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs = [each.graph for each in module.modules() if isinstance(each, torch.fx.GraphModule)]
        targets = [str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"]
        self.graphs.append(Counter(target.split(".")[1] for target in targets if target.startswith("deconvseg.")))
        return self.next(module, inputs)

    def __call__(self, *tensors: Tensor) -> Tensor:
        return self.call(*tensors)


def results(call: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> list[Tensor]:
    """The result, and the gradients of the input and of all parameters."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    out = call(x)
    out.square().sum().backward()
    return [out.detach(), *(each.grad.clone() for each in (x, *module.parameters()) if each.grad is not None)]


def strides(tensor: Tensor) -> list[int]:
    """The strides of the axes with more than one element; those of the others have no meaning."""
    return [stride for stride, length in zip(tensor.stride(), tensor.shape, strict=True) if length > 1]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert strides(one) == strides(other)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def block() -> DeconverBlock:
    return DeconverBlock(16, 3, spatial_dims=2)


def test_a_block_is_one_operator_forward_and_backward() -> None:
    module, x = block(), torch.randn(2, 16, 6, 5)
    compiled = Compiled(module)
    assert_close(results(compiled, module, x), results(module, module, x))
    assert compiled.graphs == [{"deconver_block": 1}]
    last = x.contiguous(memory_format=torch.channels_last)
    assert compiled(last).is_contiguous(memory_format=torch.channels_last)


def operators_of(module: nn.Module, x: Tensor) -> Counter[str]:
    """The operators of this package that a call without compilation runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module(x)
    return Counter(name.split("::")[1] for name in map(str, profile_names(profile)) if name.startswith("deconvseg::"))


def profile_names(profile: torch.profiler.profile) -> list[str]:
    return [event.name for event in profile.events() or ()]


DECONVER = {"widths": (16, 32)}
# A network, and one of the operators that it must be able to use.
NETWORKS = [
    ("deconver", 3, DECONVER, "deconver_block"),
    ("deconver", 2, DECONVER | {"upsampling": "dtc+transposed"}, "deformable_upsample"),
    ("unet", 2, DECONVER, None),
]


@pytest.mark.parametrize(("name", "dims", "config", "operator"), NETWORKS, ids=["3D", "DTC", "unet"])
def test_a_training_network_has_one_graph_with_the_operators(name, dims, config, operator) -> None:  # type: ignore[no-untyped-def]
    network = create_model(name, in_channels=1, out_channels=2, spatial_dims=dims, **config)
    x = torch.randn(2, 1, *[8] * dims)
    compiled = Compiled(network)
    assert_close(results(compiled, network, x), results(network, network, x))
    assert compiled.graphs == [operators_of(network, x.requires_grad_())]
    assert operator is None or operator in compiled.graphs[0]


@pytest.mark.parametrize("name", ["unet", pytest.param("nnunet", marks=pytest.mark.slow), "units"])
def test_a_network_that_is_prepared_for_inference_has_one_graph_with_its_operators(name: str) -> None:
    if name == "units":
        units = (ConvUnit(1, 16, 3, 2, norm="instance"), ConvUnit(16, 16, 3, 2, norm="instance_affine", slope=0.1))
        network: nn.Module = nn.Sequential(*units)
    else:
        network = create_model(name, in_channels=1, out_channels=2, spatial_dims=2, widths=(16, 16, 32))
    network = tune(network.eval(), torch.device("cpu"))
    x, compiled = torch.randn(1, 1, 16, 16), Compiled(network)
    with torch.inference_mode():
        assert_close([compiled(x)], [network(x)])
        assert compiled.graphs == [operators_of(network, x)]
    assert compiled.graphs[0]["winograd_conv"] > 0
    assert (compiled.graphs[0]["instance_norm_"] > 0) == (name != "unet")  # it has batch normalisation
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(0.9)  # the transformed weights follow
        assert_close([compiled(x)], [network(x)])


def test_a_mamba_block_has_one_graph_with_its_scans() -> None:
    module, x = Mamba(8, ("forward", "backward", "slices"), slices=4), torch.randn(2, 8, 12)
    compiled = Compiled(module)
    assert_close(results(compiled, module, x), results(module, module, x))
    assert compiled.graphs == [{"selective_scan": 3}]


def test_several_sizes_are_compiled_twice_at_most() -> None:
    network = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=2, **DECONVER)
    compiled = Compiled(network, "eager")
    with torch.no_grad():
        for height, width in ((16, 24), (20, 16), (28, 20), (24, 32)):  # enough positions to join the decoder's layers
            x = torch.randn(2, 1, height, width)
            assert_close([compiled(x)], [network(x)])
    assert [graph["deconver_block"] for graph in compiled.graphs] == [3, 3]


def test_sizes_that_are_declared_dynamic_are_compiled_once() -> None:
    network = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=2, **DECONVER)
    compiled, made = Compiled(network, dynamic=True), []
    for size in (16, 24, 20):
        x = torch.randn(2, 1, size, size + 4)
        assert_close(results(compiled, network, x), results(network, network, x))
        made.append(len(compiled.graphs))
    assert made == [made[0]] * 3  # the first call may try twice, because `dynamic=True` concerns the numbers too


def test_a_network_has_the_same_operators_under_autocast_to_bfloat16() -> None:
    network = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=2, **DECONVER)
    x, compiled = torch.randn(2, 1, 8, 8), Compiled(network)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = results(compiled, network, x), results(network, network, x)
        operators = operators_of(network, x.requires_grad_())
    assert compiled.graphs == [operators]
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, strides(one)) == (other.dtype, strides(other))
        torch.testing.assert_close(one, other, rtol=2**-7, atol=2**-7 * other.abs().max().item())
    assert operators["deconver_block"] == (3 if native.why_no_bfloat16() is None else 0)


class Recomputed(nn.Module):
    """Blocks whose images are not kept for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for each in self.blocks:
            x = checkpoint(each, x, use_reentrant=False)
        return x


def test_checkpoints_inside_and_around_compiled_blocks_keep_the_operators() -> None:
    network, x = Recomputed(), torch.randn(1, 16, 6, 6)
    expected, compiled = results(network, network, x), Compiled(network)
    assert_close(results(compiled, network, x), expected)
    assert compiled.graphs == [{"deconver_block": 2}]
    parts = [Compiled(each) for each in network.blocks]
    around = partial(reduce, lambda image, part: checkpoint(part, image, use_reentrant=False), parts)
    assert_close(results(around, network, x), expected)
    assert all(part.graphs == [{"deconver_block": 1}] for part in parts)


@pytest.mark.parametrize("path", ["norm1", "mixer", "mixer.ndc", "mixer.project_in", "mlp.1"])
def test_hooks_that_are_registered_before_compilation_are_called(path: str) -> None:
    module, x = block(), torch.randn(1, 16, 4, 4)
    plain = module(x)
    module.get_submodule(path).register_forward_hook(lambda _, inputs, output: output * 2)
    compiled = Compiled(module, "eager")
    assert_close([compiled(x)], [module(x)])
    assert not torch.allclose(compiled(x), plain)
    assert not compiled.graphs[0]["deconver_block"]


def test_later_hooks_count_by_the_rule_of_pytorch() -> None:
    module, x = block(), torch.randn(1, 16, 4, 4)
    with torch.no_grad(), torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):
        compiled = Compiled(module, "eager")
        compiled(x)
        module.mlp[1].register_forward_hook(lambda _, inputs, output: output * 2)
        assert_close([compiled(x)], [module(x)])
    assert [graph["deconver_block"] for graph in compiled.graphs] == [1, 0]


def replace_activation(module: DeconverBlock) -> None:
    module.mlp[1] = nn.ReLU()


def replace_forward(module: DeconverBlock) -> None:
    module.norm1.forward = lambda x: 2 * x  # type: ignore[method-assign]


def replace_convolution(module: DeconverBlock) -> None:
    module.mlp[0]._conv_forward = lambda x, weight, bias: torch.zeros(1, 64, 4, 4)


def replace_layer(module: DeconverBlock) -> None:
    module.mlp[0] = Conv2d(16, 64, 3, padding=1)


def change_eps(module: DeconverBlock) -> None:
    module.norm2.eps = 0.5


def change_gelu(module: DeconverBlock) -> None:
    module.mlp[1].approximate = "tanh"


def add_weight(module: DeconverBlock) -> None:
    module.norm1.weight = nn.Parameter(torch.full((16,), 3.0))


def parametrise(module: DeconverBlock) -> None:
    nn.utils.parametrizations.weight_norm(module.mlp[0])


@pytest.mark.parametrize(
    "change",
    [
        *(replace_activation, replace_forward, replace_convolution, replace_layer),
        *(change_eps, change_gelu, add_weight, parametrise),
    ],
)
def test_a_block_that_is_changed_after_compilation_is_compiled_anew(change: Callable[[DeconverBlock], None]) -> None:
    module, x = block(), torch.randn(1, 16, 4, 4)
    with torch.no_grad():
        compiled = Compiled(module, "eager")
        compiled(x)
        change(module)
        assert_close([compiled(x)], [module(x)])
    assert [graph["deconver_block"] for graph in compiled.graphs] == [1, 0]


def test_blocks_that_are_compiled_one_by_one_share_their_code() -> None:
    blocks, x = [block() for _ in range(3)], torch.randn(1, 16, 4, 4)
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(str(graph.graph))
        return graph

    for module in blocks:
        module.compile(backend=backend, fullgraph=True)
    with torch.no_grad():
        for module in blocks:
            module(x)
    assert len(graphs) == 1
    assert "deconver_block" in graphs[0]


def test_the_state_of_gradients_and_the_forced_backend_are_those_at_the_call() -> None:
    module, x = block(), torch.randn(1, 16, 4, 4)
    compiled = Compiled(module, "eager")
    for _ in range(2):
        with torch.no_grad():
            assert not compiled(x).requires_grad
        assert compiled(x).requires_grad
    assert len(compiled.graphs) == 2
    with use_backend("reference"):
        other = Compiled(block(), "eager")
        other(x)
    assert not other.graphs[0]


@pytest.mark.parametrize("strict", [False, True])
def test_exported_networks_hold_plain_operators(strict: bool) -> None:
    network = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=2, **DECONVER).eval()
    x = torch.randn(2, 1, 8, 8)
    program = torch.export.export(network, (x,), strict=strict)
    assert "deconvseg" not in str(program.graph)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), network(x), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "max-autotune"])
def test_code_of_inductor_computes_the_same(mode: str) -> None:
    for name, dims, config, _ in NETWORKS:
        network = create_model(name, in_channels=1, out_channels=2, spatial_dims=dims, **config)
        # Inductor 2.13 cannot tune pointwise convolutions with dynamic sizes in training.
        compiled = torch.compile(network, fullgraph=True, mode=mode, dynamic=None if mode == "default" else False)
        for size in (16, 32):
            x = torch.randn(1, 1, *[size] * dims)
            assert_close(results(compiled, network, x), results(network, network, x))
        tuned = tune(network.eval(), torch.device("cpu"))
        with torch.inference_mode():
            assert_close([torch.compile(tuned, fullgraph=True, mode=mode)(x)], [tuned(x)])
