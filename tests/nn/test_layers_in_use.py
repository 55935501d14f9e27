"""Layers that are computed as one operator, as other code uses them: always what the layers one by one give."""

import copy
import pickle
import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from deconvseg.nn import DeconverBlock, Mamba, SiameseMamba
from deconvseg.nn.factorizer import FactorizerBlock
from deconvseg.nn.mamba import SCAN_DIRECTIONS
from deconvseg.ops import use_backend

KINDS = {
    "block2d": (lambda: DeconverBlock(16, 3, spatial_dims=2), (6, 5)),
    "block3d": (lambda: DeconverBlock(16, 3, spatial_dims=3), (4, 5, 3)),
    "mamba": (lambda: Mamba(8, SCAN_DIRECTIONS, 2), (12,)),
    "siamese": (lambda: SiameseMamba(8), (7,)),
    "factorizer": (lambda: FactorizerBlock(16, 2, spatial_dims=2), (6, 4)),
}


@pytest.fixture(params=KINDS)
def case(request):
    """A layer, and a batch for it."""
    torch.manual_seed(0)
    make, size = KINDS[request.param]
    layer = make()
    return layer, torch.randn(2, layer.norm1.channels if "block" in request.param else _channels(layer), *size)


def _channels(layer):
    ends = ("in_proj.weight", "norm1.weight")
    return next(weight.shape[-1] for name, weight in layer.named_parameters() if name.endswith(ends))


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * max(1e-6, expected.abs().max().item()))


def by_layers(layer, x):
    with torch.no_grad(), use_backend("reference"):
        return layer(x)


def gradients(layer, x):
    layer.zero_grad()
    x = x.clone().requires_grad_()
    layer(x).square().sum().backward()
    return [x.grad, *(parameter.grad for parameter in layer.parameters())]


def all_near(found, expected):
    largest = max(gradient.abs().max().item() for gradient in expected if gradient is not None)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * largest)


@torch.no_grad()
def test_copies_and_pickles_give_the_same(case):
    layer, x = case
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)  # noqa: S301 - our own


def test_weights_written_in_any_way_are_used(case):
    layer, x = case
    with torch.no_grad():
        layer(x)
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        near(layer(x), by_layers(layer, x))
        for parameter in layer.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
        near(layer(x), by_layers(layer, x))
        layer.load_state_dict({name: value * 1.5 for name, value in layer.state_dict().items()}, assign=True)
        near(layer(x), by_layers(layer, x))
        near(layer.double()(x.double()).float(), by_layers(layer.float(), x))


def test_what_ran_in_inference_mode_trains(case):
    layer, x = case
    with torch.inference_mode():
        layer(x)
    found = gradients(layer, x)
    with use_backend("reference"):
        all_near(found, gradients(layer, x))


def test_partly_frozen_checkpointed_and_deterministic_training_has_the_same_gradients(case):
    layer, x = case
    for index, parameter in enumerate(layer.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    found = gradients(layer, x)
    with use_backend("reference"):
        all_near(found, gradients(layer, x))
    for reentrant in (False, True):
        layer.zero_grad()
        image = x.clone().requires_grad_()
        checkpoint(layer, image, use_reentrant=reentrant).square().sum().backward()
        all_near([image.grad, *(parameter.grad for parameter in layer.parameters())], found)
    torch.use_deterministic_algorithms(True)
    try:
        again = gradients(layer, x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(one is other or torch.equal(one, other) for one, other in zip(again, found, strict=True))


def test_second_derivatives_are_those_of_the_layers(case):
    layer, x = case
    results = []
    for backend in (None, "reference"):
        layer.zero_grad()
        image = x.clone().requires_grad_()
        with use_backend(backend) if backend else torch.enable_grad():
            (first,) = torch.autograd.grad(layer(image).square().mean(), image, create_graph=True)
            first.square().sum().backward()
        results.append([image.grad, *(parameter.grad for parameter in layer.parameters())])
    all_near(*results)


def test_empty_expanded_strided_and_single_samples(case):
    layer, x = case
    empty = x[:0].requires_grad_()
    layer(empty).sum().backward()
    assert empty.grad.shape == x[:0].shape
    with torch.no_grad():
        assert layer(x[:0]).shape == x[:0].shape
        near(layer(x[1:]), layer(x)[1:])
        near(layer(x[:1].expand_as(x)), layer(x[:1]).expand_as(x))
        strided = torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0]
        near(layer(strided), layer(x))
    one = x[:1].clone().requires_grad_()
    layer(one.expand_as(x)).square().sum().backward()
    near(one.grad, 2 * gradients(layer, x[:1])[0])


@torch.no_grad()
def test_threads_may_share_a_layer(case):
    layer, x = case
    images, found = [x + number for number in range(4)], {}
    expected = [layer(image) for image in images]
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: [torch.no_grad()(layer)(images[n]) for _ in range(5)]}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, expected[n]) for n in range(4) for result in found[n])
