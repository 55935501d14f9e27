"""Outputs without values that are made without PyTorch's compiler are those that PyTorch makes."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deconvseg.models import create_model
from deconvseg.models.complexity import complexity
from deconvseg.models.complexity.measure import activation_bytes
from deconvseg.models.complexity.shapes import output_of
from deconvseg.models.complexity.sketch import WithoutValues

sizes = st.integers(1, 9)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 3), st.booleans())
def test_convolutions_have_the_shape_of_the_computed_image(data: st.DataObject, dims: int, transposed: bool) -> None:
    def draw(least: int, most: int) -> list[int]:
        return data.draw(st.lists(st.integers(least, most), min_size=dims, max_size=dims))

    groups, stride, padding, dilation = data.draw(st.integers(1, 2)), draw(1, 3), draw(0, 2), draw(1, 2)
    x = torch.zeros(1, 2 * groups, *draw(1, 9))
    weight = torch.zeros(2 * groups, 2 if not transposed else 3, *draw(1, 3))
    found = output_of(torch.ops.aten.convolution.default)
    assert found is not None
    arguments = (x, weight, None, stride, padding, dilation, transposed, [0] * dims, groups)
    try:
        expected = torch.ops.aten.convolution.default(*arguments)
    except RuntimeError:
        # PyTorch's own rule then raises the error.
        assert found(*arguments) is None
    else:
        # An empty image is left to PyTorch.
        assert expected.numel() == 0 or found(*arguments).shape == expected.shape


def test_what_does_not_fit_together_is_left_to_pytorch() -> None:
    x, weight = torch.empty(1, 3, 8, 8, device="meta"), torch.empty(4, 2, 3, 3, device="meta")
    with WithoutValues(), pytest.raises(RuntimeError):
        F.conv2d(x, weight)
    with WithoutValues():
        assert F.group_norm(torch.empty(2, 4, 5, device="meta"), 2).shape == (2, 4, 5)
        assert F.gelu(x).shape == F.relu(x).shape == x.shape


@pytest.mark.parametrize("name", ["deconver", "unet", "nnunet"])
def test_the_memory_alone_is_that_of_the_complexity(name: str) -> None:
    network = create_model(name, in_channels=1, out_channels=2, spatial_dims=2, widths=(4, 8, 8))
    assert activation_bytes(network, (1, 1, 32, 32)) == complexity(network, (1, 1, 32, 32)).inference_bytes


@pytest.mark.slow
def test_an_estimate_of_memory_does_not_import_the_compiler() -> None:
    script = (
        "import sys\n"
        "from deconvseg.models import create_model\n"
        "from deconvseg.models.complexity.measure import activation_bytes\n"
        "for name in ('deconver',):\n"
        "    network = create_model(name, in_channels=1, out_channels=2, spatial_dims=2, widths=(4, 8))\n"
        "    assert activation_bytes(network, (1, 1, 32, 32)) > 0\n"
        "print([name for name in ('torch._dynamo', 'sympy', 'scipy.spatial', 'matplotlib', 'lightning') "
        "if name in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
