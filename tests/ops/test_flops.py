"""What PyTorch's counter of FLOPs finds in this package's operators."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from deconvseg.nn import NDC, DeconverBlock
from deconvseg.ops import native, ndc_update, nmf, use_backend
from deconvseg.ops.conv import conv, conv_transpose
from deconvseg.ops.deconver_block import deconver_block, reference
from deconvseg.ops.ndc import cost
from deconvseg.ops.winograd import winograd_conv

needs_native = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")


def count(function):
    """FLOPs of a forward pass, and of a backward pass."""
    with FlopCounterMode(display=False) as forward:
        result = function()
    with FlopCounterMode(display=False) as backward:
        result.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


def random(*shape, last=False):
    image = torch.rand(*shape)
    if last:
        image = image.contiguous(memory_format={4: torch.channels_last, 5: torch.channels_last_3d}[len(shape)])
    return image.requires_grad_()


def test_every_operator_has_a_formula():
    import deconvseg.nn.frozen  # noqa: F401 - the last of the operators

    names = {
        name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names() if "deconvseg::" in name
    }
    assert {"conv", "ndc_update_backward", "winograd_conv"} <= names
    assert {getattr(torch.ops.deconvseg, name) for name in names} <= flop_registry.keys()


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", [(3,), (3, 5), (3, 1, 5)])
def test_an_update_counts_as_its_three_correlations_and_their_gradients(groups, kernel):
    size = (4, 6, 8)[: len(kernel)]
    x, source, filters = random(2, 4, *size), random(2, 8, *size), random(4, 8 // groups, *kernel)
    found = count(lambda: ndc_update(x, source, filters, groups=groups))
    with use_backend("reference"):
        assert found == count(lambda: ndc_update(x, source, filters, groups=groups))
    assert found[0] == 2 * cost.update(x, source, filters, groups=groups).macs


@needs_native
@pytest.mark.parametrize("size", [(4, 6), (4, 6, 8)])
def test_convolutions_count_as_pytorch_s(size):
    dims = len(size)
    kernel, ones, zeros, x = (2,) * dims, (1,) * dims, (0,) * dims, random(2, 16, *size, last=True)
    pointwise, weight, bias = random(32, 16, *ones), random(16, 32, *kernel), random(32)
    for function in (
        lambda: conv(x, pointwise, bias, stride=ones, padding=zeros),
        lambda: conv(x, weight.transpose(0, 1), bias, stride=kernel, padding=zeros),
        lambda: conv(x.detach(), pointwise, None, stride=ones, padding=zeros),
        lambda: conv_transpose(x, weight, bias, stride=kernel),
    ):
        found = count(function)
        with use_backend("reference"):
            assert found == count(function)


@needs_native
@torch.no_grad()
def test_a_convolution_by_minimal_filtering_counts_as_its_definition():
    x, weight, totals = torch.rand(2, 16, 6, 5), torch.rand(16, 16, 3, 3), []
    for backend in ("native", "reference"):
        with use_backend(backend), FlopCounterMode(display=False) as counter:
            winograd_conv(x, weight)
        totals.append(counter.get_total_flops())
    assert totals[0] == totals[1] == 2 * 2 * 6 * 5 * 16 * 16 * 9


@needs_native
@pytest.mark.parametrize("size", [(4, 6), (4, 6, 8)])
def test_a_whole_block_counts_as_its_layers(size):
    block, x = DeconverBlock(16, 3, spatial_dims=len(size)), random(2, 16, *size)
    weights, settings = block._weights(), {"eps": 1e-8, "norm_eps": 1e-5}
    found = count(lambda: deconver_block(x, weights, **settings))
    assert found == count(lambda: reference.block(x, weights, 1e-8, 1e-5))
    assert found == count(lambda: block(x))


@pytest.mark.parametrize("rank", [1, 2])
def test_a_factorisation_counts_as_its_definition(rank):
    x, start = torch.rand(3, 8, 16), torch.rand(16, rank)
    with FlopCounterMode(display=False) as counter:
        nmf(x, start)
    with use_backend("reference"), FlopCounterMode(display=False) as by_definition:
        nmf(x, start)
    assert counter.get_total_flops() == by_definition.get_total_flops() > 0


@pytest.mark.parametrize("first", ["deconvseg.nn", "torch.utils.flop_counter"])
def test_formulas_are_registered_whatever_is_imported_first_and_the_counter_only_where_it_is_wanted(first):
    program = f"""
import sys, {first}
if {first == "deconvseg.nn"}:
    assert "torch.utils.flop_counter" not in sys.modules
import torch, deconvseg.nn
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter:
    deconvseg.nn.NDC(4, 3)(torch.rand(1, 4, 2, 2, 2))
assert not any(type(finder).__name__ == "_Registering" for finder in sys.meta_path)
print(counter.get_total_flops())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    with FlopCounterMode(display=False) as counter:
        NDC(4, 3)(torch.rand(1, 4, 2, 2, 2))
    assert int(ran.stdout) == counter.get_total_flops()
