"""The Deconver block in bfloat16 against float64, within twice the error of plain PyTorch in bfloat16."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.ops import native
from deconvseg.ops.deconver_block import Weights, choose_block, deconver_block, reference
from deconvseg.ops.native import interface
from drawn import block_weights

pytestmark = pytest.mark.skipif(native.why_no_bfloat16() is not None, reason=f"{native.why_no_bfloat16()}")


@st.composite
def blocks(draw):
    dims = draw(st.sampled_from((2, 3)))
    size = draw(st.lists(st.sampled_from((1, 2, 3, 5, 8, 11, 19)), min_size=dims, max_size=dims))
    kernel = draw(st.lists(st.sampled_from((1, 3, 5, 7)), min_size=dims, max_size=dims))
    ratio, channels, hidden = (draw(st.sampled_from(values)) for values in ((2, 4), (16, 32, 48), (16, 80)))
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
                assert deconver_block(x, given_weights, eps=eps, norm_eps=1e-5).isfinite().all()


def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(interface, "OPERATIONS_PER_THREAD", 1)
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(2, 32, 7, 11, 6, generator=generator), block_weights(32, 4, (3, 3, 3), 128, generator)
    results, before = [], torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        with torch.autocast("cpu", torch.bfloat16):
            results.append(deconver_block(x, weights, eps=1e-8, norm_eps=1e-5))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_one_source_for_each_channel_is_left_to_the_layers():
    weights = block_weights(16, 1, (3, 3, 3), 64, torch.Generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert "two source channels" in choose_block(torch.randn(1, 16, 4, 4, 4), weights).declined["native"]
