"""Observation of third-party models during a run, without permanent changes to them."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def reference_tensor(module: nn.Module) -> Tensor | None:
    """Return a floating-point parameter or buffer, for a module's device and type; None if it has none."""
    tensors = [*module.parameters(), *module.buffers()]
    return next((tensor.detach() for tensor in tensors if tensor.is_floating_point()), None)


@contextlib.contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Set every module to evaluation mode without gradients; restore each module's mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        # Not `eval()`, which a model may override.
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
    """Call ``enter`` before and ``leave`` after each call of the modules, except scripted ones, which have no hooks."""
    handles = []
    try:
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            if leave is not None:
                handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


class Snapshot:
    """The state of a model without the values of its parameters: modules, hooks, attributes, and values of buffers.

    The contents of container attributes (a list of features, a cache) are included, deeper levels are not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._classes = {module: type(module) for module in model.modules()}
        self._attributes = {module: dict(vars(module)) for module in self._classes}
        held = [value for attributes in self._attributes.values() for value in attributes.values()]
        # These include the containers of a module's buffers, children and hooks.
        self._contents = [(value, copy.copy(value)) for value in held if isinstance(value, dict | list | set)]
        tensors = [*model.buffers(), *(value for value in held if isinstance(value, Tensor))]
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self._flat = {module: _flat(module) for module in self._classes}

    def restore(self) -> None:
        """Restore the model to this state."""
        for module, kind in self._classes.items():
            if type(module) is not kind:
                module.__class__ = kind
            vars(module).clear()
            vars(module).update(self._attributes[module])
        for container, before in self._contents:
            container.clear()
            if isinstance(container, list):
                container.extend(before)
            else:
                container.update(before)
        with torch.no_grad():
            for tensor, value in self._values:
                if not same(tensor, value):
                    tensor.copy_(value)

    def changed(self) -> list[str]:
        """Return the names of the attributes that have changed."""
        found = []
        values = {id(tensor): value for tensor, value in self._values}
        for module, before in self._flat.items():
            now = _flat(module)
            for name in dict.fromkeys([*before, *now]):
                old, new = before.get(name, ()), now.get(name, ())
                identical = len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))
                if not identical or any(id(item) in values and not same(item, values[id(item)]) for item in new):
                    found.append(name)
        return found


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore the model's modules, attributes and buffers, and the random number generators, at the end."""
    snapshot, like = Snapshot(model), reference_tensor(model)
    devices = [like.device] if like is not None and like.is_cuda else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        snapshot.restore()


def same(a: object, b: object, *, rounded: bool = False) -> bool:
    """Return whether two results are equal (NaN equals NaN); meta tensors are compared by shape.

    ``rounded`` allows differences up to the square root of the type's precision times the largest value.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and _same_values(a, b, rounded)
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key], rounded=rounded) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(one, other, rounded=rounded) for one, other in zip(a, b, strict=True))
    if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
        names = [field.name for field in dataclasses.fields(a)]
        return all(same(getattr(a, name), getattr(b, name), rounded=rounded) for name in names)
    return same(vars(a), vars(b), rounded=rounded) if hasattr(a, "__dict__") else bool(a == b)


def _same_values(a: Tensor, b: Tensor, rounded: bool) -> bool:
    if a.is_meta or torch.equal(a, b):
        return True
    if not rounded or not a.is_floating_point():
        return bool(((a == b) | (a.isnan() & b.isnan())).all())
    allowed = torch.finfo(a.dtype).eps ** 0.5 * float(b.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(a, b, rtol=0, atol=allowed, equal_nan=True)


def _flat(module: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Return the contents of each attribute, including parameters, buffers and children."""
    flat: dict[str, tuple[Any, ...]] = {}
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers", "_modules"):
            flat.update({key: (item,) for key, item in value.items()})
        elif isinstance(value, dict):
            flat[name] = (value, *value.keys(), *value.values())
        else:
            flat[name] = (value, *value) if isinstance(value, list | set) else (value,)
    return flat
