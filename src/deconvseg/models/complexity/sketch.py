"""Copies of networks without values (on PyTorch's ``meta`` device), and calls of them."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.models.complexity.shapes import output_of
from deconvseg.nn.observing import reference_tensor
from deconvseg.ops.torch_internals import EagerMode, compiler_is_imported, tree_leaves, tree_map
from deconvseg.system import FOREIGN_ERRORS, first_line

# The stance belongs to the process: two threads that left it in the wrong order would keep compiled code turned off.
_STANCE = threading.RLock()


class Sketch:
    """A copy of a network without values; calls of it do not affect the network.

    Raises :class:`~deconvseg.errors.InputError` for parameters without a shape, and
    :class:`~deconvseg.errors.DeconvsegError` if the network cannot be copied.
    """

    def __init__(self, model: nn.Module) -> None:
        while isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        self.name = type(model).__name__
        lazy = UninitializedParameter, UninitializedBuffer
        if any(isinstance(tensor, lazy) for tensor in [*model.parameters(), *model.buffers()]):
            raise InputError(
                f"{self.name} has parameters without a shape (of a lazy module): call it with an image first"
            )
        if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
            raise DeconvsegError(f"{self.name} is or holds TorchScript: count the module that it was made from")
        copying = _CopyingWithoutValues()
        try:
            with copying:
                self.model = deepcopy(model)
        except FOREIGN_ERRORS as obstacle:
            raise DeconvsegError(
                f"{self.name} cannot be copied ({first_line(obstacle)}): keep what cannot out of its attributes"
            ) from obstacle
        self.tensors = copying.copies

    def image(self, shape: Sequence[int]) -> Tensor:
        """Return an input of this shape and of the network's type."""
        reference = reference_tensor(self.model)
        return torch.empty(tuple(shape), dtype=reference.dtype if reference is not None else None, device="meta")

    def call(self, image: Tensor) -> list[Tensor]:
        """Return all output tensors of the network for an image.

        Raises :class:`~deconvseg.errors.InputError` if the network rejects the image with a ``ValueError``, and
        :class:`~deconvseg.errors.DeconvsegError` for other errors.
        """
        shape = tuple(image.shape)
        try:
            with _STANCE, _eagerly():
                outputs = self.model(image)
        except DeconvsegError:
            raise
        except ValueError as refusal:
            raise InputError(f"{self.name} refuses an input of shape {shape}: {first_line(refusal)}") from refusal
        except FOREIGN_ERRORS as obstacle:
            found = f"{self.name} stops at an input of shape {shape}"
            if "meta" in str(obstacle).lower():
                raise DeconvsegError(
                    f"{found} without values (on PyTorch's meta device): {first_line(obstacle)}; count the parts of it "
                    "that do not read values"
                ) from obstacle
            raise DeconvsegError(f"{found}: {first_line(obstacle)}; give another size, or correct it") from obstacle
        return [output for output in tree_leaves(outputs) if isinstance(output, Tensor)]


def _eagerly() -> AbstractContextManager[object]:
    """Return a context in which compiled code is turned off; importing the compiler would take a second."""
    if not compiler_is_imported():
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


class WithoutValues(EagerMode):  # type: ignore[no-untyped-call]
    """Lets operations mix tensors with values (constants of a network) and tensors without values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operation; if any of its tensors has no values, all are moved to the meta device."""
        options = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)]
        if any(tensor.is_meta for tensor in tensors) and not all(tensor.is_meta for tensor in tensors):
            args, options = tree_map(_forget, (args, options))
        known = output_of(func) if any(tensor.is_meta for tensor in tensors) else None
        if known is not None and (found := known(*args, **options)) is not None:
            return found
        return func(*args, **options)


def _forget(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


class _CopyingWithoutValues(TorchFunctionMode):
    """Copies tensors without their values; ``copies`` lists the copies, including parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__:
            tensor, known = args
            if id(tensor) not in known:
                # Computed tensors, such as the weight of a normalised layer, are not leaves; they are computed again.
                known[id(tensor)] = self._copy(tensor).requires_grad_(tensor.requires_grad and tensor.is_leaf)
            return known[id(tensor)]
        # The function by which a parameter copies itself.
        if func is Tensor.clone:
            return self._copy(args[0])
        return func(*args, **(kwargs or {}))

    def _copy(self, tensor: Tensor) -> Tensor:
        self.copies.append(tensor.detach().to("meta"))
        return self.copies[-1]
