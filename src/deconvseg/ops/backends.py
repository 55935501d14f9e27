"""Which backend computes an operator: their names, how one is forced, how one is chosen and why."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from deconvseg.errors import InputError, check_choice
from deconvseg.ops import native
from deconvseg.ops.compilation import constant_to_compilers
from deconvseg.ops.forking import compute_alone_after_fork
from deconvseg.ops.overriding import is_plain
from deconvseg.ops.precision import autocast_is_on, in_full_precision
from deconvseg.ops.watching import why_watched

BACKENDS = ("reference", "native", "triton")
VARIABLE = "DECONVSEG_BACKEND"

_ALIASES = {"eager": "reference"}
_DEVICES = {"native": "cpu", "triton": "cuda"}
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_forced: ContextVar[str | None] = ContextVar("forced_backend", default=None)
_logged: set[tuple[str, str]] = set()
_log = logging.getLogger("deconvseg")

compute_alone_after_fork()


@dataclass(frozen=True)
class Operator:
    """Something that several backends compute: its name, and the package of its ``native.py`` and ``triton.py``.

    It may lack one of these modules. Each has ``decline``, which takes the operator's tensors and returns the reason
    why it does not compute with them, or None. Where it also has ``supports``, that answers for a forced backend, and
    ``decline`` may also turn down what others compute faster. The first ``images`` tensors are (B, channels, \\*S), the
    others are parameters.
    """

    name: str
    package: str
    images: int

    def module(self, backend: str) -> ModuleType:
        """Import the module of a backend."""
        return import_module(f"{self.package}.{backend}")

    def why_not(self, backend: str, tensors: Sequence[Tensor | None], forced: bool) -> str | None:
        """Ask a backend why it does not compute with these tensors; None where it does."""
        if not self.has(backend):
            return "it has no kernel for this operator"
        if backend == "native" and (missing := native.unavailable()):
            return missing
        module = self.module(backend)
        ask = getattr(module, "supports", module.decline) if forced else module.decline
        reason: str | None = ask(*tensors)
        return reason

    def has(self, backend: str) -> bool:
        """Whether a backend has a module for this operator."""
        return _found(f"{self.package}.{backend}")

    def kernels(self, *tensors: Tensor | None) -> ModuleType:
        """Return the module that computes with these tensors, on a CPU or a GPU; else an error with the reason."""
        device = next(tensor.device.type for tensor in tensors if tensor is not None)
        backend = next(name for name, home in _DEVICES.items() if home == device)
        if reason := self.why_not(backend, tensors, forced=True):
            raise InputError(
                f"deconvseg::{self.name}: {reason}; call deconvseg.ops.{self.name}, which takes all tensors"
            )
        return self.module(backend)


@dataclass(frozen=True)
class Choice:
    """The backend that computes an operator; ``declined`` holds, for each of the others, why it does not.

    ``"meta"`` stands for any kernel where the tensors have shapes but no values: it gives what a kernel would give.
    """

    operator: str
    backend: str
    declined: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.operator}: {self.backend} (not {'; not '.join(map(': '.join, self.declined.items()))})"


@runtime_checkable
class ExplainsBackend(Protocol):
    """A module that :func:`~deconvseg.ops.explain` asks what would compute it."""

    def explain_backend(self) -> Choice:
        """Choose for inputs like the module's own parameters."""
        ...


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute with this backend inside a ``with`` block: ``"reference"`` (or ``"eager"``), ``"native"``, ``"triton"``.

    Holds for the calls made in this thread or task, the innermost block first, and goes before the environment
    variable ``DECONVSEG_BACKEND``, which holds everywhere. An operator that the backend cannot compute raises
    :class:`~deconvseg.errors.InputError` with the reason, as does an unknown name. Code that
    ``torch.compile`` has compiled keeps the backend that was chosen then.
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
    """Bring tensors to what the backends take: half types stay on a GPU and become float32 elsewhere."""
    return tensors if tensors[0].is_cuda else in_full_precision(*tensors)


def choose(operator: Operator, *tensors: Tensor | None) -> Choice:
    """Choose the backend that computes an operator with these tensors (None for one that is left out).

    A forced one, else ``native`` on a CPU and ``triton`` on a GPU where they take the tensors, else the reference,
    which takes all; for meta tensors ``meta``. Raises :class:`~deconvseg.errors.InputError` where the forced one cannot
    compute.
    """
    return _choose(operator, tensors, why_reference(*(tensor for tensor in tensors if tensor is not None)))


def chosen(operator: Operator, *tensors: Tensor | None) -> str:
    """Return the name of the backend that :func:`choose` gives, also while ``torch.compile`` traces."""
    if not torch.compiler.is_dynamo_compiling():
        return choose(operator, *tensors).backend
    special = why_reference(*[tensor for tensor in tensors if tensor is not None])
    sketches = tuple([_sketch(tensor, index < operator.images) for index, tensor in enumerate(tensors)])
    return _chosen_while_compiling(operator.name, operator.package, operator.images, sketches, special)


_Sketch: TypeAlias = tuple[tuple[int, ...], torch.dtype, torch.device]


def _sketch(tensor: Tensor | None, image: bool) -> _Sketch | None:
    """Describe a traced tensor, which has no memory, by a tiny one; batch and spatial sizes of images stay open."""
    if tensor is None:
        return None
    fixed = (1,) if image else range(tensor.ndim)
    # `len(range(...))` makes the compiler take a size as it is, and compile again for another one.
    sizes = tuple([len(range(tensor.shape[axis])) if axis in fixed else 1 for axis in range(tensor.ndim)])
    return sizes, tensor.dtype, tensor.device


def why_reference(*tensors: Tensor) -> str | None:
    """Say what only the reference serves: transforms, exports, subclasses that compute, float64; None without it."""
    if not all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors) and not _all_plain(tensors):
        return "tensor subclasses that compute themselves need plain PyTorch"
    others = [tensor.dtype for tensor in tensors if tensor.dtype not in _DTYPES]
    return _state_for_reference(torch.compiler.is_dynamo_compiling()) or (
        f"{others[0]} needs plain PyTorch" if others else None
    )


def why_not_native(*tensors: Tensor) -> str | None:
    """Say why an operator with native kernels alone leaves tensors to the layers that it stands for, or None.

    That ``native`` is forced is no reason: then it is the operators inside that must be native.
    """
    forced, device = forced_backend(), tensors[0].device.type
    if device != "cpu":
        return f"it needs tensors on cpu, not {device}"
    if forced not in (None, "native"):
        return f"{forced} is forced"
    if autocast_is_on(device):
        return "autocast lowers the precision of some layers"
    return why_watched() or why_reference(*tensors) or native.unavailable()


@constant_to_compilers
def _chosen_while_compiling(
    name: str, package: str, images: int, sketches: Sequence[_Sketch | None], special: str | None
) -> str:
    tensors = [sketch and torch.empty(sketch[0], dtype=sketch[1], device=sketch[2]) for sketch in sketches]
    return _choose(Operator(name, package, images), tensors, special).backend


def _all_plain(tensors: Sequence[Tensor]) -> bool:
    return not torch.compiler.is_dynamo_compiling() and all(map(is_plain, tensors))


@constant_to_compilers
def _state_for_reference(traced: bool) -> str | None:
    if torch._C._are_functorch_transforms_active():
        return "a torch.func transform needs plain PyTorch"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation needs plain PyTorch"
    if _exporting(traced) or torch._C._is_tracing() or torch.onnx.is_in_onnx_export():
        return "an exported or traced program holds plain PyTorch operators"
    return None


def _choose(operator: Operator, tensors: Sequence[Tensor | None], special: str | None) -> Choice:
    forced = forced_backend()
    device = next(tensor.device.type for tensor in tensors if tensor is not None)
    declined: dict[str, str] = {}
    for backend, home in _DEVICES.items():
        elsewhere = None if device == home else f"it needs tensors on {home}, not {device}"
        reason = special or elsewhere or operator.why_not(backend, tensors, forced=backend == forced)
        if reason:
            declined[backend] = reason
    if forced in declined:
        raise InputError(
            f"{operator.name}: the forced backend {forced!r} cannot run: {declined[forced]}; "
            f"force another with use_backend or {VARIABLE}, or none"
        )
    able = [backend for backend in _DEVICES if backend not in declined]
    backend = forced or (able[0] if able else "meta" if device == "meta" and not special else "reference")
    if backend == "reference" and not forced and not special:
        _log_fallback(operator, device, tensors)
    faster = "a meta tensor has nothing to compute with" if backend == "meta" else f"{backend} is faster"
    other = f"{backend} is forced" if forced else faster
    return Choice(operator.name, backend, {name: declined.get(name, other) for name in BACKENDS if name != backend})


def _exporting(traced: bool) -> bool:
    if hasattr(torch.compiler, "is_exporting"):
        return torch.compiler.is_exporting()
    if not traced:
        return False  # PyTorch 2.6, where `export` without tracing hands over tensor subclasses
    from torch._dynamo.symbolic_convert import InstructionTranslator

    return bool(InstructionTranslator.current_tx().export)


@cache
def _found(module: str) -> bool:
    return find_spec(module) is not None


def _known(name: str, what: str) -> str:
    check_choice(name, (*BACKENDS, *_ALIASES), what)
    return _ALIASES.get(name, name)


def _log_fallback(operator: Operator, device: str, tensors: Sequence[Tensor | None]) -> None:
    """Tell once that the device's own backend cannot compute; not where there is none, or where it would be slower."""
    for backend, home in _DEVICES.items():
        reason = operator.why_not(backend, tensors, forced=True) if home == device else None
        if reason and operator.has(backend) and (operator.name, reason) not in _logged:
            _logged.add((operator.name, reason))
            _log.warning("%s runs in plain PyTorch, not on the %s backend: %s", operator.name, backend, reason)
