"""Sizes in the modules of a model, recorded in a run on one image."""

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvseg.errors import InputError
from deconvseg.nn.observing import at_rest, reference_tensor, unchanged, watched
from deconvseg.ops.torch_internals import ConvNd
from deconvseg.system import FOREIGN_ERRORS, first_line

_LENGTHS = {1: (32, 64, 96, 128, 224), 2: (32, 64, 96, 128, 224), 3: (32, 64, 96, 128)}


@dataclass(frozen=True)
class Resized:
    """Shapes of a tensor before and after a call, and whether it was the only argument."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    alone: bool = True


@dataclass(frozen=True)
class Call:
    """One call of a module: how it resized its tensor, if it did, and the tensors that its own forward interpolated."""

    resized: Resized | None
    interpolated: tuple[Resized, ...]
    fixed: Mapping[str, object] = field(default_factory=dict)


Calls = Mapping[nn.Module, Sequence[Call]]


def probe(model: nn.Module, example: Tensor | None) -> tuple[Calls, Tensor]:
    """Run a model on ``example`` or on a generated image; return all calls of its modules, and the image.

    Raises :class:`~deconvseg.errors.InputError` if the model cannot be run.
    """
    failure = "it has no convolution that shows its number of input channels"
    for image in [example] if example is not None else _images(model):
        try:
            calls = _record(model, image)
        except FOREIGN_ERRORS as error:
            failure = f"on {tuple(image.shape)} it said: {first_line(error)}"
            continue
        return _with_wider(calls, model, image), image
    raise InputError(f"the model could not be run ({failure}): give example=, an image that it takes")


def _record(model: nn.Module, image: Tensor) -> Calls:
    """Run a model and return the calls of each of its modules, and of ``interpolate`` in their own forwards."""
    recorder = _Recorder()
    with unchanged(model), watched(model.modules(), recorder.enter, recorder.leave), at_rest(model), recorder:
        # A copy, because a network may work in place.
        model(image.clone())
    return recorder.calls


def _with_wider(calls: Calls, model: nn.Module, image: Tensor) -> Calls:
    """Add the calls of a run on a longer image, if the model takes one, to distinguish factors from fixed sizes."""
    if not any(call.interpolated for of_module in calls.values() for call in of_module):
        return calls
    try:
        wider = _record(model, torch.cat([image, image], dim=-1))
    except FOREIGN_ERRORS:
        return calls
    return {module: [*of_module, *wider.get(module, ())] for module, of_module in calls.items()}


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[nn.Module, list[Call]] = defaultdict(list)
        self._running: list[list[Resized]] = []

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._running.append([])

    def leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given, inner = [*args, *kwargs.values()], self._running.pop()
        resized = None
        if given and isinstance(given[0], Tensor) and isinstance(output, Tensor):
            resized = Resized(tuple(given[0].shape), tuple(output.shape), alone=len(given) == 1)
        fixed = _fixed(module, args, kwargs) if inner else {}
        self.calls[module].append(Call(resized, tuple(inner), fixed))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is F.interpolate:
            image = args[0] if args else kwargs["input"]
            self._running[-1].append(Resized(tuple(image.shape), tuple(out.shape)))
        return out


def _fixed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object]:
    """Return the arguments that select branches (None, booleans, strings), including defaults."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if value is None or isinstance(value, bool | str)}


def _images(model: nn.Module) -> Iterator[Tensor]:
    """Yield images that a model may take, from its declared sizes or, without them, from its first convolution."""
    first = next((module for module in model.modules() if _is_convolution(module)), None)
    multiple, channels = getattr(model, "size_multiple", None), getattr(model, "in_channels", None)
    if isinstance(multiple, tuple) and isinstance(channels, int):
        sizes = [getattr(model, "fixed_size", None) or tuple(2 * length for length in multiple)]
    elif isinstance(first, ConvNd):
        axes, channels = len(first.kernel_size), first.in_channels
        sizes = [(length,) * axes for length in _LENGTHS[axes]]
    else:
        return
    like = reference_tensor(model)
    for size in sizes:
        image = torch.rand((1, channels, *size), generator=torch.Generator().manual_seed(0))
        yield image if like is None else image.to(like)


def _is_convolution(module: nn.Module) -> bool:
    conv = nn.modules.conv
    return isinstance(module, conv._ConvNd) and not isinstance(module, conv._ConvTransposeNd)
