"""Complexity of any network, without running it on data."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.models.complexity.counting import Counter, Tally
from deconvseg.models.complexity.memory import StorageTracker, exclude_gradient, sum_backward
from deconvseg.models.complexity.sketch import Sketch, WithoutValues
from deconvseg.ops.cost import told_to
from deconvseg.system import FOREIGN_ERRORS, first_line


@dataclass(frozen=True)
class Complexity:
    """Size of a network, and operations and memory of one forward pass.

    Attributes:
        input_shape: shape of the input, (B, C, \\*S).
        parameters: number of parameters; a shared one counts once.
        macs: multiply-accumulates of convolutions, matrix products, deconvolutions, interpolation and sampling.
        elementwise: operations on single elements, each counted once: activations, sums, normalisations (4, with a
            scale 6), softmax (5), pooling (one for each element of a window), biases.
        inference_bytes: peak memory of the activations in a forward pass.
        training_bytes: peak memory of a forward and a backward pass in training mode, or None if not requested or
            unknown.
        operators: one tally for each kind of operation.
        uncounted: names of the operations without a formula, which are missing in the counts.
        training_failure: the reason if ``training_bytes`` was requested and is unknown.

    """

    input_shape: tuple[int, ...]
    parameters: int
    macs: int
    elementwise: int
    inference_bytes: int
    training_bytes: int | None
    operators: Mapping[str, Tally]
    uncounted: tuple[str, ...] = ()
    training_failure: str | None = None

    @property
    def flops(self) -> int:
        """Twice the multiply-accumulates."""
        return 2 * self.macs

    @property
    def voxels(self) -> int:
        """Number of pixels or voxels of the input, over all samples."""
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
    """Count the operations of a network for an input of shape (B, C, \\*S), and the memory of its activations.

    ``model`` is any ``nn.Module`` that takes one tensor and returns tensors, possibly in lists, tuples or dictionaries.
    A copy without values (on PyTorch's ``meta`` device) is called in evaluation mode, with an input of the parameters'
    type, so nothing is computed and the model is not changed. Operators of this package are counted by their own
    formulas, whatever backend computes them. Operations without a formula that do more than create, move or view
    elements are listed in ``uncounted``. For a network in ``DataParallel`` only the network itself is counted.

    The memory of activations is the peak sum of all storages except parameters, buffers and the input. For inference it
    is that of a forward pass without gradients. For training (omitted with ``training=False``) it is that of a forward
    pass in training mode and of the backward pass of the summed output. It includes the output and its gradient,
    tensors saved for the backward pass, and gradients of activations, but not the gradients of parameters or the state
    of an optimiser. Scratch memory inside operations is not counted. Operators of this package save what their GPU
    kernels save; on a CPU the native kernels of whole blocks need less. A network that cannot be trained at this shape
    (batch normalisation of single values) is still counted.

    Raises :class:`~deconvseg.errors.InputError` for an invalid shape, a shape that the network rejects with a
    ``ValueError``, and parameters without a shape; :class:`~deconvseg.errors.DeconvsegError` if the network fails on
    tensors without values or cannot be copied.

    Example:
        >>> from torch import nn
        >>> from deconvseg.models import complexity
        >>> counted = complexity(nn.Conv2d(1, 4, kernel_size=3, padding=1, bias=False), (1, 1, 8, 8))
        >>> counted.parameters, counted.macs, counted.macs_per_voxel
        (36, 2304, 36.0)

    """
    shape = _checked(input_shape)
    with torch.inference_mode(mode=False):
        counter, inference_bytes = _evaluate(Sketch(model), shape)
        training_bytes, failure = _train(Sketch(model), shape) if training else (None, None)
    return Complexity(
        input_shape=shape,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=sum(tally.macs for tally in counter.tallies.values()),
        elementwise=sum(tally.elementwise for tally in counter.tallies.values()),
        inference_bytes=inference_bytes,
        training_bytes=training_bytes,
        operators=dict(sorted(counter.tallies.items(), key=lambda item: item[1].macs, reverse=True)),
        uncounted=tuple(sorted(counter.uncounted)),
        training_failure=failure,
    )


def activation_bytes(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Return :attr:`Complexity.inference_bytes` alone, with the errors of :func:`complexity`."""
    shape = _checked(input_shape)
    with torch.inference_mode(mode=False):
        return _evaluate(Sketch(model), shape, count=False)[1]


def _checked(input_shape: Sequence[int]) -> tuple[int, ...]:
    if isinstance(input_shape, Sequence):
        shape = tuple(input_shape)
        if len(shape) >= 2 and all(type(length) is int and length > 0 for length in shape):
            return shape
    raise InputError(f"input_shape={input_shape!r}: give (batch, channels, *sizes), positive integers")


def _evaluate(sketch: Sketch, shape: tuple[int, ...], *, count: bool = True) -> tuple[Counter, int]:
    counter, x = Counter(), sketch.image(shape)
    tracker = StorageTracker([x, *sketch.tensors])
    sketch.model.eval()
    counting = (told_to(counter), WithoutValues(), tracker, counter) if count else (WithoutValues(), tracker)
    with torch.no_grad(), ExitStack() as stack:
        for context in counting:
            stack.enter_context(context)
        sketch.call(x)
    return counter, tracker.peak


def _train(sketch: Sketch, shape: tuple[int, ...]) -> tuple[int | None, str | None]:
    """Return the peak memory of a forward and a backward pass, or the reason why it is unknown."""
    parameters = [parameter for parameter in sketch.model.parameters() if parameter.requires_grad]
    if not parameters:
        return None, "no parameter is trained"
    x = sketch.image(shape)
    tracker = StorageTracker([x, *sketch.tensors])
    for parameter in parameters:
        exclude_gradient(tracker, parameter)
    sketch.model.train()
    try:
        with torch.enable_grad(), WithoutValues(), tracker:
            sum_backward(sketch.call(x))
    except DeconvsegError as failure:
        return None, str(failure)
    except FOREIGN_ERRORS as failure:
        return None, f"{sketch.name} has no backward pass without values: {first_line(failure)}"
    return tracker.peak, None
