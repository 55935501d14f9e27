"""The threads of the kernels, which are PyTorch's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from deconvseg.ops import native
from deconvseg.ops.conv.native import conv
from deconvseg.ops.layout import channels_last

if reason := native.unavailable():
    pytest.skip(reason, allow_module_level=True)


THREADS = Path("/proc/self/task")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def convolve_with_two_threads() -> None:
    image = channels_last(torch.rand(1, 16, 64, 64))
    conv(image, torch.rand(16, 16, 3, 3), None, (1, 1), (1, 1))


def halve(value: float) -> torch.Tensor:
    """Compute with all threads, because the tensor is large."""
    return torch.full((400_000,), value) / 2


@pytest.mark.skipif(not THREADS.is_dir(), reason="the system does not list threads")
def test_a_kernel_of_few_threads_does_not_end_those_that_pytorch_needs_next(four_threads):
    halve(1.0)
    before = set(THREADS.iterdir())
    convolve_with_two_threads()
    halve(1.0)
    assert set(THREADS.iterdir()) == before


def test_a_kernel_leaves_no_flushing_of_denormal_numbers_in_the_threads_of_pytorch(four_threads):
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush denormal numbers")
    try:
        convolve_with_two_threads()
    finally:
        torch.set_flush_denormal(False)
    # NumPy compares in this thread.
    assert (halve(1e-39).numpy() > 0).all()
