"""A Deconver block computed as one operator: the same results, and never behind anybody's back."""

import pytest
import torch
from torch import nn

from deconvseg.errors import InputError
from deconvseg.nn import NDC, DeconverBlock, DeconvMixer
from deconvseg.nn.conv import Conv2d, ConvTranspose2d
from deconvseg.nn.joining import join
from deconvseg.nn.norm import InstanceNorm
from deconvseg.ops import native, use_backend

needs_native = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")


def make(dims=2, **options):
    torch.manual_seed(0)
    return DeconverBlock(16, 3, spatial_dims=dims, **options)


def backend(block):
    return block.explain_backend().backend


def reason(block):
    choice = block.explain_backend()
    assert choice.backend == "reference"
    return choice.declined["native"]


@needs_native
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_one_operator_gives_what_the_layers_give(dims, mode):
    block = getattr(make(dims), mode)()
    assert backend(block) == "native"
    x = torch.randn(2, 16, *(6, 5, 4)[:dims])
    grad, results = torch.randn_like(x), []
    for name in ("native", "reference"):
        block.zero_grad()
        with use_backend(name):
            image = x.clone().requires_grad_()
            result = block(image)
        result.backward(grad)
        results.append([result, image.grad, *(parameter.grad for parameter in block.parameters())])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5 * two.abs().max().item())


@needs_native
def test_inner_hooks_are_called_and_outer_ones_too():
    for path in ("norm1", "mixer", "mixer.ndc", "mixer.project_in", "mlp", "mlp.1"):
        block, calls = make(), []
        handle = block.get_submodule(path).register_forward_hook(lambda *_, calls=calls: calls.append(1))
        assert f"{path} has a hook" in reason(block)
        block(torch.randn(1, 16, 4, 4))
        assert calls == [1]
        handle.remove()
        assert backend(block) == "native"
    block, calls = make(), []
    block.register_forward_hook(lambda *_: calls.append(1))
    block(torch.randn(1, 16, 4, 4))
    assert calls == [1]
    assert backend(block) == "native"


@needs_native
def test_hooks_on_all_modules_are_called():
    block, called = make(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: called.append(type(module)))
    block(torch.randn(1, 16, 4, 4))
    handle.remove()
    assert DeconvMixer in called


@needs_native
def test_replaced_and_parametrised_modules_do_what_they_say():
    x = torch.randn(1, 16, 4, 4)
    block = make()
    block.mlp[1] = nn.ReLU()
    assert "mlp.1 was replaced" in reason(block)
    block = make()
    nn.utils.parametrizations.weight_norm(block.mlp[0])
    assert "modules were added" in reason(block)
    block = make()
    block.mlp.append(nn.Identity())
    assert "mlp.3" in reason(block)
    block = make()
    block.norm1.forward = lambda x: x
    assert "norm1 was replaced" in reason(block)
    block = make()
    block.mlp[0] = type(block.mlp[0])(16, 64, kernel_size=3, padding=1)
    assert "not a pointwise convolution" in reason(block)
    assert block(x).shape == x.shape
    block = make()
    block.mixer.project_out.bias = None
    assert "biases were added or removed" in reason(block)
    assert block(x).shape == x.shape
    block = make()
    block.norm2.eps = 1e-3
    assert "settings" in reason(block)
    assert "one update, not 2" in reason(make(iterations=2))


@needs_native
def test_other_precisions_and_autocast_call_the_layers():
    assert "float64" in reason(make().double())
    with torch.autocast("cpu", dtype=torch.float16):
        assert "autocast" in reason(make())
    assert "float16" in reason(make().half())


@needs_native
def test_bfloat16_takes_the_operator_where_the_processor_has_it():
    lacking = native.why_no_bfloat16()
    half = make().bfloat16()
    for block in (make(), half):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=block is not half):
            choice = block.explain_backend()
            assert choice.declined.get("native") == lacking
            assert choice.computed == ("reference" if lacking else "native in bfloat16")
            assert block(torch.randn(1, 16, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


@needs_native
def test_tracing_and_exporting_see_the_layers():
    block, x = make().eval(), torch.randn(1, 16, 4, 4)
    exported = torch.export.export(block, (x,))
    traced = torch.jit.trace(block, x)
    for graph in (str(exported.graph), str(traced.inlined_graph)):
        assert "deconvseg::" not in graph
        assert "ops.deconvseg" not in graph
    torch.testing.assert_close(exported.module()(x), block(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(traced(x), block(x), rtol=1e-4, atol=1e-5)


@needs_native
def test_the_state_dict_is_that_of_the_layers():
    with use_backend("reference"):
        plain = make()
    assert list(make().state_dict()) == list(plain.state_dict())
    assert isinstance(make().mixer.project_in, nn.Conv2d)


@needs_native
def test_checkpointing_recomputes_the_block():
    block, x = make(), torch.randn(1, 16, 4, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(block(x).square().sum(), x)
    again = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
    (found,) = torch.autograd.grad(again.square().sum(), x)
    assert torch.equal(found, expected)


@needs_native
def test_an_image_of_another_rank_is_refused_as_by_the_layers():
    with pytest.raises(RuntimeError):
        make(dims=2)(torch.randn(1, 16, 8, 8, 8))
    with torch.device("meta"):
        assert make(dims=3)(torch.empty(1, 16, 4, 4, 4)).shape == (1, 16, 4, 4, 4)


def by_both(block, x):
    """The result as computed by default, and by the layers."""
    with torch.no_grad():
        found = block(x)
        with use_backend("reference"):
            return found, block(x)


@needs_native
@pytest.mark.parametrize("norm", ["norm1", "norm2"])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_normalisation_that_got_a_weight_or_a_bias_applies_it(norm, name):
    block, x = make(), torch.randn(1, 16, 4, 4)
    plain = block(x)
    setattr(getattr(block, norm), name, nn.Parameter(torch.full((16,), 3.0)))
    assert "a normalisation was given a weight or a bias" in reason(block)
    found, expected = by_both(block, x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain)


@needs_native
def test_other_groups_are_refused_as_by_the_layers():
    block = make()
    block.mixer.ndc.groups = 1
    assert "1 groups of 16 channels" in reason(block)
    with pytest.raises(InputError):
        block(torch.randn(1, 16, 4, 4))


@needs_native
@pytest.mark.parametrize("kind", [NDC, DeconvMixer, InstanceNorm, Conv2d, nn.Conv2d, nn.GELU, nn.Sequential])
def test_a_forward_replaced_on_a_class_is_called(kind):
    block, x, calls = make(), torch.randn(1, 16, 4, 4), []
    original = kind.forward

    def forward(self, input):
        calls.append(kind)
        return original(self, input)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "forward", forward)
        assert f"replaced on the class {'Conv2d' if kind is nn.Conv2d else kind.__name__}" in reason(block)
        block(x)
        assert calls
    assert backend(block) == "native"


@needs_native
@pytest.mark.parametrize("name", ["__call__", "_call_impl"])
@pytest.mark.parametrize("kind", [NDC, Conv2d, nn.GELU, nn.Sequential])
def test_a_call_replaced_on_a_class_is_made(kind, name):
    block, x, calls = make(), torch.randn(1, 16, 4, 4), []
    original = getattr(kind, name)

    def call(self, *args):
        calls.append(kind)
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, name, call)
        block(x)
        assert calls
    assert backend(block) == "native"


@needs_native
@pytest.mark.parametrize("name", ["_call_impl", "_compiled_call_impl"])
def test_a_layer_that_is_called_in_another_way_or_compiled_is_called(name):
    block, x, calls = make(), torch.randn(1, 16, 4, 4), []
    layer = block.mixer.ndc
    setattr(layer, name, lambda *args: calls.append(name) or layer.forward(*args))
    block(x)
    assert calls == [name]


@needs_native
@pytest.mark.parametrize("kind", [Conv2d, nn.Conv2d])
def test_how_a_convolution_computes_may_be_replaced_on_its_class_or_in_one_layer(kind):
    def zeros(self, input, weight, bias):
        return torch.zeros(input.shape[0], weight.shape[0], *input.shape[2:])

    block, x = make(), torch.randn(1, 16, 4, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "_conv_forward", zeros)
        assert torch.equal(block(x), x)
        assert not Conv2d(16, 16, 1)(x.contiguous(memory_format=torch.channels_last)).any()
    assert backend(block) == "native"
    block.mlp[2]._conv_forward = zeros.__get__(block.mlp[2])
    block.mixer.project_out._conv_forward = zeros.__get__(block.mixer.project_out)
    assert torch.equal(block(x), x)


@needs_native
@pytest.mark.parametrize("name", ["gelu", "conv2d"])
def test_a_replaced_function_of_pytorch_is_called(name, monkeypatch):
    block, x, calls = make(), torch.randn(1, 16, 4, 4), []
    original = getattr(nn.functional, name)
    monkeypatch.setattr(nn.functional, name, lambda *args, **kwargs: calls.append(name) or original(*args, **kwargs))
    assert f"torch.nn.functional.{name} was replaced" in reason(block)
    block(x)
    assert len(calls) == {"gelu": 1, "conv2d": 5}[name]


@needs_native
def test_modes_see_the_functions_of_the_layers_and_a_device_is_none():
    seen = []

    class Functions(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    class Operators(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    block, x = make(), torch.randn(1, 16, 4, 4)
    with Functions():
        block(x)
        assert "gelu" in seen
        assert "conv2d" in seen
    seen.clear()
    with Operators():
        block(x)
        assert "gelu.default" in seen
    with torch.device("cpu"):
        assert backend(block) == "native"


@needs_native
def test_a_call_replaced_for_all_modules_is_seen(monkeypatch):
    block, called, call = make(), [], nn.Module.__call__
    monkeypatch.setattr(nn.Module, "__call__", lambda self, *args: called.append(type(self)) or call(self, *args))
    block(torch.randn(1, 16, 4, 4))
    assert {NDC, DeconvMixer, nn.GELU} <= set(called)


@needs_native
def test_an_upsampling_and_a_fusion_with_replaced_methods_are_called():
    form = torch.channels_last
    skip, x = torch.randn(1, 16, 32, 32).to(memory_format=form), torch.randn(1, 32, 16, 16).to(memory_format=form)
    up, fusion = ConvTranspose2d(32, 16, 2, stride=2), Conv2d(32, 16, 1, bias=False)
    expected, calls = join(skip, x, up, fusion), []
    for kind in (nn.ConvTranspose2d, nn.Conv2d):
        original = kind.forward
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "forward", lambda *args, f=original, kind=kind: calls.append(kind) or f(*args))
            torch.testing.assert_close(join(skip, x, up, fusion), expected, rtol=1e-4, atol=1e-4)
    assert calls == [nn.ConvTranspose2d, nn.Conv2d]
