"""Registry of the operators that have kernels, and of the backends of each, by device and priority."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvseg.errors import InputError, check_choice

# Names that a choice may have without a backend's kernels.
_RESERVED = ("", "reference", "eager", "meta")


class Implementation(NamedTuple):
    """A backend's implementation of an operator for one type of device; see :func:`register_backend`."""

    backend: str
    device: str
    priority: int
    kernels: object
    decline: str

    def module(self) -> Any:
        """Return the object with the kernels; a module given by name is imported."""
        return _module(self.kernels) if isinstance(self.kernels, str) else self.kernels

    def computes_in_bfloat16(self) -> bool:
        """Return whether the kernels of layers compute in bfloat16 where the layers would."""
        return bool(getattr(self.module(), "BFLOAT16", False))

    def why_not(self, forced: bool, tensors: Sequence[Tensor | None], settings: Sequence[object]) -> str | None:
        """Return why the backend declines these tensors, or None."""
        module = self.module()
        ask = (getattr(module, "supports", None) if forced else None) or getattr(module, self.decline)
        reason: str | None = ask(*tensors, *settings)
        return reason


class Operator:
    """An operator with several backends; the first ``images`` of its ``tensors`` are (B, channels, \\*S).

    An operator ``of_layers`` replaces layers of PyTorch. The layers run instead of it if other code watches or has
    replaced PyTorch's functions, if a forced backend declines (which may still compute operators inside the layers),
    under autocast to float16, and where they compute in bfloat16 and the backend does not.
    """

    def __init__(self, name: str, tensors: int, *, images: int, of_layers: bool = False) -> None:
        self.name, self.tensors, self.images, self.of_layers = name, tensors, images, of_layers
        self.implementations = ()

    @property
    def implementations(self) -> tuple[Implementation, ...]:
        """Implementations in descending priority."""
        return self._implementations

    @implementations.setter
    def implementations(self, ordered: tuple[Implementation, ...]) -> None:
        self._implementations = ordered
        self._named = {each.backend: each for each in ordered}
        # Types of devices that have an implementation.
        self.devices = {each.device for each in ordered}

    def kernels(self, backend: str, *tensors: Tensor | None) -> Any:
        """Return the kernels of the backend that was chosen for these tensors.

        The name ``""`` comes from direct calls of the ``torch.library`` operator; it selects the first backend that can
        compute. Raises :class:`~deconvseg.errors.InputError` if there is none.
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
    """Return the :class:`Operator` of this name, which is created on the first call."""
    return OPERATORS.setdefault(name, Operator(name, tensors, images=images, of_layers=of_layers))


def register_backend(
    operator: str, backend: str, *, device: str, kernels: object, priority: int = 0, decline: str = "decline"
) -> None:
    """Register a backend of an operator for one type of device (``"cpu"``, ``"cuda"``, ``"mps"``).

    Among the backends of a device, the one with the highest ``priority`` is tried first; ties are resolved by the order
    of registration. A second registration of a backend replaces the first. ``kernels`` is a module or another object,
    or the name of a module, which is imported on first use. It provides the functions that the operator's
    ``library.py`` calls, and the function named by ``decline``: it takes the operator's tensors and settings and
    returns a one-line reason against computing them, or None. An optional function ``supports`` replaces it for a
    forced backend, so that ``decline`` can reject tensors that another backend computes faster. For an operator that
    replaces layers, a true ``BFLOAT16`` says that it has kernels for bfloat16: the images are then bfloat16 and the
    parameters float32. Raises
    :class:`~deconvseg.errors.InputError` for an unknown operator or type of device, a priority that is not a number,
    and a reserved name such as ``"reference"``.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> from deconvseg.ops import explain, ndc_update, register_backend, unregister_backend
        >>> kernels = SimpleNamespace(decline=lambda x, source, filters: "only for demonstration")
        >>> register_backend("ndc_update", "mine", device="cpu", kernels=kernels, priority=1)
        >>> x, filters = torch.rand(1, 8, 8, 8), torch.rand(8, 1, 3, 3)
        >>> [(_, choice)] = explain(ndc_update, x, x, filters, groups=8).choices
        >>> choice.declined["mine"]
        'only for demonstration'
        >>> unregister_backend("ndc_update", "mine")

    """
    others = _others(operator, backend)
    if backend in _RESERVED:
        raise InputError(f"a backend cannot be named {backend!r}: choose a name that has no other meaning")
    if not _is_device_type(device):
        raise InputError(f"device={device!r}: give a type of device, such as 'cpu', 'cuda' or 'mps'")
    if not isinstance(priority, int | float) or priority != priority:
        raise InputError(f"priority={priority!r}: give a number")
    ordered = (*others, Implementation(backend, device, priority, kernels, decline))
    OPERATORS[operator].implementations = tuple(sorted(ordered, key=lambda each: -each.priority))


def unregister_backend(operator: str, backend: str) -> None:
    """Remove a backend of an operator, if registered; :class:`~deconvseg.errors.InputError` for an unknown operator.

    Example:
        >>> from types import SimpleNamespace
        >>> from deconvseg.ops import register_backend, unregister_backend
        >>> register_backend("ndc_update", "mine", device="cpu", kernels=SimpleNamespace())
        >>> unregister_backend("ndc_update", "mine")

    """
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
    """Define the ``torch.library`` operator ``deconvseg::name``, whose last argument is the chosen backend.

    ``compute`` takes the kernels of that backend and the arguments; ``fake`` returns empty results of the right shapes;
    ``derivative`` takes a context with ``backend`` and the values that ``save`` stored. ``first`` is the index of the
    operator's first tensor among the arguments. The operator is defined by a schema, because
    ``torch.library.custom_op`` would import PyTorch's compiler at the first call. If it is already defined (the module
    is imported again), nothing happens.
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
    """Return the device type of the first tensor that is not None."""
    for tensor in tensors:
        if tensor is not None:
            return tensor.device.type
    raise InputError("no tensor is given")


@cache
def _module(name: str) -> object:
    return import_module(name)
