"""How much memory a case takes, and how much it may take."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deconvseg.system import available_memory
from deconvseg.units import format_bytes

# Beyond this, larger sums of logits save a few windows that would be computed twice, and nothing else.
_ENOUGH = 10**9
_LEAST = 10**7


@dataclass(frozen=True)
class Estimate:
    """An estimate, before it starts, of what predicting a case takes beside the loaded networks.

    Attributes:
        bytes: the peak of memory on the host, reading and writing included.
        reading: the part of it that reading the image's files takes.
        windows: how many windows are computed, all networks together.
        blocks: into how many blocks the cross-section is cut so that it fits.

    """

    bytes: int
    reading: int
    windows: int
    blocks: int

    def __str__(self) -> str:
        parts = f" in {self.blocks} parts" if self.blocks > 1 else ""
        return f"{self.windows} windows{parts}, about {format_bytes(self.bytes)} of memory above the loaded model"


def sums_budget(memory: int | None, other: int) -> int:
    """Return the bytes that the sums of logits may take on the host: what ``other`` things leave of ``memory``.

    Without ``memory``, a quarter of what the process may still take, at most 1 GB.
    """
    if memory is not None:
        return memory - other
    return max(min(_ENOUGH, available_memory() // 4), _LEAST)


def device_budget(device: torch.device) -> int:
    """Return the bytes of a GPU that the sums of logits may take: half of what is free, or PyTorch's and unused."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (available_memory(str(device)) + unused) // 2
