"""The protocol of engines, which compute logits by PyTorch, ONNX Runtime, OpenVINO or other software."""

from __future__ import annotations

import builtins
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Engine(Protocol):
    """Computes the logits of a batch of windows.

    Subclasses define :meth:`logits` and :meth:`fingerprint`; the other members have defaults. The sweep handles
    windows, overlap, mirroring, averaging and lack of memory; an engine may compute in any precision.

    Attributes:
        device: the device of the batches that :meth:`logits` receives; :meth:`bytes` counts its memory.
        size_multiple: every side of a window must be a multiple of this, one number per axis. None if unknown:
            windows then keep the size of the training.
        fixed_size: the only accepted size of windows, or None.
        batch_size: the largest number of windows per call.
        fixed_batch: whether each call takes exactly ``batch_size`` windows; the sweep then pads batches.
        networks: the number N of networks whose logits it gives, network by network: (B, N * K, \\*W). Their
            probabilities are averaged as those of N engines.

    """

    device: torch.device = torch.device("cpu")
    size_multiple: tuple[int, ...] | None = None
    fixed_size: tuple[int, ...] | None = None
    batch_size: int = 1
    fixed_batch: bool = False
    networks: int = 1

    @abstractmethod
    def logits(self, batch: Tensor) -> Tensor:
        """Return logits (B, K, \\*W), of any floating-point type and on any device, of windows (B, C, \\*W) in float32.

        The engine may write into the batch; later calls must not change the logits. Raises :class:`MemoryError`, or
        PyTorch's own error, if memory does not suffice: the sweep then calls it with fewer or smaller windows.
        An engine converts its library's error for this into :class:`MemoryError`.
        """
        ...

    def bytes(self, window: Sequence[int], batch: int) -> int:
        """Return the bytes that computing this many windows takes in addition to the loaded weights; 0 if unknown."""
        return 0

    @abstractmethod
    def fingerprint(self) -> Iterable[builtins.bytes]:
        """Return everything that the logits depend on, such as the weights, in pieces that are hashed.

        A continued prediction keeps the masks whose records have the same hash.
        """
        ...
