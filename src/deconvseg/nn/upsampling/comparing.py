"""Comparison of a traced forward with the original: with and without gradients and autocast, in both modes."""

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
    """Return for each module why its forward and its replacement differ in a run of the model; empty if none does."""
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
    # Both values of each setting are tried, because a region is visible only if it changes the setting.
    for training, lively in itertools.product((False, True), repeat=2):
        regions = _Regions(module)
        try:
            with _under(module, training, lively), regions.looked_for():
                expected = _call(type(module).forward, module, args, kwargs)
        except FOREIGN_ERRORS:
            if regions.found:
                return _REGION
            # The original fails under these settings (for example in half precision), so nothing can be compared.
            continue
        if regions.found:
            return _REGION
        try:
            with _under(module, training, lively):
                made = _call(replacement, module, args, kwargs)
        except FOREIGN_ERRORS as error:
            return f"its forward as traced by torch.fx fails ({first_line(error)})"
        if not same(made, expected):
            return "its forward as traced by torch.fx returns another result"
    return ""


@contextlib.contextmanager
def _under(module: nn.Module, training: bool, lively: bool) -> Iterator[None]:
    """Set the module's training mode, and enable or disable gradients and autocast; restore all settings afterwards."""
    with unchanged(module), torch.set_grad_enabled(lively), _autocast(lively):
        module.training = training
        yield


def _call(forward: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
    # Copies, because a forward may work in place; a fixed seed, because it may draw random numbers.
    copied, named = deepcopy((args, kwargs))
    torch.manual_seed(0)
    return forward(module, *copied, **named)


class _Regions(TorchFunctionMode):
    """Records whether a module's own forward changes the settings under which it is called."""

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
    """Return the settings that PyTorch's context managers change; `checkpoint` sets hooks on saved tensors."""
    autocast = [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _AUTOCAST_DEVICES]
    hooks = saved_tensor_hooks(True)
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), hooks, *autocast


@contextlib.contextmanager
def _autocast(enabled: bool) -> Iterator[None]:
    """Turn autocast on or off for all types of devices, because the network may be trained on another machine."""
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
