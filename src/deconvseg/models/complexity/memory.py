"""Follows the memory that tensors take."""

import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from deconvseg.errors import DeconvsegError
from deconvseg.ops.torch_internals import TorchDispatchMode, tree_leaves


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, inside a ``with`` block, the storages that operations make, and when nothing holds them any more.

    ``known`` tensors, and those that are excluded later, do not count.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._keys: dict[int, int] = {}
        self._changes: list[tuple[int, int]] = []
        self._excluded: set[int] = set()
        for tensor in known:
            self.exclude(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operation, and note what it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        return result

    def exclude(self, tensor: Tensor) -> None:
        """Leave a tensor's storage out, from its beginning on."""
        self._excluded.add(self._note(tensor))

    @property
    def peak(self) -> int:
        """The largest number of bytes that were held at the same time."""
        return max(accumulate((size for key, size in self._changes if key not in self._excluded), initial=0))

    def _note(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        identity = id(storage)
        if identity not in self._keys:
            key = len(self._changes)
            self._keys[identity] = key
            self._changes.append((key, storage.nbytes()))
            weakref.finalize(storage, partial(self._release, identity, storage.nbytes()))
        return self._keys[identity]

    def _release(self, identity: int, size: int) -> None:
        self._changes.append((self._keys.pop(identity), -size))


def exclude_gradient(tracker: StorageTracker, parameter: Tensor) -> None:
    """Leave out the gradient that a backward pass will give a parameter."""
    parameter.register_hook(tracker.exclude)  # type: ignore[no-untyped-call]
    parameter.register_post_accumulate_grad_hook(partial(_exclude_kept, tracker))  # type: ignore[no-untyped-call]


def _exclude_kept(tracker: StorageTracker, leaf: Tensor) -> None:
    assert leaf.grad is not None
    tracker.exclude(leaf.grad)


def sum_backward(outputs: Iterable[Tensor]) -> None:
    """Differentiate the sum of all outputs' elements; each output gets a gradient of its own, as from a loss.

    Raises :class:`~deconvseg.errors.DeconvsegError` where none depends on anything that is trained.
    """
    differentiable = [output for output in outputs if output.requires_grad]
    if not differentiable:
        raise DeconvsegError("no tensor of its output depends on a parameter that is trained")
    torch.autograd.backward(differentiable, [torch.ones_like(output) for output in differentiable])
