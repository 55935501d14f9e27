"""Convolutions, Winograd's filtering and normalisation in bfloat16 against PyTorch's own and float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deconvseg.nn.conv import Conv2d, ConvTranspose2d
from deconvseg.nn.frozen import freeze
from deconvseg.nn.joining import join as join_layers
from deconvseg.nn.norm import AffineInstanceNorm
from deconvseg.ops import instance_norm, native, use_backend
from deconvseg.ops.conv import choose_conv, choose_conv_transpose, conv_transpose, join, library
from deconvseg.ops.instance_norm import choose_norm, instance_norm_
from deconvseg.ops.winograd import choose_winograd, winograd_conv
from threads import assert_threads_change_nothing
from tolerance import assert_as_good, with_gradients

pytestmark = pytest.mark.skipif(native.why_no_bfloat16() is not None, reason=str(native.why_no_bfloat16()))
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
CONV = {4: F.conv2d, 5: F.conv3d}
TRANSPOSE = {4: F.conv_transpose2d, 5: F.conv_transpose3d}


def lowered(function):
    """A function under autocast to bfloat16."""

    def run(*tensors):
        with torch.autocast("cpu", torch.bfloat16):
            return function(*tensors)

    return run


def draw(generator: torch.Generator, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, generator=generator) for shape in shapes]


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rounded(tensors: list[Tensor], images: int = 1) -> list[Tensor]:
    """The images as bfloat16; the parameters stay in float32."""
    return [tensor.bfloat16() if index < images else tensor for index, tensor in enumerate(tensors)]


def double(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.double() for tensor in tensors]


@given(
    st.sampled_from(((3, 3), (3, 3, 3), (1, 3, 3), (3, 1, 3), (3, 3, 1))).flatmap(
        lambda kernel: st.tuples(st.just(kernel), st.tuples(*(st.integers(1, 11) for _ in kernel)))
    ),
    st.tuples(st.sampled_from((32, 48)), st.sampled_from((32, 80))),
    st.integers(0, 2),
    st.tuples(st.booleans(), st.booleans()),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=15, derandomize=True)
def test_any_image_is_filtered_within_twice_pytorch_s_error(shapes, channels, batch, choices, seed):
    (kernel, size), (read, written), (biased, last) = shapes, channels, choices
    x, weight, bias = draw(generator_of(seed), (batch, read, *size), (written, read, *kernel), (written,))
    x = x.bfloat16().contiguous(memory_format=LAST[x.ndim]) if last else x.bfloat16()
    tensors = [x, weight, *([bias] if biased else [])]
    assert lowered(choose_winograd)(*tensors).computed == "native in bfloat16"
    found = lowered(winograd_conv)(*tensors)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=LAST[x.ndim])
    padding = [length // 2 for length in kernel]
    plain, truth = (
        function(lambda *t: CONV[x.ndim](*t, padding=padding))(*given)
        for function, given in ((lowered, tensors), (lambda f: f, double(tensors)))
    )
    assert_as_good([found], [plain], [truth], factor=2.1)


def test_filtering_takes_what_is_faster_and_precise_enough():
    x, weight = draw(generator_of(0), (1, 32, 6, 6), (32, 32, 3, 3))
    assert "gradients" in str(lowered(choose_winograd)(x.clone().requires_grad_(), weight))
    assert "fewer than 32" in str(lowered(choose_winograd)(x[:, :16], weight[:, :16]))
    # Weights that are bfloat16 have no rounding of their own, beside which that of the transforms would be small.
    assert choose_winograd(x.bfloat16(), weight.bfloat16()).backend == "reference"


def test_weights_are_packed_again_in_another_precision():
    x, weight = torch.randn(1, 32, 6, 7), nn.Parameter(torch.randn(32, 32, 3, 3))
    with torch.inference_mode():
        precise = winograd_conv(x, weight)
        for expected in (torch.bfloat16, torch.float32, torch.bfloat16):
            filtered = (lowered if expected == torch.bfloat16 else lambda f: f)(winograd_conv)(x, weight)
            assert filtered.dtype == expected
            torch.testing.assert_close(filtered.float(), precise, rtol=0.05, atol=0.5)


@st.composite
def images(draw_from: st.DrawFn) -> tuple[Tensor, Tensor | None, Tensor | None, float | None]:
    dims = draw_from(st.integers(2, 3))
    size = draw_from(st.lists(st.integers(1, 20), min_size=dims, max_size=dims))
    channels, batch = draw_from(st.sampled_from((1, 5, 16, 17, 40))), draw_from(st.integers(0, 2))
    generator = generator_of(draw_from(st.integers(0, 2**31)))
    x = torch.randn((batch, channels, *size), generator=generator) + draw_from(st.sampled_from((0.0, 2.0, -20.0)))
    x = x.bfloat16()
    if draw_from(st.booleans()):
        x = x.contiguous(memory_format=LAST[x.ndim])
    affine = draw_from(st.booleans())
    weight, bias = (torch.randn(channels, generator=generator) if affine else None for _ in range(2))
    return x, weight, bias, draw_from(st.sampled_from((None, 0.0, 0.01)))


@given(images())
@settings(deadline=None, max_examples=25, derandomize=True)
def test_any_image_is_normalised_to_the_nearest_bfloat16(problem):
    x, weight, bias, slope = problem
    expected = instance_norm(x.float(), weight, bias, negative_slope=slope)

    def normalise(x, weight, bias):
        return instance_norm(x, weight, bias, negative_slope=slope)

    assert lowered(choose_norm)(x, weight, bias).computed == "native in bfloat16"
    found = lowered(normalise)(x, weight, bias)
    assert found.dtype == torch.bfloat16
    # The sums are float32, so only the result is rounded; half an ulp, and rounding of the float32 result itself.
    torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=1e-5)
    assert found.stride() == x.stride() or x.numel() == 0
    in_place = lowered(lambda x: instance_norm_(x, weight, bias, negative_slope=slope))(x.clone())
    assert torch.equal(in_place, found)
    if weight is not None:
        of_model = instance_norm(x, weight.bfloat16(), bias.bfloat16(), negative_slope=slope)
        assert of_model.dtype == torch.bfloat16


def test_under_autocast_an_image_in_float32_is_normalised_in_float32():
    x = torch.randn(1, 3, 6, 7)
    with torch.inference_mode():
        assert torch.equal(lowered(instance_norm)(x), instance_norm(x))


@pytest.mark.parametrize("value", [0.0, 3.0, 1e30])
def test_constant_images_become_the_bias(value):
    norm, x = AffineInstanceNorm(16).bfloat16(), torch.full((1, 16, 5, 6), value, dtype=torch.bfloat16)
    nn.init.constant_(norm.bias, 0.5)
    with torch.inference_mode():
        assert torch.equal(norm(x), torch.full_like(x, 0.5))


def apart(skip: Tensor, x: Tensor, spread: Tensor, bias: Tensor, fuse: Tensor) -> Tensor:
    upsampled = TRANSPOSE[x.ndim](x, spread, bias, stride=spread.shape[2:])
    return CONV[x.ndim](torch.cat([skip, upsampled], 1), fuse)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=2, max_size=3),
    st.tuples(*(st.sampled_from((16, 48)) for _ in range(3))),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=5, derandomize=True)
def test_joining_any_images_and_its_gradients(axes, channels, batch, last, seed):
    (low, kernel), (of_skip, of_x, written) = zip(*axes, strict=True), channels
    high, ones = tuple(n * k for n, k in axes), (1,) * len(axes)
    generator = generator_of(seed)
    tensors = draw(
        generator,
        (batch, of_skip, *high),
        (batch, of_x, *low),
        (written, of_skip, *ones),
        (of_x, written, *kernel),
        (written,),
    )
    # Weights of a usual size, so that no sum is small by chance alone.
    tensors[2], tensors[3] = tensors[2] / math.sqrt(of_skip), tensors[3] / math.sqrt(of_x)
    tensors = [
        image.contiguous(memory_format=LAST[image.ndim]) if last and image.ndim > 3 else image for image in tensors
    ]

    def sum_of_both(skip, x, of_skip, spread, bias):
        dims = skip.ndim
        return CONV[dims](skip, of_skip) + TRANSPOSE[dims](x, spread, bias, stride=kernel)

    def joined(skip, x, of_skip, spread, bias):
        return library.join(skip, x, of_skip, spread, bias, "native")

    grad = torch.randn((batch, written, *high), generator=generator)
    half = rounded(tensors, 2)
    found = with_gradients(joined, half, grad.bfloat16())
    assert found[0].is_contiguous(memory_format=LAST[len(axes) + 2])
    assert [each.dtype for each in found] == [torch.bfloat16] * 3 + [torch.float32] * 3
    plain = with_gradients(lowered(sum_of_both), half, grad.bfloat16())
    exact = with_gradients(sum_of_both, double(half), grad.bfloat16().double())
    assert_as_good(found, plain, exact)


@pytest.mark.parametrize("as_model", [False, True])
@pytest.mark.parametrize(("size", "by_kernel"), [((3, 4, 5), False), ((10, 9, 8), True)])
def test_joining_in_a_network_is_upsampling_concatenation_and_fusion(size, by_kernel, as_model, monkeypatch):
    called = []
    monkeypatch.setattr(library, "join", lambda *given: called.append(1) or torch.ops.deconvseg.join(*given))
    fine = tuple(2 * length for length in size)
    shapes = (1, 32, *fine), (1, 16, *size), (16, 32, 2, 2, 2), (32,), (32, 64, 1, 1, 1)
    tensors = [
        tensor / math.sqrt(tensor.shape[1] if tensor.ndim > 1 else 1) for tensor in draw(generator_of(0), *shapes)
    ]
    half = rounded(tensors, len(tensors) if as_model else 2)
    in_half = (lambda f: f) if as_model else lowered
    with torch.inference_mode():
        found = in_half(join)(*half)
        assert_as_good([found], [in_half(apart)(*half)], [apart(*double(half))])
    assert bool(called) == by_kernel


def test_the_layers_of_a_join_are_one_operator_under_autocast(monkeypatch):
    called = []
    monkeypatch.setattr(library, "join", lambda *given: called.append(1) or torch.ops.deconvseg.join(*given))
    up, fusion = ConvTranspose2d(16, 32, 2, stride=2), Conv2d(64, 32, 1, bias=False)
    skip, x = draw(generator_of(0), (1, 32, 64, 64), (1, 16, 32, 32))
    skip, x = (each.bfloat16().contiguous(memory_format=LAST[4]) for each in (skip, x))
    with torch.inference_mode():
        found = lowered(lambda: join_layers(skip, x, up, fusion))()
    assert called
    assert found.dtype == torch.bfloat16


@pytest.mark.parametrize("dims", [2, 3])
def test_a_transposed_convolution_and_its_gradients(dims):
    size, kernel = (3, 4, 5)[:dims], (2, 3, 1)[:dims]
    tensors = draw(generator_of(0), (2, 16, *size), (16, 32, *kernel), (32,))
    grad = torch.randn((2, 32, *(n * k for n, k in zip(size, kernel, strict=True))), generator=generator_of(1))
    half, plain = rounded(tensors), TRANSPOSE[dims + 2]
    half[0] = half[0].contiguous(memory_format=LAST[dims + 2])

    def ours(x, weight, bias):
        return conv_transpose(x, weight, bias, stride=kernel)

    def theirs(x, weight, bias):
        return plain(x, weight, bias, stride=kernel)

    assert lowered(lambda *t: choose_conv_transpose(*t, stride=kernel))(*half).computed == "native in bfloat16"
    found, exact = (
        with_gradients(lowered(ours), half, grad.bfloat16()),
        with_gradients(theirs, double(half), grad.double()),
    )
    assert [each.dtype for each in found] == [torch.bfloat16] * 2 + [torch.float32] * 2
    assert_as_good(found, with_gradients(lowered(theirs), half, grad.bfloat16()), exact)


def test_convolutions_in_bfloat16_are_pytorch_s():
    x, weight = torch.randn(1, 16, 4, 4).contiguous(memory_format=LAST[4]), torch.randn(32, 16, 2, 2)
    choice = lowered(lambda: choose_conv(x, weight, None, stride=(2, 2), padding=(0, 0)))()
    assert "PyTorch's convolutions in bfloat16 are faster" in choice.declined["native"]


@pytest.mark.parametrize("frozen", [False, True])
def test_channels_stay_innermost_from_an_image_with_one_channel_on(frozen):
    layers = nn.Sequential(Conv2d(1, 32, 3, padding=1), Conv2d(32, 16, 2, stride=2))
    if frozen:
        freeze(layers)
    x = torch.randn(2, 1, 12, 10)
    first = lowered(layers[0])(x)
    assert first.is_contiguous(memory_format=LAST[4])
    assert lowered(layers)(x).is_contiguous(memory_format=LAST[4])
    torch.testing.assert_close(
        first.float(), F.conv2d(x, layers[0].weight, layers[0].bias, padding=1), atol=0.03, rtol=0.03
    )


def test_second_derivatives_are_those_of_pytorch():
    tensors = draw(generator_of(0), (1, 16, 4, 6), (1, 16, 2, 3), (16, 16, 1, 1), (16, 16, 2, 2), (16,))
    tensors = [tensor / 4 for tensor in tensors]

    def penalty(function, tensors):
        inputs = [tensor.clone().requires_grad_() for tensor in tensors]
        slopes = torch.autograd.grad(function(*inputs).float().pow(3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(slope.float().square().sum() for slope in slopes), inputs)

    def plain(skip, x, of_skip, spread, bias):
        return F.conv2d(skip, of_skip) + F.conv_transpose2d(x, spread, bias, stride=2)

    found = penalty(lambda *t: library.join(*t, "native"), rounded(tensors, 2))
    for one, two in zip(found, penalty(plain, double(rounded(tensors, 2))), strict=True):
        torch.testing.assert_close(one.double(), two, rtol=0.05, atol=0.05 * two.abs().max().item())


def test_the_number_of_threads_changes_nothing():
    x, weight, skip, fuse, spread = draw(
        generator_of(0),
        (2, 32, 9, 10, 11),
        (48, 32, 3, 3, 3),
        (2, 16, 18, 20, 11),
        (48, 16, 1, 1, 1),
        (32, 48, 2, 2, 1),
    )
    x, skip = x.bfloat16(), skip.bfloat16()

    @torch.inference_mode()
    def compute():
        joined = library.join(skip, x, fuse, spread, None, "native")
        return lowered(winograd_conv)(x, weight), joined, lowered(instance_norm)(x)

    assert_threads_change_nothing(compute)


def test_operators_are_registered_as_pytorch_wants_them():
    skip, x, fuse, spread, bias = draw(
        generator_of(0), (2, 16, 4, 6), (2, 32, 2, 3), (16, 16, 1, 1), (32, 16, 2, 2), (16,)
    )
    skip, x = (image.bfloat16().contiguous(memory_format=LAST[4]) for image in (skip, x))
    tensors = [tensor.requires_grad_() for tensor in (skip, x, fuse, spread, bias)]
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.deconvseg.join.default, (*tensors, "native"), test_utils=tests)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e8])
def test_frozen_layers_never_give_nan(value):
    layers = nn.Sequential(
        *(nn.Conv2d(2, 32, 3, padding=1), nn.InstanceNorm2d(32), nn.LeakyReLU(0.01)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.InstanceNorm2d(32), nn.LeakyReLU(0.01), nn.Conv2d(32, 2, 1)),
    )
    exact = layers.double()(torch.full((1, 2, 12, 13), value).double()).detach()
    layers.float()
    freeze(layers)
    with torch.inference_mode():
        found = lowered(layers)(torch.full((1, 2, 12, 13), value))
    assert found.dtype == torch.bfloat16
    assert torch.isfinite(found).all()
    assert (found.double() - exact).abs().max() <= 0.05 * exact.abs().max() + 0.05


def test_a_forced_reference_computes_in_bfloat16_too():
    x, weight = torch.randn(1, 32, 6, 6), torch.randn(32, 32, 3, 3)
    with use_backend("reference"):
        found = lowered(winograd_conv)(x, weight)
    assert torch.equal(found, lowered(lambda x, w: F.conv2d(x, w, padding=1))(x, weight))
