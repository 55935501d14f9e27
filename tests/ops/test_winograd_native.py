"""Convolutions by Winograd's minimal filtering against PyTorch's own."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.errors import InputError
from deconvseg.ops import native, use_backend
from deconvseg.ops.winograd import choose_winograd, packing, winograd_conv
from deconvseg.ops.winograd import native as kernels
from deconvseg.ops.winograd.packing import packed
from threads import assert_threads_change_nothing

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
CONV = {4: F.conv2d, 5: F.conv3d}


@given(
    st.sampled_from(((3, 3), (3, 3, 3), (1, 3, 3), (3, 1, 3), (3, 3, 1))).flatmap(
        lambda kernel: st.tuples(st.just(kernel), st.tuples(*(st.integers(1, 9) for _ in kernel)))
    ),
    st.tuples(st.sampled_from((16, 48)), st.sampled_from((16, 32, 80))),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_any_image_is_convolved_as_precisely_as_by_pytorch(shapes, channels, batch, biased, seed):
    (kernel, size), (read, written) = shapes, channels
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, read, *size), generator=generator)
    weight = torch.randn((written, read, *kernel), generator=generator)
    bias = torch.randn(written, generator=generator) if biased else None
    padding = [length // 2 for length in kernel]
    found = winograd_conv(x, weight, bias)
    assert found.is_contiguous(memory_format=LAST[x.ndim])
    conv = CONV[x.ndim]
    plain = conv(x, weight, bias, padding=padding)
    truth = conv(x.double(), weight.double(), None if bias is None else bias.double(), padding=padding)
    if truth.numel():
        # The transforms round too, at the size of the sum of all products; at a border PyTorch leaves some out.
        errors = [(each.double() - truth).square().mean().sqrt().item() for each in (found, plain)]
        size = math.sqrt(read * math.prod(kernel))
        assert errors[0] <= errors[1] + torch.finfo(torch.float32).eps * size


def test_the_number_of_threads_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 32, 20, 21, 22, generator=generator), torch.randn(32, 32, 3, 3, 3, generator=generator)
    assert_threads_change_nothing(lambda: [winograd_conv(x, weight)])


def test_what_the_kernels_do_not_take_pytorch_computes():
    weight, x = torch.randn(16, 16, 3, 3), torch.randn(1, 16, 6, 7)
    for other in (torch.randn(16, 16, 5, 5), torch.randn(16, 3, 3, 3), weight.double()):
        image = torch.randn(1, other.shape[1], 6, 7, dtype=other.dtype)
        expected = F.conv2d(image, other, padding=other.shape[-1] // 2)
        assert torch.equal(winograd_conv(image, other), expected)
        with pytest.raises(InputError, match="cannot be packed"):
            kernels.pack(other)
    with use_backend("reference"):
        assert torch.equal(winograd_conv(x, weight), F.conv2d(x, weight, padding=1))
    differentiated = x.clone().requires_grad_()
    assert "gradients" in str(choose_winograd(differentiated, weight))
    result = winograd_conv(differentiated, weight)
    assert torch.autograd.grad(result.sum(), differentiated)[0].shape == x.shape
    with torch.inference_mode():
        assert "inference mode" in str(choose_winograd(x, weight.clone()))


def test_changed_weights_are_packed_again_and_only_those():
    weight, x = torch.nn.Parameter(torch.randn(16, 16, 3, 3)), torch.randn(1, 16, 6, 7)

    def check():
        with torch.inference_mode():
            found = winograd_conv(x, weight)
            torch.testing.assert_close(found, F.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-4)

    check()
    assert packed(weight, kernels) is packed(weight, kernels)
    with torch.inference_mode():
        weight.mul_(2)
    check()
    with torch.no_grad():
        weight.copy_(torch.randn_like(weight))
    check()
    weight.data = torch.randn_like(weight)
    check()
    weight.data = weight.data.transpose(0, 1)
    check()
    for _ in range(3):
        # What was freed is likely to be at the address of what is made next, and as new.
        del weight
        weight = torch.nn.Parameter(torch.randn(16, 16, 3, 3))
        check()


def test_the_cache_ends_with_the_weights_and_copies_have_their_own():
    weight = torch.nn.Parameter(torch.randn(64, 64, 3, 3))
    before, transformed = len(packing._cache), packed(weight, kernels)
    size = len(pickle.dumps(weight))
    assert size < 1.1 * weight.nbytes
    other = copy.deepcopy(weight)
    assert torch.equal(packed(other, kernels), transformed)
    assert packed(other, kernels) is not transformed
    assert len(packing._cache) == before + 2
    del weight, other
    assert len(packing._cache) == before


def test_weights_of_inference_mode_are_not_cached():
    with torch.inference_mode():
        weight, x = torch.randn(16, 16, 3, 3), torch.randn(1, 16, 6, 7)
        for _ in range(2):
            found = torch.ops.deconvseg.winograd_conv(x, weight, None, "native")
            torch.testing.assert_close(found, F.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-4)
            weight.mul_(2)


def test_the_operator_of_torch_library():
    weight, x = torch.randn(32, 16, 3, 3), torch.randn(1, 16, 4, 5)
    operator = torch.ops.deconvseg.winograd_conv
    arguments = x, weight, torch.randn(32)
    torch.library.opcheck(operator.default, arguments, test_utils=("test_schema", "test_faketensor"))
    with pytest.raises(InputError, match="packed weights are not those"):
        operator(torch.randn(1, 32, 4, 5), weight, None)
