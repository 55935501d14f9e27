"""The complexity of any network, without running it on data."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.models.complexity.counting import Counter, Tally
from deconvseg.models.complexity.memory import StorageTracker, exclude_gradient, sum_backward
from deconvseg.ops.cost import told_to


@dataclass(frozen=True)
class Complexity:
    """What a network has and what one forward pass of it takes.

    Attributes:
        input_shape: (B, C, \\*S).
        parameters: number of parameters; a shared one counts once.
        macs: multiply-accumulates: convolutions, matrix products, deconvolutions, interpolation and sampling.
        elementwise: operations on single elements, each counted once: activations, sums, normalisations (4, with a
            scale 6), softmax (5), pooling (one for each element of a window), biases.
        inference_bytes: the most memory that activations take at the same time in a forward pass.
        training_bytes: the same for a forward and a backward pass in training mode, or None where it was not asked for
            or no parameter is trained.
        operators: a tally for each kind of operation.

    """

    input_shape: tuple[int, ...]
    parameters: int
    macs: int
    elementwise: int
    inference_bytes: int
    training_bytes: int | None
    operators: Mapping[str, Tally]

    @property
    def flops(self) -> int:
        """Twice the multiply-accumulates."""
        return 2 * self.macs

    @property
    def voxels(self) -> int:
        """Pixels or voxels of the input, over all its samples."""
        batch, _, *size = self.input_shape
        return batch * int(torch.Size(size).numel())

    @property
    def macs_per_voxel(self) -> float:
        """Multiply-accumulates per pixel or voxel of the input."""
        return self.macs / self.voxels

    @property
    def flops_per_voxel(self) -> float:
        """Twice the multiply-accumulates per pixel or voxel of the input."""
        return self.flops / self.voxels


def complexity(model: nn.Module, input_shape: Sequence[int], *, training: bool = True) -> Complexity:
    """Count what a network does with an input of shape (B, C, \\*S), and the memory that its activations take.

    Any ``nn.Module`` that takes one tensor and returns tensors. It is called, in evaluation mode, with copies of its
    parameters and buffers that have shapes but no values (PyTorch's ``meta`` device), so nothing is computed, and the
    model stays as it was. This package's operators count by the formulas beside them, whatever computes them.

    The memory of activations is the largest sum of the storages that live at the same time and are neither parameters,
    buffers nor the input. For inference it is that of a forward pass without gradients. For training (left out with
    ``training=False``) it is that of a forward pass in training mode and of the backward pass of the summed output:
    the output and its gradient, what is kept for the backward pass, and the gradients of activations; not the gradients
    of parameters nor the state of an optimiser. Scratch memory inside an operation is not seen. This package's
    operators keep what their kernels keep on a GPU; on a CPU the native kernels of whole blocks need less.

    Raises :class:`~deconvseg.errors.InputError` for a shape that is none, or that the network refuses with a
    ``ValueError``, and :class:`~deconvseg.errors.DeconvsegError` where it stops on tensors without values.
    """
    shape = tuple(input_shape)
    if len(shape) < 2 or any(not isinstance(length, int) or length < 1 for length in shape):
        raise InputError(f"input_shape={input_shape!r}: give (batch, channels, *sizes), positive integers")
    with torch.inference_mode(mode=False):
        counter, inference_bytes = _evaluate(model, shape)
        training_bytes = _training_bytes(model, shape) if training else None
    return Complexity(
        input_shape=shape,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=sum(tally.macs for tally in counter.tallies.values()),
        elementwise=sum(tally.elementwise for tally in counter.tallies.values()),
        inference_bytes=inference_bytes,
        training_bytes=training_bytes,
        operators=dict(sorted(counter.tallies.items(), key=lambda item: item[1].macs, reverse=True)),
    )


def _evaluate(model: nn.Module, shape: tuple[int, ...]) -> tuple[Counter, int]:
    counter, state = Counter(), _without_values(model)
    x = _image(shape, state)
    tracker = StorageTracker([x, *state.values()])
    with torch.no_grad(), told_to(counter), tracker, counter:
        _call(model, state, x, training=False)
    return counter, tracker.peak


def _training_bytes(model: nn.Module, shape: tuple[int, ...]) -> int | None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return None
    state = _without_values(model)
    x = _image(shape, state)
    tracker = StorageTracker([x, *state.values()])
    for tensor in state.values():
        if tensor.requires_grad:
            exclude_gradient(tracker, tensor)
    with torch.enable_grad(), tracker:
        sum_backward(_call(model, state, x, training=True))
    return tracker.peak


def _without_values(model: nn.Module) -> dict[str, Tensor]:
    """Copies of parameters and buffers that have shapes but no values."""
    state = {name: tensor.detach().to("meta") for name, tensor in model.named_buffers()}
    for name, parameter in model.named_parameters():
        state[name] = parameter.detach().to("meta").requires_grad_(parameter.requires_grad)
    return state


def _image(shape: tuple[int, ...], state: Mapping[str, Tensor]) -> Tensor:
    dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), None)
    return torch.empty(shape, dtype=dtype, device="meta")


def _call(model: nn.Module, state: dict[str, Tensor], x: Tensor, *, training: bool) -> list[Tensor]:
    """Call a model with another state, in evaluation or training mode; return all tensors that it gives."""
    name, shape = type(model).__name__, tuple(x.shape)
    try:
        with _mode(model, training):
            outputs = functional_call(model, state, (x,))
    except DeconvsegError:
        raise
    except ValueError as refusal:
        raise InputError(f"{name} refuses an input of shape {shape}: {_line(refusal)}") from refusal
    except (RuntimeError, TypeError, AssertionError) as obstacle:
        raise DeconvsegError(
            f"{name} stops at an input of shape {shape} without values (on PyTorch's meta device): {_line(obstacle)}; "
            "give another size, or count a network that does not look at values"
        ) from obstacle
    return [output for output in tree_leaves(outputs) if isinstance(output, Tensor)]


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before.items():
            module.training = was_training


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
