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

    Derive from it and give :meth:`logits` and :meth:`fingerprint`; the rest has defaults. The sweep handles windows,
    overlap, mirroring, averaging and lack of memory; an engine may compute in any precision.

    Attributes:
        device: where batches are put before they are given to :meth:`logits`; its memory is what :meth:`bytes` counts.
        size_multiple: every side of a window must be a multiple of this, one number per axis. None where that is not
            known: windows then keep the size that training had.
        fixed_size: the only size of windows that is taken, or None.
        batch_size: how many windows a call takes at most.
        fixed_batch: whether a call takes exactly ``batch_size`` windows; the sweep then pads batches.

    """

    device: torch.device = torch.device("cpu")
    size_multiple: tuple[int, ...] | None = None
    fixed_size: tuple[int, ...] | None = None
    batch_size: int = 1
    fixed_batch: bool = False

    @abstractmethod
    def logits(self, batch: Tensor) -> Tensor:
        """Return logits (B, K, \\*W), of any floating-point type and on any device, of windows (B, C, \\*W) in float32.

        The engine may write into the batch; later calls must not change the logits. Raises :class:`MemoryError`, or
        PyTorch's own error, where memory does not suffice: the sweep then calls it with fewer or with smaller windows.
        An engine turns its library's error for that into :class:`MemoryError`.
        """
        ...

    def bytes(self, window: Sequence[int], batch: int) -> int:
        """Return what computing so many windows takes beside the loaded weights; 0 where that is not known."""
        return 0

    @abstractmethod
    def fingerprint(self) -> Iterable[builtins.bytes]:
        """Return what the logits depend on, such as the weights, in pieces that are hashed.

        A prediction that is continued keeps the masks whose records have the same hash.
        """
        ...
