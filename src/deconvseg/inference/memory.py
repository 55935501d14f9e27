"""The memory that a case takes, and the memory that it may take."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deconvseg.system import available_memory
from deconvseg.text import number_of
from deconvseg.units import format_bytes

# Above this, larger sums of logits only avoid computing a few windows twice.
_ENOUGH = 10**9
_LEAST = 10**7


@dataclass(frozen=True)
class Estimate:
    """An estimate of the resources for predicting a case, in addition to the loaded networks.

    Attributes:
        bytes: the peak of host memory, including reading and writing.
        reading: the peak while the image's files are read.
        windows: the number of windows, over all networks.
        blocks: the number of blocks into which the cross-section is divided.

    """

    bytes: int
    reading: int
    windows: int
    blocks: int

    def __str__(self) -> str:
        parts = f" in {self.blocks} parts" if self.blocks > 1 else ""
        windows = number_of(self.windows, "window")
        return f"{windows}{parts}, about {format_bytes(self.bytes)} of memory above the loaded model"


def sums_budget(memory: int | None, other: int) -> int:
    """Return the bytes that the sums of logits may take on the host: ``memory`` less ``other``.

    Without ``memory``, it is a quarter of the memory that the process may still take, at most 1 GB.
    """
    if memory is not None:
        return memory - other
    return max(min(_ENOUGH, available_memory() // 4), _LEAST)


def device_budget(device: torch.device) -> int:
    """Return the bytes of a GPU that the sums of logits may take: half of the free memory and cache."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (available_memory(str(device)) + unused) // 2
