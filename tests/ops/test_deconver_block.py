"""The native Deconver block against the reference: values, gradients, threads, memory."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.ops import native
from deconvseg.ops.deconver_block import Weights, choose_block, deconver_block, reference
from deconvseg.ops.native import interface
from drawn import block_weights
from tolerance import assert_near, with_gradients

needs_native = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")


def usual_block(x, *weights):
    return deconver_block(x, Weights(*weights), eps=1e-8, norm_eps=1e-5)


@st.composite
def blocks(draw):
    dims = draw(st.sampled_from((2, 3)))
    size = draw(st.lists(st.sampled_from((1, 2, 3, 5, 7, 8, 11)), min_size=dims, max_size=dims))
    kernel = draw(st.lists(st.sampled_from((1, 3, 5, 7)), min_size=dims, max_size=dims))
    ratio, channels, hidden = (
        draw(st.sampled_from(values)) for values in ((1, 2, 4), (3, 8, 16, 24, 32, 48), (6, 16, 80))
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch = draw(st.integers(1, 2))
    x = torch.randn((batch, channels, *size), generator=generator) + draw(st.sampled_from((0.0, 3.0)))
    return x, block_weights(channels, ratio, kernel, hidden, generator), draw(st.sampled_from((0.0, 1e-8, 1e-2)))


@needs_native
@given(blocks())
@settings(deadline=None, max_examples=25, derandomize=True)
def test_values_are_as_near_to_the_truth_as_plain_pytorch(problem):
    x, weights, eps = problem
    assert choose_block(x, weights).backend == "native"
    exact = reference.block(x.double(), Weights(*(w.double() for w in weights)), eps, 1e-5)
    plain = reference.block(x, weights, eps, 1e-5)
    for threads in (1, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        found = deconver_block(x, weights, eps=eps, norm_eps=1e-5)
        torch.set_num_threads(before)
        assert_near([found], [plain], [exact])


CASES = {
    "2d": ((2, 32, 9, 13), (5, 5), 4, 128, 1e-8),
    "3d": ((2, 16, 6, 5, 11), (3, 3, 3), 4, 64, 1e-8),
    "3d, other kernels on every axis": ((1, 32, 5, 8, 9), (1, 5, 3), 2, 32, 1e-2),
    "3d, a large kernel": ((1, 16, 9, 3, 4), (7, 3, 7), 1, 16, 1e-8),
    "many planes": ((1, 16, 40, 16, 16), (3, 3, 3), 4, 64, 1e-8),
    "flat": ((1, 16, 1, 1, 24), (3, 3, 3), 4, 64, 1e-8),
    "no eps": ((1, 16, 4, 5, 6), (3, 3, 3), 4, 64, 0.0),
    "8 channels": ((2, 8, 9, 13), (3, 3), 4, 32, 1e-8),
    "channels and hidden ones that fill no vector": ((2, 21, 4, 3, 7), (3, 3, 3), 2, 27, 1e-8),
    "fewer channels than half a vector, no eps": ((1, 3, 5, 12), (5, 3), 1, 5, 0.0),
}


@needs_native
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_as_near_to_the_truth_as_plain_pytorch(case):
    shape, kernel, ratio, hidden, eps = case

    def by_kernels(x, *weights):
        return deconver_block(x, Weights(*weights), eps=eps, norm_eps=1e-5)

    def by_reference(x, *weights):
        return reference.block(x, Weights(*weights), eps, 1e-5)

    # Together over some problems: where the update divides by next to nothing, one value can decide a whole problem.
    mine, plain = torch.zeros(12), torch.zeros(12)
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        x, grad = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        tensors = (x, *block_weights(shape[1], ratio, kernel, hidden, generator))
        exact = with_gradients(by_reference, [tensor.double() for tensor in tensors], grad.double())
        for errors, function in ((mine, by_kernels), (plain, by_reference)):
            found = with_gradients(function, tensors, grad)
            errors += torch.tensor([(one - two).norm() / two.norm() for one, two in zip(found, exact, strict=True)])
    assert (mine <= 2 * plain + torch.finfo(torch.float32).eps).all(), (mine / plain).tolist()


@needs_native
def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(interface, "OPERATIONS_PER_THREAD", 1)
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(2, 32, 7, 11, 6, generator=generator), block_weights(32, 4, (3, 3, 3), 128, generator)
    results, before = [], torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(
            with_gradients(lambda x, *w: deconver_block(x, Weights(*w), eps=1e-8, norm_eps=1e-5), (x, *weights), x)
        )
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@needs_native
def test_second_derivatives_are_those_of_the_reference():
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(1, 16, 3, 4, generator=generator), block_weights(16, 2, (3, 3), 16, generator)

    def penalty(function):
        inputs = [tensor.clone().requires_grad_() for tensor in (x, *weights)]
        (slope,) = torch.autograd.grad(function(*inputs).square().sum(), inputs[0], create_graph=True)
        return torch.autograd.grad(slope.square().sum(), inputs[:-1])

    by_kernels = penalty(lambda x, *w: deconver_block(x, Weights(*w), eps=1e-3, norm_eps=1e-5))
    for one, two in zip(by_kernels, penalty(lambda x, *w: reference.block(x, Weights(*w), 1e-3, 1e-5)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4 * two.abs().max().item())


@needs_native
def test_layouts_and_strides_change_nothing():
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(2, 16, 4, 6, 5, generator=generator), block_weights(16, 4, (3, 3, 3), 64, generator)
    expected = deconver_block(x, weights, eps=1e-8, norm_eps=1e-5)
    assert expected.is_contiguous(memory_format=torch.channels_last_3d)
    sliced = torch.randn(2, 20, 4, 12, 5)
    sliced[:, 2:18, :, ::2] = x
    last = x.contiguous(memory_format=torch.channels_last_3d)
    transposed = x.transpose(2, 4).contiguous().transpose(2, 4)
    for other in (last, sliced[:, 2:18, :, ::2], transposed):
        assert torch.equal(deconver_block(other, weights, eps=1e-8, norm_eps=1e-5), expected)
    strange = Weights(*(torch.stack([weight, weight], -1)[..., 0] for weight in weights))
    gc.collect()
    assert torch.equal(deconver_block(x, strange, eps=1e-8, norm_eps=1e-5), expected)


@needs_native
def test_an_empty_batch_gives_an_empty_result_and_zero_gradients():
    weights = block_weights(16, 4, (3, 3), 64, torch.Generator().manual_seed(0))
    result, *gradients = with_gradients(
        usual_block,
        (torch.empty(0, 16, 4, 4), *weights),
        torch.empty(0, 16, 4, 4),
    )
    assert result.shape == (0, 16, 4, 4)
    assert all((gradient == 0).all() for gradient in gradients)


@needs_native
@pytest.mark.parametrize(
    ("channels", "ratio", "kernel", "reason"),
    [
        (15, 4, (3, 3), "the shapes of the weights"),
        (16, 3, (3, 3), "1, 2 or 4 source channels"),
        (16, 4, (3, 4), "of odd sizes"),
        (16, 4, (17, 3), "kernel size 17 is over 15"),
    ],
)
def test_what_the_kernels_do_not_take_is_declined_with_the_reason(channels, ratio, kernel, reason):
    weights = block_weights(16, ratio, kernel, 64, torch.Generator().manual_seed(0))
    choice = choose_block(torch.randn(1, channels, 4, 4), weights)
    assert choice.backend == "reference"
    assert reason in choice.declined["native"]


@needs_native
def test_operators_are_registered_as_pytorch_wants_them():
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(1, 16, 3, 4, generator=generator), block_weights(16, 2, (3, 3), 16, generator)
    tensors = [tensor.requires_grad_() for tensor in (x, *weights)]
    torch.library.opcheck(torch.ops.deconvseg.deconver_block.default, (*tensors, 1e-3, 1e-5, True))


def test_the_reference_is_the_layer():
    from deconvseg.nn import DeconverBlock
    from deconvseg.ops import use_backend

    block = DeconverBlock(6, (3, 5), ratio=2, mlp_ratio=3).double()
    x = torch.randn(2, 6, 5, 4).double()
    with use_backend("reference"):
        torch.testing.assert_close(reference.block(x, block._weights(), 1e-8, 1e-5), block(x))
