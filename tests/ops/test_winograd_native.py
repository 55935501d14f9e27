"""Convolutions by Winograd's minimal filtering against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.errors import InputError
from deconvseg.ops import native, use_backend
from deconvseg.ops.winograd import choose_winograd, pack_weight, winograd_conv

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
CONV = {4: F.conv2d, 5: F.conv3d}


@given(
    st.sampled_from(((3, 3), (3, 3, 3), (1, 3, 3))).flatmap(
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
    found = winograd_conv(x, weight, pack_weight(weight), bias)
    assert found.is_contiguous(memory_format=LAST[x.ndim])
    conv = CONV[x.ndim]
    plain = conv(x, weight, bias, padding=padding)
    truth = conv(x.double(), weight.double(), None if bias is None else bias.double(), padding=padding)
    if truth.numel():
        # The transforms round too; PyTorch's sum of a few products may not round at all.
        errors = [(each.double() - truth).square().mean().sqrt().item() for each in (found, plain)]
        assert errors[0] <= 2 * errors[1] + 4 * torch.finfo(torch.float32).eps * truth.abs().max().item()


def test_the_number_of_threads_changes_nothing():
    generator, before = torch.Generator().manual_seed(0), torch.get_num_threads()
    x, weight = torch.randn(1, 32, 20, 21, 22, generator=generator), torch.randn(32, 32, 3, 3, 3, generator=generator)
    packed, results = pack_weight(weight), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(winograd_conv(x, weight, packed))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_what_the_kernels_do_not_take_pytorch_computes():
    weight, x = torch.randn(16, 16, 3, 3), torch.randn(1, 16, 6, 7)
    packed = pack_weight(weight)
    assert pack_weight(torch.randn(16, 16, 5, 5)) is None
    assert pack_weight(torch.randn(16, 3, 3, 3)) is None
    assert pack_weight(weight.double()) is None
    plain = F.conv2d(x, weight, padding=1)
    with use_backend("reference"):
        assert torch.equal(winograd_conv(x, weight, packed), plain)
    assert torch.equal(winograd_conv(x, weight, None), plain)
    differentiated = x.clone().requires_grad_()
    assert "gradients" in str(choose_winograd(differentiated, weight))
    assert torch.autograd.grad(winograd_conv(differentiated, weight, packed).sum(), differentiated)[0].shape == x.shape


def test_the_operator_of_torch_library():
    weight, x = torch.randn(32, 16, 3, 3), torch.randn(1, 16, 4, 5)
    operator = torch.ops.deconvseg.winograd_conv
    arguments = x, pack_weight(weight), torch.randn(32), 32, [3, 3]
    torch.library.opcheck(operator.default, arguments, test_utils=("test_schema", "test_faketensor"))
    with pytest.raises(InputError, match="packed weights are not those"):
        operator(*arguments[:3], 64, [3, 3])
