"""The registry: the operators that have kernels, and the backends that compute each, by device and in their order."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvseg.errors import InputError, check_choice

# What a choice may also be called.
_RESERVED = ("", "reference", "eager", "meta")


class Implementation(NamedTuple):
    """How a backend computes an operator on devices of a type; see :func:`register_backend`."""

    backend: str
    device: str
    priority: int
    kernels: object
    decline: str

    def module(self) -> Any:
        """Return what holds the kernels, imported where it is given by name."""
        return _module(self.kernels) if isinstance(self.kernels, str) else self.kernels

    def why_not(self, forced: bool, tensors: Sequence[Tensor | None], settings: Sequence[object]) -> str | None:
        """Ask why it does not compute with these tensors; None where it does."""
        module = self.module()
        ask = (getattr(module, "supports", None) if forced else None) or getattr(module, self.decline)
        reason: str | None = ask(*tensors, *settings)
        return reason


class Operator:
    """Something that several backends compute; of its tensors the first ``images`` are (B, channels, \\*S).

    One ``of_layers`` stands for layers of PyTorch's, which run wherever it does not: under autocast, where other code
    watches or replaced PyTorch's functions, and where a backend is forced that declines, as that one may compute what
    is inside.
    """

    def __init__(self, name: str, tensors: int, *, images: int, of_layers: bool = False) -> None:
        self.name, self.tensors, self.images, self.of_layers = name, tensors, images, of_layers
        self.implementations = ()

    @property
    def implementations(self) -> tuple[Implementation, ...]:
        """All that compute it, in the order in which they are asked."""
        return self._implementations

    @implementations.setter
    def implementations(self, ordered: tuple[Implementation, ...]) -> None:
        self._implementations = ordered
        self._named = {each.backend: each for each in ordered}
        # The types of devices on which a backend computes it.
        self.devices = {each.device for each in ordered}

    def kernels(self, backend: str, *tensors: Tensor | None) -> Any:
        """Return the module of a backend that was chosen for these tensors.

        ``""`` is for a call of the operator of ``torch.library`` itself: the first that can compute, else an error.
        """
        device, reasons = device_of(tensors), []
        if named := self._named.get(backend):
            if named.device == device:
                return named.module()
            reasons.append(f"{backend} needs tensors on {named.device}, not {device}")
        for each in self.implementations:
            if not backend and each.device == device:
                reason = None if self.of_layers else each.why_not(True, tensors, ())
                if reason is None:
                    return each.module()
                reasons.append(reason)
        reasons.append(f"no backend {backend} computes it on {device}")
        raise InputError(
            f"deconvseg::{self.name}: {reasons[0]}; call deconvseg.ops.{self.name}, which takes all tensors"
        )


OPERATORS: dict[str, Operator] = {}


def define_operator(name: str, tensors: int, *, images: int, of_layers: bool = False) -> Operator:
    """Make the :class:`Operator` of that name, or return it where it is there."""
    return OPERATORS.setdefault(name, Operator(name, tensors, images=images, of_layers=of_layers))


def register_backend(
    operator: str, backend: str, *, device: str, kernels: object, priority: int = 0, decline: str = "decline"
) -> None:
    """Have a backend compute an operator for tensors on devices of a type (``"cpu"``, ``"cuda"``, ``"mps"``).

    Of several on one device the highest ``priority`` goes first, then the one registered first; a second registration
    of a backend replaces the first. ``kernels`` is a module or another object, or the name of a module that is imported
    when it is first asked. It has the functions that the operator's ``library.py`` calls, and the one that ``decline``
    names: it takes the operator's tensors and settings and returns why it does not compute with them, in one line, or
    None. Where there is also ``supports``, that answers for a forced backend, and ``decline`` may turn down what others
    compute faster. Raises :class:`~deconvseg.errors.InputError` for an unknown operator or type of device, a priority
    that is no number, and a name that stands for no backend's kernels, as ``"reference"``.
    """
    others = _others(operator, backend)
    if backend in _RESERVED:
        raise InputError(f"a backend cannot be named {backend!r}: choose a name that has no other meaning")
    if not _is_device_type(device):
        raise InputError(f"device={device!r}: give a type of device, as 'cpu', 'cuda' or 'mps'")
    if not isinstance(priority, int | float) or priority != priority:
        raise InputError(f"priority={priority!r}: give a number")
    ordered = (*others, Implementation(backend, device, priority, kernels, decline))
    OPERATORS[operator].implementations = tuple(sorted(ordered, key=lambda each: -each.priority))


def unregister_backend(operator: str, backend: str) -> None:
    """Have a backend compute an operator no longer; nothing where it does not, but an operator must be known."""
    others = _others(operator, backend)
    OPERATORS[operator].implementations = others


def _others(operator: str, backend: str) -> tuple[Implementation, ...]:
    check_choice(operator, tuple(OPERATORS), "operator")
    return tuple(each for each in OPERATORS[operator].implementations if each.backend != backend)


def _is_device_type(name: str) -> bool:
    try:
        return torch.device(name).type == name
    except RuntimeError:
        return False


def define_in_torch(
    operator: Operator,
    name: str,
    schema: str,
    compute: Callable[..., object],
    fake: Callable[..., object],
    derivative: Callable[..., tuple[Tensor | None, ...]] | None = None,
    save: Callable[..., None] | None = None,
    *,
    first: int = 0,
) -> None:
    """Define ``deconvseg::name`` of ``torch.library``, whose last argument is the backend that was chosen.

    ``compute`` takes the module of that backend and the arguments; ``fake`` makes results of their shapes;
    ``derivative`` takes a context with the ``backend`` and what ``save`` keeps. ``first`` is the place of the
    operator's first tensor.
    Defined by its schema, as ``torch.library.custom_op`` would import PyTorch's compiler at the first call. Nothing is
    done where it is there, as when a module is imported again.
    """
    if hasattr(torch.ops.deconvseg, name):
        return
    whole, count = f"deconvseg::{name}", schema[: schema.index(") ->")].count(",") + 1

    def kernel(*arguments: Any) -> object:
        backend = arguments[count] if len(arguments) > count else ""
        return compute(operator.kernels(backend, *arguments[first : first + operator.tensors]), *arguments[:count])

    torch.library.define(whole, schema.replace(") ->", ', str backend="") ->', 1))
    torch.library.impl(whole, "default", kernel)
    torch.library.register_fake(whole, lambda *arguments: fake(*arguments[:count]))
    if derivative is None or save is None:
        return

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
        ctx.backend = inputs[count]
        save(ctx, inputs[:count], output)

    backward = lambda ctx, *gradients: (*derivative(ctx, *gradients), None)  # noqa: E731
    torch.library.register_autograd(whole, backward, setup_context=setup_context)


def device_of(tensors: Sequence[Tensor | None]) -> str:
    """Return the type of the device of the tensors that are given."""
    for tensor in tensors:
        if tensor is not None:
            return tensor.device.type
    raise InputError("no tensor is given")


@cache
def _module(name: str) -> object:
    return import_module(name)
