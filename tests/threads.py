"""That the number of threads changes no bit of a kernel's results."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from deconvseg.ops.native import interface


def assert_threads_change_nothing(compute: Callable[[], Sequence[Tensor]]) -> None:
    """Compute on one and more threads, also what is too little work for them, and compare the results bit for bit."""
    before, results = torch.get_num_threads(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interface, "OPERATIONS_PER_THREAD", 1)
        try:
            for threads in (1, 2, 3, 5):
                torch.set_num_threads(threads)
                results.append(compute())
        finally:
            torch.set_num_threads(before)
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert torch.equal(one, other)
