"""The complexity of any network, without running it on data."""

from collections.abc import Mapping, Sequence
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
    """What a network has and what one forward pass of it takes.

    Attributes:
        input_shape: (B, C, \\*S).
        parameters: number of parameters; a shared one counts once.
        macs: multiply-accumulates: convolutions, matrix products, deconvolutions, interpolation and sampling.
        elementwise: operations on single elements, each counted once: activations, sums, normalisations (4, with a
            scale 6), softmax (5), pooling (one for each element of a window), biases.
        inference_bytes: the most memory that activations take at the same time in a forward pass.
        training_bytes: the same for a forward and a backward pass in training mode, or None where it was not asked for
            or is not known.
        operators: a tally for each kind of operation.
        uncounted: names of the operations that have no formula, whose work is missing above.
        training_failure: why ``training_bytes`` is not known, where it was asked for.

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

    Any ``nn.Module`` that takes one tensor and returns tensors, also in lists, tuples and dictionaries. A copy of it
    that has shapes but no values (PyTorch's ``meta`` device) is called in evaluation mode, with an input of its
    parameters' type, so nothing is computed and the model stays as it was. This package's operators count by the
    formulas beside them, whatever computes them; what has no formula and does more than to make, move or view elements
    is named in ``uncounted``. Around a network in ``DataParallel`` nothing is counted but the network.

    The memory of activations is the largest sum of the storages that live at the same time and are neither parameters,
    buffers nor the input. For inference it is that of a forward pass without gradients. For training (left out with
    ``training=False``) it is that of a forward pass in training mode and of the backward pass of the summed output:
    the output and its gradient, what is kept for the backward pass, and the gradients of activations; not the gradients
    of parameters nor the state of an optimiser. Scratch memory inside an operation is not seen. This package's
    operators keep what their kernels keep on a GPU; on a CPU the native kernels of whole blocks need less. A network
    that cannot be trained at this shape (batch normalisation of single values) is counted all the same.

    Raises :class:`~deconvseg.errors.InputError` for a shape that is none, or that the network refuses with a
    ``ValueError``, and for parameters that have no shape yet; :class:`~deconvseg.errors.DeconvsegError` where it stops
    on tensors without values, or cannot be copied.
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


def _checked(input_shape: Sequence[int]) -> tuple[int, ...]:
    if isinstance(input_shape, Sequence):
        shape = tuple(input_shape)
        if len(shape) >= 2 and all(type(length) is int and length > 0 for length in shape):
            return shape
    raise InputError(f"input_shape={input_shape!r}: give (batch, channels, *sizes), positive integers")


def _evaluate(sketch: Sketch, shape: tuple[int, ...]) -> tuple[Counter, int]:
    counter, x = Counter(), sketch.image(shape)
    tracker = StorageTracker([x, *sketch.tensors])
    sketch.model.eval()
    with torch.no_grad(), told_to(counter), WithoutValues(), tracker, counter:
        sketch.call(x)
    return counter, tracker.peak


def _train(sketch: Sketch, shape: tuple[int, ...]) -> tuple[int | None, str | None]:
    """Follow the memory of a forward and a backward pass; return its peak, or why it is not known."""
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
