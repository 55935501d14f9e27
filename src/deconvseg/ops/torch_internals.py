"""PyTorch's private parts: all that this package uses, so that a new release is compared with one file.

Where a name is missing, the answer is the one that leads to plain PyTorch, slower and never wrong, and a warning is
logged; tests/ops/test_torch_internals.py takes each away. The few that are imported by name at the top must be there.
The tests run with PyTorch 2.13; with 2.6 to 2.12, which the package allows, nothing here has been run.
"""

import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["ConvNd", "ConvTransposeNd", "OpOverload", "TorchDispatchMode", "tree_leaves", "tree_map"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_log = logging.getLogger("deconvseg")

FLOP_COUNTER = "torch.utils.flop_counter"


def find(module: str, path: str, otherwise: Any) -> Any:
    """Return what a dotted path below a module names, or a stand-in where PyTorch has no such thing."""
    found: Any = None
    with contextlib.suppress(ModuleNotFoundError):
        found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    if found is None:
        _log.warning("PyTorch %s has no %s.%s: plain PyTorch runs in more places", torch.__version__, module, path)
        return otherwise
    return found


def constant_to_compilers(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Have ``torch.compile`` call a function once, while it traces, and keep the result as a constant.

    For questions that it cannot trace. As ``torch.compiler.assume_constant_result``, which would import the whole
    compiler, two seconds of it, also where nothing is compiled.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


# Whether a transform of ``torch.func`` is active.
transforms_are_active: Callable[[], bool] = find("torch._C", "_are_functorch_transforms_active", lambda: True)

# Whether ``torch.jit.trace`` records operators.
is_tracing: Callable[[], bool] = find("torch._C", "_is_tracing", lambda: True)

# Whether a tensor is a batch of the older ``vmap``, of ``is_grads_batched`` and ``vectorize=True``.
is_batch_of_gradients: Callable[[Tensor], bool] = find("torch._C", "_functorch.is_legacy_batchedtensor", lambda _: True)

# The hooks on saved tensors, by which ``torch.utils.checkpoint`` is seen; of unknown ones, no two are equal.
saved_tensor_hooks: Callable[[bool], object] = find(
    "torch._C", "_autograd._top_saved_tensors_default_hooks", lambda _: object()
)

_function_modes: Callable[[], int] | None = find("torch._C", "_len_torch_function_stack", None)
_function_mode: Callable[[int], object] = find("torch._C", "_get_function_stack_at", lambda _: None)
_device_mode: object = find("torch.utils._device", "DeviceContext", None)
_dispatch_modes: Callable[[], int] | None = find("torch._C", "_len_torch_dispatch_stack", None)
_dispatch_mode: Callable[[int], object] = find("torch._C", "_get_dispatch_stack_at", lambda _: None)
_get_mode: Callable[[Any], object] = find("torch._C", "_get_dispatch_mode", lambda _: True)
_proxy_mode: object = find("torch._C", "_TorchDispatchModeKey.PROXY", None)


def forward_mode_is_active() -> bool:
    """Return whether there is forward-mode differentiation."""
    return bool(getattr(forward_ad, "_current_level", 0) >= 0)


def is_exporting(traced: bool) -> bool:
    """Return whether ``torch.export`` runs; ``traced``, whether the compiler traces."""
    if hasattr(torch.compiler, "is_exporting"):
        return torch.compiler.is_exporting()
    if not traced:
        return False  # PyTorch 2.6, where `export` without tracing hands over tensor subclasses
    translator = importlib.import_module("torch._dynamo.symbolic_convert").InstructionTranslator
    return bool(translator.current_tx().export)


def has_function_mode() -> bool:
    """Return whether a ``TorchFunctionMode`` sees each function; not ``with torch.device(...)``, which only places."""
    if _function_modes is None:
        return True
    count = _function_modes()
    return count > 0 and any(type(_function_mode(position)) is not _device_mode for position in range(count))


def has_dispatch_mode() -> bool:
    """Return whether a ``TorchDispatchMode`` sees each operator."""
    return _dispatch_modes is None or _dispatch_modes() > 0


@constant_to_compilers
def is_recorded() -> bool:
    """Return whether ``make_fx`` records operators."""
    return _proxy_mode is None or _get_mode(_proxy_mode) is not None


@constant_to_compilers
def is_counting_flops() -> bool:
    """Return whether PyTorch's counter counts what is called here."""
    kind = getattr(sys.modules.get(FLOP_COUNTER), "_FlopCounterMode", None)
    if kind is None or _dispatch_modes is None:
        return kind is not None
    return any(isinstance(_dispatch_mode(position), kind) for position in range(_dispatch_modes()))


def version_of(tensor: Tensor) -> int:
    """Count what was written into a tensor, but for what is written through ``.data``."""
    return tensor._version


# How modules are called, and where hooks are kept.

_calls = sys.modules[nn.Module.__module__]
_OF_ALL = tuple(
    find(nn.Module.__module__, f"_global_{which}_hooks", (True,))
    for which in ("forward", "forward_pre", "backward", "backward_pre")
)
# The methods that say what a layer computes, and what other code gives to one layer to change how it is called; the
# last is of ``Module.compile``.
METHODS = ("forward", "_conv_forward")
OF_ONE_LAYER = frozenset({*METHODS, "_call_impl", "_compiled_call_impl"})


def all_modules_have_a_hook() -> bool:
    """Return whether there is a hook on all modules."""
    return any(_OF_ALL)


def has_hook(attributes: Mapping[str, Any]) -> bool:
    """Return whether a module with these attributes has a hook of its own."""
    try:
        return bool(
            attributes["_forward_hooks"]
            or attributes["_forward_pre_hooks"]
            or attributes["_backward_hooks"]
            or attributes["_backward_pre_hooks"]
        )
    except KeyError:
        return True


def calls_were_replaced() -> bool:
    """Return whether other code replaced the way in which all modules are called."""
    for name in ("__call__", "_wrapped_call_impl", "_call_impl"):
        if getattr(getattr(nn.Module, name, None), "__globals__", None) is not vars(_calls):
            return True
    return False


def is_called_as_all(kind: type[nn.Module]) -> bool:
    """Return whether the modules of a class are called as all are."""
    return kind.__call__ is nn.Module.__call__ and kind._call_impl is nn.Module._call_impl


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the children of a module by name, one that is registered twice by both, unlike ``named_children``."""
    return module._modules


def is_compiled(module: nn.Module) -> bool:
    """Return whether a module is the result of ``torch.compile``, or was compiled in its place."""
    kind = getattr(sys.modules.get("torch._dynamo"), "OptimizedModule", ())
    return isinstance(module, kind) or vars(module).get("_compiled_call_impl") is not None


def _assert(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


# A condition that is checked when a graph of ``torch.fx`` runs.
graph_assert: Callable[[object, str], object] = find("torch", "_assert", _assert)


def rename(node: fx.Node, name: str) -> None:
    """Give a node of a graph another name, followed by a number where it is taken."""
    if hasattr(node, "_rename"):  # else it keeps its own, which is as good inside
        node._rename(name)
