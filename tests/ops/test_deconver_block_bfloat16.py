"""The Deconver block in bfloat16 against float64, within twice the error of plain PyTorch in bfloat16."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.ops import native
from deconvseg.ops.deconver_block import Weights, choose_block, deconver_block, reference
from deconvseg.ops.native import interface
from drawn import block_weights
from tolerance import with_gradients

pytestmark = pytest.mark.skipif(native.why_no_bfloat16() is not None, reason=f"{native.why_no_bfloat16()}")


@st.composite
def blocks(draw):
    dims = draw(st.sampled_from((2, 3)))
    size = draw(st.lists(st.sampled_from((1, 2, 3, 5, 8, 11, 19)), min_size=dims, max_size=dims))
    kernel = draw(st.lists(st.sampled_from((1, 3, 5, 7)), min_size=dims, max_size=dims))
    ratio, channels, hidden = (draw(st.sampled_from(values)) for values in ((2, 4), (8, 16, 20, 33, 48), (7, 16, 80)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn((draw(st.integers(1, 2)), channels, *size), generator=generator) + draw(st.sampled_from((0.0, 3.0)))
    return x.bfloat16(), block_weights(channels, ratio, kernel, hidden, generator), draw(st.sampled_from((1e-8, 1e-2)))


def distance(found, exact):
    return (found.double() - exact).norm().item()


@given(blocks())
@settings(deadline=None, max_examples=25, derandomize=True)
def test_values_are_as_near_to_the_truth_as_plain_pytorch_in_bfloat16(problem):
    x, weights, eps = problem
    exact = reference.block(x.double(), Weights(*(w.double() for w in weights)), eps, 1e-5)
    lowered = Weights(*(w.bfloat16() for w in weights))
    with torch.autocast("cpu", torch.bfloat16):
        assert choose_block(x, weights).computed == "native in bfloat16"
        plain = reference.block(x, weights, eps, 1e-5)
        found = deconver_block(x, weights, eps=eps, norm_eps=1e-5)
    of_model = deconver_block(x, lowered, eps=eps, norm_eps=1e-5)
    assert found.dtype == of_model.dtype == torch.bfloat16
    assert distance(found, exact) <= 2 * distance(plain, exact)
    # Kernels round the weights of a float32 model as `.bfloat16()` does.
    biases = Weights(*(w if w.ndim > 1 else low.float() for w, low in zip(weights, lowered, strict=True)))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(of_model, deconver_block(x, biases, eps=eps, norm_eps=1e-5))


@pytest.mark.parametrize("image", [torch.zeros, torch.ones, torch.randn], ids=["zeros", "constant", "random"])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e6])
def test_no_value_is_ever_nan(image, scale):
    generator = torch.Generator().manual_seed(0)
    x = (image(1, 16, 4, 5, 6) * scale).bfloat16()
    weights = block_weights(16, 4, (3, 3, 3), 64, generator)
    empty = weights._replace(filters=-weights.filters.abs(), source_bias=-10 * weights.source_bias.abs())
    for given_weights in (weights, empty):
        for eps in (0.0, 1e-8):
            with torch.autocast("cpu", torch.bfloat16):
                found = with_gradients(
                    lambda x, *w, eps=eps: deconver_block(x, Weights(*w), eps=eps, norm_eps=1e-5),
                    (x, *given_weights),
                    x,
                )
            assert all(each.isfinite().all() for each in found)


CASES = {
    "2d": ((2, 32, 9, 13), (5, 5), 4, 128, 1e-8),
    "3d": ((2, 16, 6, 5, 11), (3, 3, 3), 4, 64, 1e-8),
    "3d, other kernels on every axis": ((1, 32, 5, 8, 9), (1, 5, 3), 2, 32, 1e-2),
    "3d, a large kernel": ((1, 16, 9, 3, 4), (7, 3, 7), 4, 16, 1e-8),
    "many planes": ((1, 16, 20, 16, 16), (3, 3, 3), 4, 64, 1e-8),
    "flat": ((1, 16, 1, 1, 24), (3, 3, 3), 4, 64, 1e-8),
    "padded channels": ((1, 9, 6, 7, 13), (3, 3, 3), 4, 23, 1e-8),
    "more padded channels": ((2, 41, 9, 13), (5, 5), 2, 35, 1e-8),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_as_near_to_the_truth_as_plain_pytorch_in_bfloat16(case):
    shape, kernel, ratio, hidden, eps = case

    def by_kernels(x, *weights):
        with torch.autocast("cpu", torch.bfloat16):
            return deconver_block(x, Weights(*weights), eps=eps, norm_eps=1e-5)

    def by_reference(x, *weights):
        with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
            return reference.block(x, Weights(*weights), eps, 1e-5)

    # The median of some problems: where the update divides by next to nothing, one value can decide a whole problem.
    mine, plain = [], []
    for seed in range(9):
        generator = torch.Generator().manual_seed(seed)
        x, grad = (torch.randn(shape, generator=generator).bfloat16() for _ in range(2))
        tensors = (x, *block_weights(shape[1], ratio, kernel, hidden, generator))
        exact = with_gradients(by_reference, [tensor.double() for tensor in tensors], grad.double())
        for errors, function in ((mine, by_kernels), (plain, by_reference)):
            found = with_gradients(function, tensors, grad)
            assert [each.dtype for each in found] == [torch.bfloat16] * 2 + [torch.float32] * 10
            errors.append([distance(one, two) / two.norm().item() for one, two in zip(found, exact, strict=True)])
    found, allowed = (torch.tensor(errors).median(0).values for errors in (mine, plain))
    assert (found <= 2 * allowed).all(), (found / allowed).tolist()


def test_a_bfloat16_model_has_bfloat16_gradients():
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(1, 16, 5, 6, generator=generator), block_weights(16, 4, (3, 3), 64, generator)
    lowered = [tensor.bfloat16() for tensor in (x, *weights)]

    def block(x, *weights):
        return deconver_block(x, Weights(*weights), eps=1e-8, norm_eps=1e-5)

    found = with_gradients(block, lowered, lowered[0])
    full = with_gradients(block, [tensor.float() for tensor in lowered], lowered[0].float())
    for one, two in zip(found, full, strict=True):
        assert one.dtype == torch.bfloat16
        assert distance(one, two.double()) <= 0.1 * two.norm()


def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(interface, "OPERATIONS_PER_THREAD", 1)
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(2, 32, 7, 11, 6, generator=generator), block_weights(32, 4, (3, 3, 3), 128, generator)
    results, before = [], torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        with torch.autocast("cpu", torch.bfloat16):
            results.append(
                with_gradients(
                    lambda x, *w: deconver_block(x, Weights(*w), eps=1e-8, norm_eps=1e-5), (x, *weights), x.bfloat16()
                )
            )
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_one_source_for_each_channel_is_left_to_the_layers():
    weights = block_weights(16, 1, (3, 3, 3), 64, torch.Generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert "two source channels" in choose_block(torch.randn(1, 16, 4, 4, 4), weights).declined["native"]
