"""Instance normalisation: the kernels against float64, and what they leave to plain PyTorch."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.nn.norm import AffineInstanceNorm, InstanceNorm
from deconvseg.ops import explain, instance_norm, native, use_backend
from deconvseg.ops.instance_norm import choose_norm, instance_norm_
from threads import assert_threads_change_nothing

needs_native = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def exact(x: Tensor, weight: Tensor | None, bias: Tensor | None, slope: float | None) -> Tensor:
    values = x.double().flatten(2)
    mean = values.mean(2, keepdim=True)
    out = (values - mean) / ((values - mean).square().mean(2, keepdim=True) + 1e-5).sqrt()
    if weight is not None and bias is not None:
        out = out * weight.double()[:, None] + bias.double()[:, None]
    return F.leaky_relu(out, 1.0 if slope is None else slope).view_as(x)


@st.composite
def images(draw: st.DrawFn) -> tuple[Tensor, Tensor | None, Tensor | None, float | None]:
    """Images in any order of memory, with means far from zero, and what is done with them."""
    dims = draw(st.integers(1, 3))
    size = draw(st.lists(st.integers(1, 24), min_size=dims, max_size=dims))
    channels, batch = draw(st.sampled_from((1, 2, 5, 16, 17, 40))), draw(st.integers(0, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn((batch, channels, *size), generator=generator) + draw(st.sampled_from((0.0, 2.0, -20.0)))
    order = draw(st.sampled_from(("contiguous", "channels last", "transposed")))
    if order == "channels last" and dims > 1:
        x = x.contiguous(memory_format=LAST[x.ndim])
    if order == "transposed":
        x = x.transpose(-1, -2) if dims > 1 else x.expand(batch, channels, *size)
    weight, bias = (torch.randn(channels, generator=generator) for _ in range(2))
    affine = draw(st.booleans())
    return x, weight if affine else None, bias if affine else None, draw(st.sampled_from((None, 0.0, 0.01)))


@needs_native
@given(images())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_any_image_is_normalised_to_rounding(
    problem: tuple[Tensor, Tensor | None, Tensor | None, float | None],
) -> None:
    x, weight, bias, slope = problem
    truth = exact(x, weight, bias, slope)
    found = instance_norm(x, weight, bias, negative_slope=slope)
    assert choose_norm(x, weight, bias).backend == "native"
    # A mean of twenty deviations is rounded twenty times as coarsely.
    allowed = (
        2e-6 * max(1.0, abs(x.mean().item()) if x.numel() else 0) * (1 + truth.abs().max().item() if x.numel() else 1)
    )
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=allowed)
    if x.is_contiguous() or (x.ndim > 3 and x.is_contiguous(memory_format=LAST[x.ndim])):
        assert found.stride() == x.stride()
    torch.testing.assert_close(instance_norm_(x.clone(), weight, bias, negative_slope=slope), found, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["reference", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_large_image_with_a_mean_of_two_deviations(backend: str, channels_last: bool) -> None:
    x = torch.randn(1, 4, 64, 64, 64, generator=torch.Generator().manual_seed(0)) + 2
    x = x.contiguous(memory_format=LAST[5]) if channels_last else x
    with use_backend(backend):
        found = InstanceNorm(4)(x)
    assert found.stride() == x.stride()
    # The tails of a million values are five deviations away.
    torch.testing.assert_close(found.double(), exact(x, None, None, None), rtol=0, atol=5 * 2e-6)


@needs_native
def test_any_number_of_threads_gives_the_same_bits() -> None:
    x = torch.randn(2, 20, 40, 50, 60, generator=torch.Generator().manual_seed(0))
    assert_threads_change_nothing(lambda: (instance_norm(x), instance_norm(x.contiguous(memory_format=LAST[5]))))


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_are_those_of_the_definition(channels_last: bool) -> None:
    norm, x = AffineInstanceNorm(3).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    x = x.contiguous(memory_format=LAST[4]) if channels_last else x
    assert torch.autograd.gradcheck(norm, x.requires_grad_())
    trained = AffineInstanceNorm(3)(x.detach().float().requires_grad_())
    assert trained.requires_grad
    assert trained.stride() == x.stride()


def test_a_single_position_becomes_the_bias() -> None:
    norm = AffineInstanceNorm(2)
    torch.nn.init.constant_(norm.bias, 3.0)
    with torch.inference_mode():
        assert torch.equal(norm(torch.randn(2, 2, 1, 1, 1)), torch.full((2, 2, 1, 1, 1), 3.0))


@needs_native
def test_values_that_are_no_numbers_stay_in_their_channel() -> None:
    x = torch.randn(1, 3, 5, 6)
    x[0, 1, 2, 2] = math.nan
    found = instance_norm(x, negative_slope=0.01)
    assert found[:, 1].isnan().all()
    torch.testing.assert_close(found[:, ::2], instance_norm(x[:, ::2], negative_slope=0.01))


@needs_native
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_operators_of_torch_library(channels_last: bool) -> None:
    x = torch.randn(2, 5, 3, 4)
    x = x.contiguous(memory_format=LAST[4]) if channels_last else x
    arguments = torch.randn(5), torch.randn(5), 1e-5, 0.01
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.deconvseg.instance_norm.default, (x, *arguments), test_utils=tests)
    torch.library.opcheck(torch.ops.deconvseg.instance_norm_.default, (x, *arguments), test_utils=tests)
    with pytest.raises(InputError, match="give a contiguous one"):
        torch.ops.deconvseg.instance_norm_(x[:, :, ::2], *arguments)


@needs_native
def test_why_a_kernel_does_not_run_is_told() -> None:
    x = torch.randn(1, 3, 4, 4)
    assert explain(instance_norm, x).choices[0][1].backend == "native"
    assert "float64" in str(explain(instance_norm, x.double()))
    assert "gradients are plain PyTorch's" in str(explain(instance_norm, x.clone().requires_grad_()))
