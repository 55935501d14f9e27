"""Selection of the backend that computes an operator: forced by the user, or chosen for each call."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from deconvseg.errors import InputError, check_choice
from deconvseg.ops.forking import compute_alone_after_fork
from deconvseg.ops.layout import CHANNELS_LAST, is_dense
from deconvseg.ops.overriding import is_plain
from deconvseg.ops.precision import autocast_is_on, in_full_precision, layers_compute_in_bfloat16
from deconvseg.ops.registry import OPERATORS, Operator, device_of
from deconvseg.ops.torch_internals import (
    constant_to_compilers,
    forward_mode_is_active,
    is_exporting,
    is_exporting_onnx,
    is_tracing,
    transforms_are_active,
)
from deconvseg.ops.watching import why_watched

BACKENDS = ("reference", "native", "triton")
VARIABLE = "DECONVSEG_BACKEND"

_ALIASES = {"eager": "reference"}
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_NO_KERNEL = "it has no kernel for this operator"
_LOWERED = "autocast lowers the precision of some layers"
_NO_BFLOAT16 = "it has no kernel for bfloat16"

_forced: ContextVar[str | None] = ContextVar("forced_backend", default=None)
_logged: set[tuple[str, str]] = set()
_log = logging.getLogger("deconvseg")

compute_alone_after_fork()


@dataclass(frozen=True)
class Choice:
    """The backend that computes an operator, and in ``declined`` the reason against each of the other backends.

    The backend is ``"meta"`` for tensors on the meta device, which have shapes but no values: only the shape and type
    of the result are computed. ``bfloat16`` says that the backend computes in bfloat16.
    """

    operator: str
    backend: str
    declined: Mapping[str, str]
    bfloat16: bool = False

    @property
    def computed(self) -> str:
        """The backend and, if it is bfloat16, the precision."""
        return f"{self.backend} in bfloat16" if self.bfloat16 else self.backend

    def __str__(self) -> str:
        return f"{self.operator}: {self.computed} (not {'; not '.join(map(': '.join, self.declined.items()))})"


@runtime_checkable
class ExplainsBackend(Protocol):
    """A module that can report its backend to :func:`~deconvseg.ops.explain`."""

    def explain_backend(self) -> Choice:
        """Return the choice for inputs with the device and type of the module's own parameters."""
        ...


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force a backend inside a ``with`` block: ``"reference"`` (or ``"eager"``), ``"native"`` or ``"triton"``.

    Applies to calls in the current thread or task; the innermost block wins. It takes precedence over the environment
    variable ``DECONVSEG_BACKEND``, which applies to the whole process. Raises :class:`~deconvseg.errors.InputError` for
    an unknown name; an operator that the backend cannot compute raises it with the reason. Code compiled by
    ``torch.compile`` keeps the backend that was chosen during compilation.

    Example:
        >>> import torch
        >>> from deconvseg.ops import explain, ndc_update, use_backend
        >>> x, filters = torch.rand(1, 8, 8, 8), torch.rand(8, 1, 3, 3)
        >>> with use_backend("reference"):
        ...     [(_, choice)] = explain(ndc_update, x, x, filters, groups=8).choices
        >>> choice.backend
        'reference'

    """
    token = _forced.set(_known(name, "backend"))
    try:
        yield
    finally:
        _forced.reset(token)


@constant_to_compilers
def forced_backend() -> str | None:
    """Return the backend that :func:`use_backend` or ``DECONVSEG_BACKEND`` forces here, or None."""
    name = os.environ.get(VARIABLE)
    return _forced.get() or (_known(name, VARIABLE) if name else None)


def as_stored(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert tensors to types that the backends accept: half types become float32, except on a GPU."""
    return tensors if tensors[0].is_cuda else in_full_precision(*tensors)


def choose(
    operator: Operator, *tensors: Tensor | None, settings: Sequence[object] = (), reason: str | None = None
) -> Choice:
    """Return the backend that computes an operator with these tensors (None for an omitted one), with the reasons.

    This is the forced backend; otherwise the first backend of the device that accepts the tensors and settings;
    otherwise the reference, which accepts all; for meta tensors it is ``meta``. ``reason`` is a caller's reason for the
    reference. Raises :class:`~deconvseg.errors.InputError` if the forced backend cannot compute, unless the operator is
    ``of_layers``.
    """
    special = reason or _why_reference(operator, tensors)
    backend, declined = _select(operator, tensors, settings, special, explain=True)
    if backend == "meta":
        declined["reference"] = "a meta tensor has no values to compute with"
    other = f"{backend} is forced" if forced_backend() else f"{backend} is faster"
    names = dict.fromkeys([*BACKENDS, *(each.backend for each in operator.implementations)])
    default = {name: other if name == "reference" else _NO_KERNEL for name in names if name != backend}
    lowered = backend not in ("reference", "meta") and _lowered(operator, tensors)
    return Choice(operator.name, backend, {name: declined.get(name, why) for name, why in default.items()}, lowered)


def chosen(
    operator: Operator, *tensors: Tensor | None, settings: Sequence[object] = (), reason: str | None = None
) -> str:
    """Return the name of the backend that :func:`choose` selects; works while ``torch.compile`` traces too."""
    special = reason or _why_reference(operator, tensors)
    if not torch.compiler.is_dynamo_compiling():
        return _select(operator, tensors, settings, special)[0]
    sketches = tuple([_sketch(tensor, index < operator.images) for index, tensor in enumerate(tensors)])
    return _chosen_while_compiling(operator.name, sketches, _as_constants(settings), special)


_Sketch: TypeAlias = tuple[tuple[int, ...], torch.dtype, torch.device, bool, bool]
# Batch and spatial sizes of the image that stands for a traced one, whose sizes may be dynamic.
_LENGTH = 8


def _sketch(tensor: Tensor | None, image: bool) -> _Sketch | None:
    """Describe a traced tensor, which has no memory; batch and spatial sizes of images stay dynamic.

    The description is the shape, type and device, whether it requires a gradient, and whether an image is dense with
    the channels innermost in memory.
    """
    if tensor is None:
        return None
    # `len(range(...))` makes the compiler specialise on the size, and recompile for another one.
    sizes = [len(range(tensor.shape[axis])) if axis == 1 or not image else _LENGTH for axis in range(tensor.ndim)]
    last = image and is_dense(tensor, last=True)
    return tuple(sizes), tensor.dtype, tensor.device, tensor.requires_grad, last


def _as_constants(settings: Sequence[object]) -> tuple[object, ...]:
    return tuple([tuple(value) if isinstance(value, list | tuple) else value for value in settings])


@constant_to_compilers
def _chosen_while_compiling(
    name: str, sketches: Sequence[_Sketch | None], settings: Sequence[object], special: str | None
) -> str:
    # Tensors that are made in inference mode could not require a gradient.
    with torch.inference_mode(mode=False):
        tensors = [sketch and _tensor_like(*sketch) for sketch in sketches]
    return _select(OPERATORS[name], tensors, settings, special)[0]


def _tensor_like(
    sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, requires_grad: bool, last: bool
) -> Tensor:
    form = CHANNELS_LAST[len(sizes)] if last else torch.contiguous_format
    return torch.empty(sizes, dtype=dtype, device=device, memory_format=form).requires_grad_(requires_grad)


def why_reference(*tensors: Tensor | None) -> str | None:
    """Return why only the reference applies (transforms, export, computing tensor subclasses, float64), or None."""
    traced, other = torch.compiler.is_dynamo_compiling(), None
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) not in (Tensor, torch.nn.Parameter) and (traced or not is_plain(tensor)):
            return "tensor subclasses that compute themselves need plain PyTorch"
        if tensor.dtype not in _DTYPES:
            other = other or f"{tensor.dtype} needs plain PyTorch"
    return _state_for_reference(traced) or other


def _why_layers(device: str, lowered: bool = False) -> str | None:
    """Return why the layers run one by one, unless the operator computes in the ``lowered`` precision, bfloat16."""
    return _LOWERED if autocast_is_on(device) and not lowered else why_watched()


def _lowered(operator: Operator, tensors: Sequence[Tensor | None]) -> bool:
    return operator.of_layers and layers_compute_in_bfloat16(device_of(tensors), tensors)


def _why_reference(operator: Operator, tensors: Sequence[Tensor | None]) -> str | None:
    if operator.of_layers:
        device = device_of(tensors)
        if device not in operator.devices:
            return None  # no kernel, so no further reason is needed
        if reason := _why_layers(device, _lowered(operator, tensors)):
            return reason
    return why_reference(*tensors)


@constant_to_compilers
def _state_for_reference(traced: bool) -> str | None:
    if transforms_are_active():
        return "a torch.func transform needs plain PyTorch"
    if forward_mode_is_active():
        return "forward-mode differentiation needs plain PyTorch"
    if is_exporting(traced) or is_tracing() or is_exporting_onnx():
        return "an exported or traced program holds plain PyTorch operators"
    return None


def _select(
    operator: Operator,
    tensors: Sequence[Tensor | None],
    settings: Sequence[object],
    special: str | None,
    explain: bool = False,
) -> tuple[str, dict[str, str]]:
    """Return the backend, and the reasons of those before it, or of all others if ``explain`` is set."""
    forced, device, lowered = forced_backend(), device_of(tensors), _lowered(operator, tensors)
    selected: str | None = None
    declined: dict[str, str] = {}
    for each in operator.implementations:
        reason = special
        if forced not in (None, each.backend):
            reason = f"{forced} is forced"
        elif reason is None and each.device != device:
            reason = f"it needs tensors on {each.device}, not {device}"
        elif reason is None and lowered and not each.computes_in_bfloat16():
            reason = f"{_LOWERED}, and {_NO_BFLOAT16}" if autocast_is_on(device) else _NO_BFLOAT16
        elif reason is None:
            reason = each.why_not(forced is not None and not operator.of_layers, tensors, settings)
        if reason is None and selected is None:
            selected = each.backend
            if not explain:
                break
        else:
            declined[each.backend] = reason or f"{selected} is faster"
    if selected is None and forced not in (None, "reference") and not operator.of_layers:
        raise InputError(
            f"{operator.name}: the forced backend {forced!r} cannot run: {declined.get(forced, _NO_KERNEL)}; "
            f"force another with use_backend or {VARIABLE}, or none"
        )
    if selected is None and not forced and not special and not operator.of_layers:
        if device == "meta":
            return "meta", declined
        _log_fallback(operator, device, tensors, settings, declined)
    return selected or "reference", declined


def _known(name: str, what: str) -> str:
    others = (each.backend for operator in OPERATORS.values() for each in operator.implementations)
    check_choice(name, tuple(dict.fromkeys([*BACKENDS, *_ALIASES, *others])), what)
    return _ALIASES.get(name, name)


def _log_fallback(
    operator: Operator,
    device: str,
    tensors: Sequence[Tensor | None],
    settings: Sequence[object],
    declined: Mapping[str, str],
) -> None:
    """Log once that a backend of the device cannot compute; not if there is none, or if it would be slower."""
    for each in operator.implementations:
        if each.device != device or (operator.name, declined[each.backend]) in _logged:
            continue
        _logged.add((operator.name, declined[each.backend]))
        if reason := each.why_not(True, tensors, settings):
            _log.warning("%s runs in plain PyTorch, not on the %s backend: %s", operator.name, each.backend, reason)
