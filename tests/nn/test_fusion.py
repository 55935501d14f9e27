"""A Deconver block computed as one operator: the same results, and never behind anybody's back."""

import pytest
import torch
from torch import nn

from deconvseg.nn import DeconverBlock, DeconvMixer
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
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "autocast" in reason(make())


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
