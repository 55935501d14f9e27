"""How much memory a case takes, and how much it may take."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deconvseg.errors import DeconvsegError
from deconvseg.inference.runner import WindowRunner
from deconvseg.models.complexity import complexity
from deconvseg.planning import available_memory
from deconvseg.units import format_bytes

_log = logging.getLogger("deconvseg")

# Beyond this, larger sums of logits save a few windows that would be computed twice, and nothing else.
_ENOUGH = 10**9
_LEAST = 10**7
_FLOAT = 4


@dataclass(frozen=True)
class Estimate:
    """What predicting a case takes beside the loaded networks, foreseen before it starts.

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
    return (torch.cuda.mem_get_info(device)[0] + unused) // 2


class WindowMemory:
    """Foresees what networks take on the host for a batch of windows, each size once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], int] = {}

    def __call__(
        self, runners: Sequence[WindowRunner], windows: Sequence[Sequence[int]], channels: Sequence[int], outputs: int
    ) -> int:
        """Return the bytes of the hungriest network's activations, and of what all of them keep between windows."""
        working, kept = [0], 0
        for runner, window, count in zip(runners, windows, channels, strict=True):
            if runner.device.type != "cpu":
                continue
            logits = _FLOAT * outputs * math.prod(window)
            # The sum over mirrorings, one more of them, the same mirrored back, and the new sum.
            mirrored = 3 * runner.batch * logits if len(runner.flips) > 1 else 0
            working.append(self.activations(runner, (runner.batch, count, *window)) + mirrored)
            # The logits of the window whose voxels are all alike.
            kept += logits
        return max(working) + kept

    def activations(self, runner: WindowRunner, shape: tuple[int, ...]) -> int:
        """Return bytes; 0, logged once, for a network that cannot be followed."""
        key = (id(runner), *shape)
        if key not in self._known:
            try:
                self._known[key] = complexity(runner.network, shape, training=False).inference_bytes
            except DeconvsegError as reason:
                _log.warning("the estimate of memory leaves out the network's activations: %s", reason)
                self._known[key] = 0
        return self._known[key]
