"""Tracking of the memory of tensors."""

import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from deconvseg.errors import DeconvsegError
from deconvseg.ops.torch_internals import EagerMode, tree_leaves


class StorageTracker(EagerMode):  # type: ignore[no-untyped-call]
    """Records the storages that operations create inside a ``with`` block, and when they are released.

    ``known`` tensors, and tensors passed to :meth:`exclude`, are not counted.
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
        """Call an operation and record its results."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        return result

    def exclude(self, tensor: Tensor) -> None:
        """Exclude a tensor's storage from the count, including earlier times."""
        self._excluded.add(self._note(tensor))

    @property
    def peak(self) -> int:
        """The largest number of bytes held at the same time."""
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
    """Exclude the gradient that a backward pass will create for a parameter."""
    parameter.register_hook(tracker.exclude)  # type: ignore[no-untyped-call]
    parameter.register_post_accumulate_grad_hook(partial(_exclude_kept, tracker))  # type: ignore[no-untyped-call]


def _exclude_kept(tracker: StorageTracker, leaf: Tensor) -> None:
    assert leaf.grad is not None
    tracker.exclude(leaf.grad)


def sum_backward(outputs: Iterable[Tensor]) -> None:
    """Run the backward pass of the sum of all outputs; each output gets its own gradient tensor, as from a loss.

    Raises :class:`~deconvseg.errors.DeconvsegError` if no output depends on a trained parameter.
    """
    differentiable = [output for output in outputs if output.requires_grad]
    if not differentiable:
        raise DeconvsegError("no tensor of its output depends on a parameter that is trained")
    torch.autograd.backward(differentiable, [torch.ones_like(output) for output in differentiable])
