"""The native Deconver block in float32 and bfloat16 against the reference: values, gradients, threads, memory."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.errors import InputError
from deconvseg.ops import native
from deconvseg.ops.deconver_block import Weights, choose_block, deconver_block, reference
from drawn import block_weights
from threads import assert_threads_change_nothing
from tolerance import assert_near, with_gradients

needs_native = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")
needs_bfloat16 = pytest.mark.skipif(native.why_no_bfloat16() is not None, reason=f"{native.why_no_bfloat16()}")
# The type of images, with its mark; parameters are float32.
DTYPES = {torch.float32: needs_native, torch.bfloat16: needs_bfloat16}
in_both = pytest.mark.parametrize(
    "dtype", [pytest.param(dtype, marks=mark, id=str(dtype).removeprefix("torch.")) for dtype, mark in DTYPES.items()]
)
# Source channels per channel that the kernels take.
RATIOS = {torch.float32: (1, 2, 4), torch.bfloat16: (2, 4)}


def by_kernels(eps=1e-8):
    """The block as a function of tensors, under autocast for images in bfloat16."""

    def block(x, *weights):
        with autocast(x):
            return deconver_block(x, Weights(*weights), eps=eps, norm_eps=1e-5)

    return block


def by_reference(eps=1e-8):
    def block(x, *weights):
        with autocast(x):
            return reference.block(x, Weights(*weights), eps, 1e-5)

    return block


def autocast(x):
    return torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16)


def draw_tensors(shape, kernel, ratio, hidden, dtype=torch.float32, seed=0):
    """An image, and the weights of a block."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    return x.to(dtype), *block_weights(shape[1], ratio, kernel, hidden, generator)


@st.composite
def blocks(draw, dtype):
    dims = draw(st.sampled_from((2, 3)))
    size = draw(st.lists(st.sampled_from((1, 2, 3, 5, 8, 11, 19)), min_size=dims, max_size=dims))
    kernel = draw(st.lists(st.sampled_from((1, 3, 5, 7)), min_size=dims, max_size=dims))
    ratio, channels, hidden = (
        draw(st.sampled_from(values)) for values in (RATIOS[dtype], (3, 8, 16, 20, 24, 33, 48), (6, 7, 16, 80))
    )
    shape = (draw(st.integers(1, 2)), channels, *size)
    x, *weights = draw_tensors(shape, kernel, ratio, hidden, seed=draw(st.integers(0, 2**31)))
    # Without eps, plain PyTorch's quotients in bfloat16 are often not finite.
    eps = draw(st.sampled_from((0.0, 1e-8, 1e-2) if dtype == torch.float32 else (1e-8, 1e-2)))
    return (x + draw(st.sampled_from((0.0, 3.0)))).to(dtype), weights, eps


@in_both
@given(st.data())
@settings(deadline=None, max_examples=25, derandomize=True)
def test_values_are_as_near_to_the_truth_as_plain_pytorch(dtype, data):
    x, weights, eps = data.draw(blocks(dtype))
    with autocast(x):
        assert choose_block(x, Weights(*weights)).computed == f"native{' in bfloat16' * (dtype == torch.bfloat16)}"
    exact, plain = by_reference(eps)(x.double(), *(w.double() for w in weights)), by_reference(eps)(x, *weights)
    found = by_kernels(eps)(x, *weights)
    assert found.dtype == dtype
    # An ulp of bfloat16 is as large as its error: nothing is added to twice plain PyTorch's.
    assert_near([found], [plain], [exact], ulps=1 if dtype == torch.float32 else 0)


@needs_bfloat16
@given(blocks(torch.bfloat16))
@settings(deadline=None, max_examples=10, derandomize=True)
def test_the_weights_of_a_float32_model_are_rounded_as_those_of_a_bfloat16_model(problem):
    x, weights, eps = problem
    lowered = [weight.bfloat16() for weight in weights]
    of_model = deconver_block(x, Weights(*lowered), eps=eps, norm_eps=1e-5)
    assert of_model.dtype == torch.bfloat16
    # Biases are added in float32.
    rounded = (w if w.ndim > 1 else low.float() for w, low in zip(weights, lowered, strict=True))
    assert torch.equal(of_model, by_kernels(eps)(x, *rounded))


CASES = {
    "2d": ((2, 32, 9, 13), (5, 5), 4, 128, 1e-8),
    "3d": ((2, 16, 6, 5, 11), (3, 3, 3), 4, 64, 1e-8),
    "3d, other kernels on every axis": ((1, 32, 5, 8, 9), (1, 5, 3), 2, 32, 1e-2),
    "3d, a large kernel": ((1, 16, 9, 3, 4), (7, 3, 7), 4, 16, 1e-8),
    "3d, one source for each channel": ((1, 16, 9, 3, 4), (7, 3, 7), 1, 16, 1e-8),
    "many planes": ((1, 16, 20, 16, 16), (3, 3, 3), 4, 64, 1e-8),
    "flat": ((1, 16, 1, 1, 24), (3, 3, 3), 4, 64, 1e-8),
    "no eps": ((1, 16, 4, 5, 6), (3, 3, 3), 4, 64, 0.0),
    "8 channels": ((2, 8, 9, 13), (3, 3), 4, 32, 1e-8),
    "channels and hidden ones that fill no vector": ((2, 21, 4, 3, 7), (3, 3, 3), 2, 27, 1e-8),
    "a few more than fill vectors": ((2, 41, 9, 13), (5, 5), 2, 35, 1e-8),
    "half a vector of channels, two sources": ((2, 5, 4, 9), (3, 5), 2, 20, 1e-2),
    "half a vector of channels, no eps": ((1, 4, 3, 4, 17), (3, 3, 3), 4, 16, 0.0),
    "fewer channels than half a vector, no eps": ((1, 3, 5, 12), (5, 3), 1, 5, 0.0),
}


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, marks=mark, id=f"{name}, {str(dtype).removeprefix('torch.')}")
        for name, case in CASES.items()
        for dtype, mark in DTYPES.items()
        if case[2] in RATIOS[dtype] and (case[-1] > 0 or dtype == torch.float32)
    ],
)
def test_gradients_are_as_near_to_the_truth_as_plain_pytorch(case, dtype):
    shape, kernel, ratio, hidden, eps = case
    # The median of some problems: where the update divides by next to nothing, one value can decide a whole problem.
    mine, plain = [], []
    for seed in range(9):
        tensors = draw_tensors(shape, kernel, ratio, hidden, dtype, seed)
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 100)).to(dtype)
        exact = with_gradients(by_reference(eps), [tensor.double() for tensor in tensors], grad.double())
        for errors, function in ((mine, by_kernels(eps)), (plain, by_reference(eps))):
            found = with_gradients(function, tensors, grad)
            assert [each.dtype for each in found] == [dtype] * 2 + [torch.float32] * 10
            errors.append([(one - two).norm() / two.norm() for one, two in zip(found, exact, strict=True)])
    found, allowed = (torch.tensor(errors).median(0).values for errors in (mine, plain))
    assert (found <= 2 * allowed + torch.finfo(torch.float32).eps).all(), (found / allowed).tolist()


@in_both
@pytest.mark.parametrize("size", [(9, 13), (4, 5, 9)], ids=["2d", "3d"])
@pytest.mark.parametrize(("channels", "ratio"), [(8, 4), (6, 4), (3, 4), (5, 2)])
def test_channels_that_share_a_vector_give_the_same_as_in_vectors_of_their_own(channels, ratio, size, dtype):
    whole = 24
    tensors = draw_tensors((2, channels, *size), (3,) * len(size), ratio, 22, dtype)
    shapes = [tensor.shape for tensor in draw_tensors((2, whole, *size), (3,) * len(size), ratio, 22)]
    # Further channels of zeros fill the vectors; those of sources follow, because a channel's sources are neighbours.
    wide = [widened(tensor, shape) for tensor, shape in zip(tensors, shapes, strict=True)]
    found = with_gradients(by_kernels(), tensors, tensors[0])
    expected = with_gradients(by_kernels(), wide, wide[0])
    for one, two in zip(found, expected, strict=True):
        two = two[tuple(slice(length) for length in one.shape)].float()
        assert (one.float() - two).norm() <= (1e-3 if dtype == torch.bfloat16 else 1e-4) * two.norm()


def widened(tensor, shape):
    """The tensor in the first corner of zeros."""
    result = tensor.new_zeros(shape)
    result[tuple(slice(length) for length in tensor.shape)] = tensor
    return result


@in_both
@pytest.mark.parametrize("image", [torch.zeros, torch.ones, torch.randn], ids=["zeros", "constant", "random"])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e6])
def test_no_value_is_ever_nan(image, scale, dtype):
    torch.manual_seed(0)
    _, *weights = draw_tensors((1, 16, 1, 1, 1), (3, 3, 3), 4, 64)
    x, usual = (image(1, 16, 4, 5, 6) * scale).to(dtype), Weights(*weights)
    empty = usual._replace(filters=-usual.filters.abs(), source_bias=-10 * usual.source_bias.abs())
    for given_weights in (usual, empty):
        for eps in (0.0, 1e-8):
            assert all(each.isfinite().all() for each in with_gradients(by_kernels(eps), (x, *given_weights), x))


@needs_bfloat16
def test_a_bfloat16_model_has_bfloat16_gradients():
    lowered = [tensor.bfloat16() for tensor in draw_tensors((1, 16, 5, 6), (3, 3), 4, 64)]

    def block(x, *weights):
        return deconver_block(x, Weights(*weights), eps=1e-8, norm_eps=1e-5)

    found = with_gradients(block, lowered, lowered[0])
    full = with_gradients(block, [tensor.float() for tensor in lowered], lowered[0].float())
    for one, two in zip(found, full, strict=True):
        assert one.dtype == torch.bfloat16
        assert (one.float() - two).norm() <= 0.1 * two.norm()


@in_both
def test_the_number_of_threads_changes_nothing(dtype):
    x, *weights = draw_tensors((2, 32, 7, 11, 6), (3, 3, 3), 4, 128, dtype)
    assert_threads_change_nothing(lambda: with_gradients(by_kernels(), (x, *weights), x))


@needs_native
def test_second_derivatives_are_those_of_the_reference():
    tensors = draw_tensors((1, 16, 3, 4), (3, 3), 2, 16)

    def penalty(function):
        inputs = [tensor.clone().requires_grad_() for tensor in tensors]
        (slope,) = torch.autograd.grad(function(*inputs).square().sum(), inputs[0], create_graph=True)
        return torch.autograd.grad(slope.square().sum(), inputs[:-1])

    for one, two in zip(penalty(by_kernels(1e-3)), penalty(by_reference(1e-3)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4 * two.abs().max().item())


@in_both
def test_layouts_and_strides_change_nothing(dtype):
    x, *weights = draw_tensors((2, 16, 4, 6, 5), (3, 3, 3), 4, 64, dtype)
    expected = by_kernels()(x, *weights)
    assert expected.is_contiguous(memory_format=torch.channels_last_3d)
    sliced = torch.randn(2, 20, 4, 12, 5).to(dtype)
    sliced[:, 2:18, :, ::2] = x
    last = x.contiguous(memory_format=torch.channels_last_3d)
    transposed = x.transpose(2, 4).contiguous().transpose(2, 4)
    for other in (last, sliced[:, 2:18, :, ::2], transposed):
        assert torch.equal(by_kernels()(other, *weights), expected)
    strange = [torch.stack([weight, weight], -1)[..., 0] for weight in weights]
    gc.collect()
    assert torch.equal(by_kernels()(x, *strange), expected)


@in_both
def test_an_empty_batch_gives_an_empty_result_and_zero_gradients(dtype):
    x, *weights = draw_tensors((0, 16, 4, 4), (3, 3), 4, 64, dtype)
    result, *gradients = with_gradients(by_kernels(), (x, *weights), x)
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
    _, *weights = draw_tensors((1, 16, 4, 4), kernel, ratio, 64)
    choice = choose_block(torch.randn(1, channels, 4, 4), Weights(*weights))
    assert choice.backend == "reference"
    assert reason in choice.declined["native"]


@needs_bfloat16
def test_one_source_for_each_channel_is_left_to_the_layers_in_bfloat16():
    x, *weights = draw_tensors((1, 16, 4, 4, 4), (3, 3, 3), 1, 64, torch.bfloat16)
    with autocast(x):
        assert "two source channels" in choose_block(x, Weights(*weights)).declined["native"]
        with pytest.raises(InputError, match="two source channels"):
            deconver_block(x, Weights(*weights), eps=1e-8, norm_eps=1e-5)


@needs_native
def test_operators_are_registered_as_pytorch_wants_them():
    tensors = [tensor.requires_grad_() for tensor in draw_tensors((1, 16, 3, 4), (3, 3), 2, 16)]
    torch.library.opcheck(torch.ops.deconvseg.deconver_block.default, (*tensors, 1e-3, 1e-5, True))


def test_the_reference_is_the_layer():
    from deconvseg.nn import DeconverBlock
    from deconvseg.ops import use_backend

    block = DeconverBlock(6, (3, 5), ratio=2, mlp_ratio=3).double()
    x = torch.randn(2, 6, 5, 4).double()
    with use_backend("reference"):
        torch.testing.assert_close(reference.block(x, block._weights(), 1e-8, 1e-5), block(x))
