"""Operators and layers in other code: symbolic tracing, subclasses of Tensor, vmap and batched gradients."""

import warnings

import pytest
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils._pytree import tree_leaves

import deconvseg
from deconvseg.nn import (
    DTC,
    NDC,
    DeconverBlock,
    DeconvMixer,
    FactorizerBlock,
    Mamba,
    NMFMixer,
    SiameseMamba,
    create_upsampling,
)
from deconvseg.nn.upsampling import upsample
from deconvseg.ops import explain, native, ndc_update
from nn.kinds import UPSAMPLINGS, takes_skip

CHANNELS = 16
LAYERS = {
    "NDC": lambda: NDC(CHANNELS, (3, 3)),
    "DeconvMixer": lambda: DeconvMixer(CHANNELS, (3, 3)),
    "DeconverBlock": lambda: DeconverBlock(CHANNELS, (3, 3)),
    "FactorizerBlock": lambda: FactorizerBlock(CHANNELS, (2, 2)),
    "DTC": lambda: DTC(CHANNELS, CHANNELS, (2, 3), 2, receptive_field="inf"),
    "dysample": lambda: create_upsampling("dysample", CHANNELS, CHANNELS, 2, 2),
    "pixelshuffle": lambda: create_upsampling("pixelshuffle", CHANNELS, 8, (1, 3), 2),
    "dtc+transposed": lambda: create_upsampling("dtc+transposed", CHANNELS, 8, 2, 2),
    "Mamba": lambda: Sequence(Mamba(CHANNELS)),
    "SiameseMamba": lambda: Sequence(SiameseMamba(CHANNELS)),
    "Deconver": lambda: deconvseg.Deconver(CHANNELS, 2, spatial_dims=2, widths=(16, 16)),
    "Factorizer": lambda: deconvseg.create_model(
        "factorizer", in_channels=CHANNELS, out_channels=2, spatial_dims=2, widths=(8, 8), window=2, image_size=8
    ),
}


class Sequence(nn.Module):
    """A layer over the positions of an image as a sequence."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.flatten(2)).unflatten(2, x.shape[2:])


class Tagged(Tensor):
    """A subclass that hands its tag on, as MONAI's MetaTensor does with its metadata."""

    tag = ""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(result, Tagged):
            result.tag = next((leaf.tag for leaf in tree_leaves(args) if isinstance(leaf, Tagged)), "")
        return result


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[request.param]().eval()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")


def image(batch: int = 2) -> Tensor:
    return torch.rand(batch, CHANNELS, 4, 8, generator=torch.Generator().manual_seed(0))


def assert_close(found: Tensor, expected: Tensor) -> None:
    # Another order of additions, whose size follows the largest value.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_a_symbolic_trace_computes_the_same_for_any_size(layer):
    traced = fx.symbolic_trace(layer)
    for x in (image(), torch.rand(1, CHANNELS, 8, 12)):
        assert_close(traced(x), layer(x))
    assert "deconvseg" in traced.code


@pytest.mark.parametrize("kind", UPSAMPLINGS)
def test_every_upsampling_is_traced_symbolically(kind):
    torch.manual_seed(0)
    kwargs = {"skip_channels": 3} if takes_skip(kind) else {}
    layer = create_upsampling(kind, CHANNELS, 8, 2, 3, **kwargs).eval()
    x, skip = torch.rand(1, CHANNELS, 2, 3, 4), torch.rand(1, 3, 4, 6, 8)
    if takes_skip(kind):
        assert_close(fx.symbolic_trace(layer)(x, skip), layer(x, skip))
    else:
        assert_close(fx.symbolic_trace(nn.Sequential(layer))(x), layer(x))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", UPSAMPLINGS)
def test_every_upsampling_keeps_the_order_in_memory(kind, last):
    form = torch.channels_last if last else torch.contiguous_format
    layer = create_upsampling(kind, CHANNELS, 8, 2, 2, skip_channels=3)
    x, skip = torch.rand(2, CHANNELS, 3, 4), torch.rand(2, 3, 6, 8)
    out = upsample(layer, x.to(memory_format=form), skip.to(memory_format=form))
    assert out.is_contiguous(memory_format=form)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_subclass_passes_its_type_and_tag_and_computes_the_same(layer, gradients):
    x = image()
    tagged = x.clone().as_subclass(Tagged)
    tagged.tag = "case 7"
    with torch.set_grad_enabled(gradients):
        result, expected = layer(tagged), layer(x)
    assert type(result) is Tagged
    assert result.tag == "case 7"
    assert torch.equal(result.as_subclass(Tensor), expected)


@pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")
def test_a_subclass_is_computed_by_the_kernels_and_explained_so(monkeypatch):
    x, source, filters = torch.rand(1, 4, 6, 6), torch.rand(1, 8, 6, 6), torch.rand(4, 2, 3, 3)
    tagged = x.as_subclass(Tagged)
    assert explain(ndc_update, tagged, source, filters, groups=4).choices[0][1].backend == "native"
    calls = []
    from deconvseg.ops.ndc import native as kernels

    update = kernels.update
    monkeypatch.setattr(kernels, "update", lambda *args: calls.append([type(a) for a in args[:3]]) or update(*args))
    ndc_update(tagged, source, filters, groups=4)
    assert calls == [[Tensor, Tensor, Tensor]]


def test_gradients_reach_a_subclass():
    block = DeconverBlock(CHANNELS, (3, 3))
    x = image().requires_grad_()
    tagged = image().as_subclass(Tagged).requires_grad_()
    block(x).square().sum().backward()
    block(tagged).square().sum().backward()
    assert x.grad is not None
    assert tagged.grad is not None
    assert torch.equal(tagged.grad.as_subclass(Tensor), x.grad)


def test_a_subclass_that_computes_itself_is_left_to_plain_pytorch():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x, source, filters = torch.rand(1, 4, 6, 6), torch.rand(1, 8, 6, 6), torch.rand(4, 2, 3, 3)
        choice = explain(ndc_update, x, source, filters, groups=4).choices[0][1]
        assert choice.backend == "reference"
        assert "subclasses that compute themselves" in choice.declined["native"]
        assert ndc_update(x, source, filters, groups=4).shape == source.shape


def test_samples_are_mapped(layer):
    x = image(3)
    expected = layer(x)
    with torch.no_grad():
        assert_close(vmap(lambda sample: layer(sample[None])[0])(x), expected)


def test_gradients_of_each_sample_are_mapped(layer):
    x = image(3)
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def loss(parameters, sample):  # type: ignore[no-untyped-def]
        return functional_call(layer, parameters, (sample[None],)).square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    layer(x[1:2]).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert_close(found[name][1], parameter.grad)


@pytest.mark.parametrize("how", ["is_grads_batched", "vectorize", "vmap"])
def test_several_gradients_at_once_are_those_one_after_the_other(layer, how):
    x = image(1).requires_grad_()

    def three(x: Tensor) -> Tensor:
        return layer(x).flatten()[:3]

    y, units = three(x), torch.eye(3)
    expected = torch.stack([torch.autograd.grad(y, x, unit, retain_graph=True)[0] for unit in units])
    if how == "is_grads_batched":
        (found,) = torch.autograd.grad(y, x, units, is_grads_batched=True)
    elif how == "vmap":
        found = vmap(lambda unit: torch.autograd.grad(y, x, unit, retain_graph=True)[0])(units)
    else:
        found = torch.autograd.functional.jacobian(three, x, vectorize=True)
    assert_close(found, expected)


def test_an_ensemble_of_stacked_weights_is_mapped():
    blocks = [DeconverBlock(CHANNELS, (3, 3)) for _ in range(3)]
    x, (parameters, buffers) = image(), stack_module_state(blocks)
    with torch.no_grad():
        found = vmap(lambda p, b: functional_call(blocks[0], (p, b), (x,)))(parameters, buffers)
        assert_close(found, torch.stack([block(x) for block in blocks]))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
def test_the_order_in_memory_is_that_of_the_input(layer, last, gradients):
    x = image().to(memory_format=torch.channels_last) if last else image()
    with torch.set_grad_enabled(gradients):
        out = layer(x)
    if isinstance(layer, deconvseg.models.Network):
        assert out.is_contiguous()  # logits, whatever the order of the image
    elif not (last and isinstance(layer, Sequence)):  # PyTorch has no order with the channels last for sequences
        assert out.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    if not last:
        out.view(2, -1)


def test_the_factorisation_keeps_the_order_in_memory():
    mixer = NMFMixer(CHANNELS, (2, 2))
    assert mixer(image()).is_contiguous()
    assert mixer(image().to(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)
