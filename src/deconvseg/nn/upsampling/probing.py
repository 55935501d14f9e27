"""What the modules of a model do with an image: their sizes, seen by running it once."""

import contextlib
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvseg.errors import InputError

# What running or tracing somebody else's code with an input that it may not be made for can raise.
FOREIGN_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)
_LENGTHS = {1: (32, 64, 96, 128, 224), 2: (32, 64, 96, 128, 224), 3: (32, 64, 96, 128)}


@dataclass(frozen=True)
class Resized:
    """Shapes of a tensor before and after, and whether the call was with that tensor alone."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    alone: bool = True


@dataclass(frozen=True)
class Call:
    """One call of a module: what it made of its tensor, if that is what it did, and what its own forward resized."""

    resized: Resized | None
    interpolated: tuple[Resized, ...]
    fixed: Mapping[str, object] = field(default_factory=dict)


Calls = Mapping[nn.Module, Sequence[Call]]


def probe(model: nn.Module, example: Tensor | None) -> tuple[Calls, Tensor]:
    """Run a model on ``example``, or on an image made for it; return all calls of its modules, and the image.

    Raises :class:`~deconvseg.errors.InputError` where it can't be run.
    """
    failure = "it has no convolution that says how many channels it takes"
    for image in [example] if example is not None else _images(model):
        try:
            calls = _record(model, image)
        except FOREIGN_ERRORS as error:
            failure = f"on {tuple(image.shape)} it said: {first_line(error)}"
            continue
        return _with_wider(calls, model, image), image
    raise InputError(f"the model could not be run ({failure}): give example=, an image as it takes them")


def _record(model: nn.Module, image: Tensor) -> Calls:
    """Run a model and return the calls of each of its modules, and of ``interpolate`` in their own forwards."""
    recorder = _Recorder()
    with watched(model.modules(), recorder.enter, recorder.leave), at_rest(model), recorder:
        model(image)
    return recorder.calls


def _with_wider(calls: Calls, model: nn.Module, image: Tensor) -> Calls:
    """Add the calls of a run on a longer image, which tells factors from sizes, if the model takes one."""
    if not any(call.interpolated for of_module in calls.values() for call in of_module):
        return calls
    try:
        wider = _record(model, torch.cat([image, image], dim=-1))
    except FOREIGN_ERRORS:
        return calls
    return {module: [*of_module, *wider.get(module, ())] for module, of_module in calls.items()}


def find_difference(
    model: nn.Module, image: Tensor, forwards: Mapping[nn.Module, Callable[..., Any]]
) -> set[nn.Module]:
    """Return the modules whose forward makes something else than its replacement, in a run of the model."""
    given: dict[nn.Module, list[Any]] = defaultdict(list)
    differing = set()

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A copy, because forwards may work in place.
        given[module].append(deepcopy((args, kwargs)))

    def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        copied, named = given[module].pop()
        if not _same(forwards[module](module, *copied, **named), output):
            differing.add(module)

    with watched(forwards, enter, leave), at_rest(model):
        model(image)
    return differing


@contextlib.contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Have every module evaluate, without gradients; afterwards each is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        # Not by `eval()`, which a model may define otherwise.
        for module in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def watched(
    modules: Iterable[nn.Module], enter: Callable[..., None], leave: Callable[..., None] | None = None
) -> Iterator[None]:
    """Call ``enter`` before and ``leave`` after the modules are called."""
    handles = []
    try:
        for module in modules:
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            if leave is not None:
                handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


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
    """Return the arguments that choose a branch rather than carry a value, defaults included."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if value is None or isinstance(value, bool | str)}


def _images(model: nn.Module) -> Iterator[Tensor]:
    """Make images that a model may take: a network of ours says its sizes, for others the first convolution hints."""
    first = next((module for module in model.modules() if _is_convolution(module)), None)
    multiple, channels = getattr(model, "size_multiple", None), getattr(model, "in_channels", None)
    if isinstance(multiple, tuple) and isinstance(channels, int):
        sizes = [getattr(model, "fixed_size", None) or tuple(2 * length for length in multiple)]
    elif isinstance(first, nn.modules.conv._ConvNd):
        axes, channels = len(first.kernel_size), first.in_channels
        sizes = [(length,) * axes for length in _LENGTHS[axes]]
    else:
        return
    like = reference_tensor(model)
    for size in sizes:
        image = torch.rand((1, channels, *size), generator=torch.Generator().manual_seed(0))
        yield image if like is None else image.to(like)


def reference_tensor(module: nn.Module) -> Tensor | None:
    """Return a floating-point parameter or buffer, which tells a module's device and type; None if it has none."""
    tensors = [*module.parameters(), *module.buffers()]
    return next((tensor.detach() for tensor in tensors if tensor.is_floating_point()), None)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_convolution(module: nn.Module) -> bool:
    conv = nn.modules.conv
    return isinstance(module, conv._ConvNd) and not isinstance(module, conv._ConvTransposeNd)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
