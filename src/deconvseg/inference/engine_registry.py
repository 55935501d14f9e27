"""The registry of engines by name: what else than PyTorch computes the networks of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, TypeVar

from deconvseg.errors import InputError, check_choice
from deconvseg.inference.engine import Engine
from deconvseg.models import Network
from deconvseg.system import load_plugins

_PLUGINS = "deconvseg.engines"
# Modules that register an engine. They belong to a higher floor and need optional packages, so they are imported by
# name when the engine is first used, as the entry points of other packages are.
_PROVIDED: Mapping[str, str] = {
    "onnxruntime": "deconvseg.integrations.onnx.engine",
    "openvino": "deconvseg.integrations.openvino.engine",
}
TORCH = "torch"


class EngineMaker(Protocol):
    """Makes the engine of a network for windows of a size, in a precision ("32" or "bf16")."""

    def __call__(self, network: Network, window: Sequence[int], *, precision: str) -> Engine:
        """Return the engine."""
        ...


Maker = TypeVar("Maker", bound=EngineMaker)


@dataclass(frozen=True)
class _Registered:
    make: EngineMaker
    precisions: tuple[str, ...]


_ENGINES: dict[str, _Registered] = {}


def register_engine(name: str, *, precisions: Sequence[str] = ("32",)) -> Callable[[Maker], Maker]:
    """Register what makes an :class:`~deconvseg.inference.Engine` of a network, by the name of ``predict``'s option.

    The decorated function takes the network, in evaluation mode, the size of windows (the only one that is needed
    unless memory runs out), and the keyword ``precision``, one of ``precisions``. It may use every core that PyTorch
    may use (``torch.get_num_threads()``). An installed package can declare its module as an entry point of the group
    ``deconvseg.engines``. Raises :class:`~deconvseg.errors.InputError` for a name in use.

    Example:
        >>> import torch
        >>> from deconvseg.inference import TorchEngine, list_engines, register_engine, unregister_engine
        >>> @register_engine("compiled")
        ... def compile_network(network, window, *, precision):
        ...     return TorchEngine(torch.compile(network), channels=network.in_channels, device=torch.device("cpu"))
        >>> "compiled" in list_engines()
        True
        >>> unregister_engine("compiled")

    """
    if name in (TORCH, *_ENGINES):
        raise InputError(f"there is an engine {name!r} already: choose another name, or unregister that one first")

    def register(make: Maker) -> Maker:
        _ENGINES[name] = _Registered(make, tuple(precisions))
        return make

    return register


def unregister_engine(name: str) -> None:
    """Remove an engine; :class:`~deconvseg.errors.InputError` for an unknown name.

    Example:
        >>> from deconvseg.inference import unregister_engine
        >>> unregister_engine("abacus")
        Traceback (most recent call last):
        deconvseg.errors.InputError: there is no registered engine 'abacus'

    """
    if _ENGINES.pop(name, None) is None:
        raise InputError(f"there is no registered engine {name!r}")


def list_engines() -> list[str]:
    """Return the names of all engines, also of those whose packages are not installed; PyTorch comes first.

    Example:
        >>> from deconvseg.inference import list_engines
        >>> list_engines()
        ['torch', 'onnxruntime', 'openvino']

    """
    load_plugins(_PLUGINS)
    return list(dict.fromkeys([TORCH, *_PROVIDED, *_ENGINES]))


def engine_precisions(name: str) -> tuple[str, ...]:
    """Return the precisions of an engine that is not PyTorch's, "32" first."""
    return _find(name).precisions


def create_engine(name: str, network: Network, window: Sequence[int], *, precision: str = "32") -> Engine:
    """Return a registered engine of a network, for windows of a size.

    Raises :class:`~deconvseg.errors.MissingPackageError` if the engine's package is not installed,
    :class:`~deconvseg.errors.InputError` for an unknown name or a precision that the engine does not have, and
    :class:`~deconvseg.errors.DeconvsegError` for a network that the engine cannot compute.

    Example:
        >>> import torch
        >>> from deconvseg import create_model
        >>> from deconvseg.inference import create_engine
        >>> network = create_model("unet", in_channels=1, out_channels=2, spatial_dims=2, widths=[4, 8]).eval()
        >>> engine = create_engine("openvino", network, (16, 16))
        >>> engine.logits(torch.rand(1, 1, 16, 16)).shape
        torch.Size([1, 2, 16, 16])

    """
    engine = _find(name)
    if precision not in engine.precisions:
        raise InputError(
            f"`precision={precision!r}`: the engine {name} computes in {' or '.join(engine.precisions)} on a CPU"
        )
    return engine.make(network, window, precision=precision)


def _find(name: str) -> _Registered:
    check_choice(name, [other for other in list_engines() if other != TORCH], "engine")
    if name not in _ENGINES:
        import_module(_PROVIDED[name])
    return _ENGINES[name]
