"""Native convolutions with the channels innermost against PyTorch's own."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.ops import native, use_backend
from deconvseg.ops.conv import choose_conv, choose_conv_transpose, conv, conv_transpose, join
from threads import assert_threads_change_nothing
from tolerance import assert_near, with_gradients

needs_native = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
CONV = {2: F.conv2d, 3: F.conv3d}
TRANSPOSE = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def draw_tensors(generator, *shapes):
    return [torch.randn(shape, generator=generator) for shape in shapes]


@st.composite
def convolutions(draw):
    """Sizes of a convolution that are not those of its kernel, stride and padding alone."""
    dims = draw(st.sampled_from((2, 3)))
    axes = st.lists(st.integers(1, 3), min_size=dims, max_size=dims).map(tuple)
    kernel, stride = draw(axes), draw(axes)
    padding = draw(st.lists(st.integers(0, 1), min_size=dims, max_size=dims).map(tuple))
    size = tuple(draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True))
    channels = draw(st.sampled_from((1, 2, 3, 16, 20))), draw(st.sampled_from((5, 8, 16, 21, 48)))
    return channels, size, kernel, stride, padding, draw(st.integers(0, 2)), draw(st.integers(0, 2**31))


@needs_native
@given(convolutions())
@settings(deadline=None, max_examples=40, derandomize=True)
def test_any_convolution_of_an_image_without_gradient(problem):
    (read, written), size, kernel, stride, padding, batch, seed = problem
    x, weight, bias = draw_tensors(
        torch.Generator().manual_seed(seed), (batch, read, *size), (written, read, *kernel), (written,)
    )
    x = x.contiguous(memory_format=LAST[len(size)])
    options = {"stride": stride, "padding": padding}
    assert choose_conv(x, weight, bias, **options).backend == "native"

    def of_parameters(function, x):
        parameters = [tensor.to(x.dtype) for tensor in (weight, bias)]
        shape = function(x, *parameters, **options).shape
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(x.dtype)
        return with_gradients(lambda *t: function(x, *t, **options), parameters, grad)

    plain = CONV[len(size)]
    assert_near(of_parameters(conv, x), of_parameters(plain, x), of_parameters(plain, x.double()))


@needs_native
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=2, max_size=3),
    st.sampled_from(((16, 32), (48, 16))),
    st.integers(0, 2),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=30, derandomize=True)
def test_strides_as_large_as_the_kernel_both_ways(axes, channels, batch, seed):
    low, kernel = zip(*axes, strict=True)
    high, dims = tuple(n * k for n, k in axes), len(axes)
    generator = torch.Generator().manual_seed(seed)
    weight, fine, coarse, of_low, of_high = draw_tensors(
        generator,
        (*channels, *kernel),
        (batch, channels[1], *high),
        (batch, channels[0], *low),
        channels[:1],
        channels[1:],
    )
    for function, plain, x, bias, grad, zeros in (
        (conv, CONV[dims], fine, of_low, coarse, {"padding": (0,) * dims}),
        (conv_transpose, TRANSPOSE[dims], coarse, of_high, fine, {}),
    ):
        x = x.contiguous(memory_format=LAST[dims])
        assert_near(
            with_gradients(lambda *t, f=function, z=zeros: f(*t, stride=kernel, **z), (x, weight, bias), grad),
            with_gradients(lambda *t, f=plain: f(*t, stride=kernel), (x, weight, bias), grad),
            with_gradients(
                lambda *t, f=plain: f(*t, stride=kernel), [t.double() for t in (x, weight, bias)], grad.double()
            ),
        )


@needs_native
def test_a_convolution_and_its_adjoint():
    fine, coarse, weight = draw_tensors(torch.Generator().manual_seed(0), (2, 16, 4, 6), (2, 32, 2, 2), (32, 16, 2, 3))
    fine, coarse = (x.contiguous(memory_format=torch.channels_last) for x in (fine, coarse))
    one = (conv(fine, weight, None, stride=(2, 3), padding=(0, 0)) * coarse).sum()
    torch.testing.assert_close(one, (fine * conv_transpose(coarse, weight, None, stride=(2, 3))).sum())


@needs_native
def test_second_derivatives_are_those_of_pytorch():
    x, weight, bias = draw_tensors(torch.Generator().manual_seed(0), (1, 16, 4, 6), (16, 16, 2, 2), (16,))
    x = x.contiguous(memory_format=torch.channels_last)

    def penalty():
        inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        result = conv_transpose(conv(*inputs, stride=(2, 2), padding=(0, 0)), *inputs[1:], stride=(2, 2))
        slopes = torch.autograd.grad(result.pow(3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(slope.square().sum() for slope in slopes), inputs)

    by_kernels = penalty()
    with use_backend("reference"):
        for one, two in zip(by_kernels, penalty(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4 * two.abs().max().item())


@needs_native
def test_the_number_of_threads_changes_nothing():
    x, weight, bias = draw_tensors(torch.Generator().manual_seed(0), (2, 16, 14, 22), (32, 16, 2, 2), (32,))
    tensors, grad = (x.contiguous(memory_format=torch.channels_last), weight, bias), torch.ones(2, 32, 7, 11)
    assert_threads_change_nothing(
        lambda: with_gradients(lambda *t: conv(*t, stride=(2, 2), padding=(0, 0)), tensors, grad)
    )


@needs_native
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": torch.randn(1, 16, 4, 4)}, "channels innermost"),
        ({"weight": torch.randn(16, 17, 2, 2), "bias": None}, "images of 17 channels"),
        ({"stride": (1, 1), "grad": True}, "stride as large as the kernel"),
        ({"x": torch.randn(1, 16, 4, 4).double()}, "double|float64"),
        ({"x": torch.randn(1, 16, 1, 4).contiguous(memory_format=torch.channels_last)}, "smaller than the kernel"),
    ],
)
def test_what_the_kernels_do_not_take_is_declined_with_the_reason(change, reason):
    x = torch.randn(1, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    problem = {
        "x": x,
        "weight": torch.randn(32, 16, 2, 2),
        "bias": torch.randn(32),
        "stride": (2, 2),
        "padding": (0, 0),
    }
    grad = change.pop("grad", False)
    problem |= change
    problem["x"] = problem["x"].clone().requires_grad_(grad)
    tensors = [problem.pop(name) for name in ("x", "weight", "bias")]
    choice = choose_conv(*tensors, **problem)
    assert choice.backend == "reference"
    assert re.search(reason, choice.declined["native"])


@needs_native
def test_a_transposed_convolution_with_gaps_or_overlaps_is_declined():
    x = torch.randn(1, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    choice = choose_conv_transpose(x, torch.randn(16, 16, 3, 3), None, stride=(2, 2))
    assert "stride as large as the kernel" in choice.declined["native"]


@needs_native
def test_operators_are_registered_as_pytorch_wants_them():
    fine, coarse, weight, of_low, of_high = draw_tensors(
        torch.Generator().manual_seed(0), (2, 16, 4, 6), (2, 32, 2, 3), (32, 16, 2, 2), (32,), (16,)
    )
    fine, coarse = (x.contiguous(memory_format=torch.channels_last) for x in (fine, coarse))
    for tensor in (fine, coarse, weight, of_low, of_high):
        tensor.requires_grad_()
    operators = torch.ops.deconvseg
    torch.library.opcheck(operators.conv.default, (fine, weight, of_low, [2, 2], [0, 0]))
    torch.library.opcheck(operators.conv_transpose.default, (coarse, weight, of_high))
    torch.library.opcheck(operators.conv_weight_gradient.default, (coarse, fine, [2, 2], [2, 2], [0, 0]))


@needs_native
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("size", [(3, 4, 5), (9, 8, 5)], ids=["few positions", "many positions"])
@pytest.mark.parametrize("dims", [2, 3])
def test_joining_is_upsampling_concatenation_and_a_pointwise_convolution(grad, size, dims):
    kernel, low = (2, 3, 1)[:dims], size[:dims]
    high, ones = tuple(n * k for n, k in zip(low, kernel, strict=True)), (1,) * dims
    shapes = (2, 32, *high), (2, 16, *low), (16, 48, *kernel), (48,), (32, 32 + 48, *ones)
    tensors = draw_tensors(torch.Generator().manual_seed(0), *shapes)
    tensors[:2] = [x.contiguous(memory_format=LAST[dims]) for x in tensors[:2]]

    def apart(skip, x, spread, bias, fuse):
        return CONV[dims](torch.cat([skip, TRANSPOSE[dims](x, spread, bias, stride=kernel)], 1), fuse)

    exact = [tensor.double() for tensor in tensors]
    if grad:
        of = torch.randn(2, 32, *high)
        results = with_gradients(join, tensors, of), with_gradients(apart, tensors, of)
        assert_near(*results, with_gradients(apart, exact, of.double()))
    else:
        with torch.inference_mode():
            assert_near([join(*tensors)], [apart(*tensors)], [apart(*exact)])


@needs_native
@pytest.mark.parametrize("index", range(5), ids=["skip", "x", "spread", "bias", "fuse"])
def test_joining_passes_each_gradient_also_where_the_rest_is_frozen(index):
    shapes = (1, 16, 18, 18), (1, 16, 9, 9), (16, 16, 2, 2), (16,), (16, 32, 1, 1)
    tensors = draw_tensors(torch.Generator().manual_seed(0), *shapes)
    tensors[:2] = [x.contiguous(memory_format=torch.channels_last) for x in tensors[:2]]
    tensors[index].requires_grad_()
    result = join(*tensors)
    skip, x, spread, bias, fuse = tensors
    plain = F.conv2d(torch.cat([skip, F.conv_transpose2d(x, spread, bias, stride=2)], 1), fuse)
    torch.testing.assert_close(result, plain, rtol=1e-4, atol=1e-4)
    (found,) = torch.autograd.grad(result.square().sum(), tensors[index])
    (expected,) = torch.autograd.grad(plain.square().sum(), tensors[index])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@needs_native
def test_joining_refuses_sizes_that_do_not_fit_and_takes_any_layout():
    skip, x, spread, fuse = draw_tensors(
        torch.Generator().manual_seed(0), (1, 16, 18, 18), (1, 16, 9, 9), (16, 16, 2, 2), (16, 32, 1, 1)
    )
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for wrong in (skip[:, :, 1:], torch.cat([skip, skip])):
            with pytest.raises(RuntimeError, match="[Ss]izes of tensors must match"):
                join(wrong, x, spread, None, fuse)
        last = join(skip.contiguous(memory_format=torch.channels_last), x, spread, None, fuse)
        torch.testing.assert_close(join(skip, x, spread, None, fuse), last)


@needs_native
def test_layers_take_what_pytorch_s_take():
    from deconvseg.nn.conv import Conv2d

    layer, x = Conv2d(16, 16, 2, stride=2), torch.randn(1, 16, 9, 9).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(input=x[0]), layer(x)[0])
    x.requires_grad_()
    (found,) = torch.autograd.grad(layer(x).sum(), x)  # the last row and column are not seen
    assert found.shape == x.shape
    assert layer.to("meta")(x.detach().to("meta")).shape == (1, 16, 4, 4)
