"""Whether a traced forward does what the original does, also with gradients, under autocast, and in training."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvseg.nn.observing import at_rest, same, unchanged, watched
from deconvseg.ops.torch_internals import saved_tensor_hooks
from deconvseg.system import FOREIGN_ERRORS, first_line

_AUTOCAST_DEVICES = ("cpu", "cuda")
_REGION = (
    "its forward has a part with settings of its own (torch.no_grad, torch.autocast, torch.utils.checkpoint), which a "
    "graph of torch.fx would not have"
)


def find_faults(
    model: nn.Module, image: Tensor, forwards: Mapping[nn.Module, Callable[..., Any]]
) -> dict[nn.Module, str]:
    """Return why a module's forward is another than its replacement, if it is, as seen in a run of the model."""
    faults: dict[nn.Module, str] = {}
    comparing = False

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal comparing
        if comparing or module in faults:
            return
        comparing = True
        fault = _compare(module, forwards[module], args, kwargs)
        comparing = False
        if fault:
            faults[module] = fault

    with unchanged(model), watched(forwards, enter), at_rest(model):
        model(image.clone())
    return faults


def _compare(module: nn.Module, replacement: Callable[..., Any], args: Any, kwargs: Any) -> str:
    # What a region turns off is seen where it is on, and the other way round.
    for training, lively in itertools.product((False, True), repeat=2):
        regions = _Regions(module)
        try:
            with _under(module, training, lively), regions.looked_for():
                expected = _call(type(module).forward, module, args, kwargs)
        except FOREIGN_ERRORS:
            if regions.found:
                return _REGION
            # Not every network can do everything, such as half precision: then there is nothing to compare with.
            continue
        if regions.found:
            return _REGION
        try:
            with _under(module, training, lively):
                made = _call(replacement, module, args, kwargs)
        except FOREIGN_ERRORS as error:
            return f"its forward as torch.fx traces it stops ({first_line(error)})"
        if not same(made, expected):
            return "its forward as torch.fx traces it makes something else"
    return ""


@contextlib.contextmanager
def _under(module: nn.Module, training: bool, lively: bool) -> Iterator[None]:
    """Set training of the module alone, and both gradients and autocast; afterwards all is as before."""
    with unchanged(module), torch.set_grad_enabled(lively), _autocast(lively):
        module.training = training
        yield


def _call(forward: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
    # Copies and the same random numbers, because forwards may work in place.
    copied, named = deepcopy((args, kwargs))
    torch.manual_seed(0)
    return forward(module, *copied, **named)


class _Regions(TorchFunctionMode):
    """Whether a module's own forward changes the settings under which it was called."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.found = False
        self._children = [child for child in module.modules() if child is not module]
        self._settings: list[tuple[object, ...]] = []

    @contextlib.contextmanager
    def looked_for(self) -> Iterator[None]:
        self._settings.append(_settings())
        with watched(self._children, self._enter_child, self._leave_child), self:
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._look()
        return func(*args, **(kwargs or {}))

    def _look(self) -> None:
        if len(self._settings) == 1 and _settings() != self._settings[0]:
            self.found = True

    def _enter_child(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._look()
        self._settings.append(_settings())

    def _leave_child(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._settings.pop()


def _settings() -> tuple[object, ...]:
    """Return the settings that PyTorch's regions change; `checkpoint` is seen by its hooks on saved tensors."""
    autocast = [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _AUTOCAST_DEVICES]
    hooks = saved_tensor_hooks(True)
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), hooks, *autocast


@contextlib.contextmanager
def _autocast(enabled: bool) -> Iterator[None]:
    """Turn autocast on or off for every device, there or not: the network may be trained on another one."""
    before = [(device, torch.is_autocast_enabled(device)) for device in _AUTOCAST_DEVICES]
    torch.autocast_increment_nesting()
    try:
        for device in _AUTOCAST_DEVICES:
            torch.set_autocast_enabled(device, enabled)
        yield
    finally:
        for device, was_enabled in before:
            torch.set_autocast_enabled(device, was_enabled)
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
