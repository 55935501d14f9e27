"""All private parts of PyTorch that this package uses, in one file, to be checked against each new release.

If a name is missing, a fallback leads to plain PyTorch, which is slower but correct, and a warning is logged;
tests/ops/test_torch_internals.py removes each name in turn. The names imported at the top are required. The tests run
with PyTorch 2.13; with 2.6 to 2.12, which the package allows, nothing here has been run.
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

# Where the exporter to ONNX logs what it registers.
ONNX_LOG = "torch.onnx._internal.exporter._registration"


def find(module: str, path: str, otherwise: Any) -> Any:
    """Return the object at a dotted path in a module, or ``otherwise`` if PyTorch lacks it."""
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
    """Make ``torch.compile`` call a function once during tracing and treat the result as a constant.

    For functions that it cannot trace. Equivalent to ``torch.compiler.assume_constant_result``, which would import the
    whole compiler (two seconds) even if nothing is compiled.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def compiler_is_imported() -> bool:
    """Return whether PyTorch's compiler is imported, which takes a second; nothing is compiled before."""
    return "torch._dynamo" in sys.modules


# Whether a transform of ``torch.func`` is active.
transforms_are_active: Callable[[], bool] = find("torch._C", "_are_functorch_transforms_active", lambda: True)

# Whether ``torch.jit.trace`` records operators.
is_tracing: Callable[[], bool] = find("torch._C", "_is_tracing", lambda: True)

# Whether a tensor is a batch of the legacy ``vmap``, which ``is_grads_batched`` and ``vectorize=True`` use.
is_batch_of_gradients: Callable[[Tensor], bool] = find("torch._C", "_functorch.is_legacy_batchedtensor", lambda _: True)

# The hooks on saved tensors, which reveal ``torch.utils.checkpoint``; the fallback returns hooks that are never equal.
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
    """Return whether forward-mode differentiation is active."""
    return bool(getattr(forward_ad, "_current_level", 0) >= 0)


class EagerMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode for code that is not compiled.

    Others forbid compilation inside them, for which PyTorch imports its compiler at the first operation (a second).
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def is_exporting(traced: bool) -> bool:
    """Return whether ``torch.export`` runs; ``traced`` says whether the compiler traces."""
    if hasattr(torch.compiler, "is_exporting"):
        return torch.compiler.is_exporting()
    if not traced:
        return False  # PyTorch 2.6, whose `export` passes tensor subclasses when it does not trace
    translator = importlib.import_module("torch._dynamo.symbolic_convert").InstructionTranslator
    return bool(translator.current_tx().export)


@constant_to_compilers
def is_exporting_onnx() -> bool:
    """Return whether ``torch.onnx.export`` runs, without importing it: an export has imported it."""
    onnx = sys.modules.get("torch.onnx")
    return onnx is not None and bool(onnx.is_in_onnx_export())


def has_function_mode() -> bool:
    """Return whether a ``TorchFunctionMode`` is active other than that of ``with torch.device(...)``."""
    if _function_modes is None:
        return True
    count = _function_modes()
    return count > 0 and any(type(_function_mode(position)) is not _device_mode for position in range(count))


def has_dispatch_mode() -> bool:
    """Return whether a ``TorchDispatchMode`` is active."""
    return _dispatch_modes is None or _dispatch_modes() > 0


@constant_to_compilers
def is_recorded() -> bool:
    """Return whether ``make_fx`` is recording operators."""
    return _proxy_mode is None or _get_mode(_proxy_mode) is not None


@constant_to_compilers
def is_counting_flops() -> bool:
    """Return whether PyTorch's FLOP counter is active."""
    kind = getattr(sys.modules.get(FLOP_COUNTER), "_FlopCounterMode", None)
    if kind is None or _dispatch_modes is None:
        return kind is not None
    return any(isinstance(_dispatch_mode(position), kind) for position in range(_dispatch_modes()))


def version_of(tensor: Tensor) -> int:
    """Return the number of in-place writes to a tensor, without those through ``.data``."""
    return tensor._version


# Calls of modules, and their hooks.

_calls = sys.modules[nn.Module.__module__]
_OF_ALL = tuple(
    find(nn.Module.__module__, f"_global_{which}_hooks", (True,))
    for which in ("forward", "forward_pre", "backward", "backward_pre")
)
# Methods that define what a layer computes, and attributes by which other code changes the call of a single layer; the
# last one is set by ``Module.compile``.
METHODS = ("forward", "_conv_forward")
OF_ONE_LAYER = frozenset({*METHODS, "_call_impl", "_compiled_call_impl"})


def all_modules_have_a_hook() -> bool:
    """Return whether a global module hook is registered."""
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


def guard_call(module: nn.Module) -> bool:
    """Read what decides how a module is called, so that ``torch.compile``, which traces this, guards its values.

    Hooks that are registered later count only with ``torch._dynamo.config.skip_nnmodule_hook_guards`` off, as for the
    modules that the compiler calls.
    """
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    forward = module.forward
    replaced = forward is None or getattr(module, "_compiled_call_impl", None) is not None
    return bool(hooks) or replaced or getattr(module, "_conv_forward", forward) is None


def calls_were_replaced() -> bool:
    """Return whether other code has replaced the call method of ``nn.Module``."""
    for name in ("__call__", "_wrapped_call_impl", "_call_impl"):
        if getattr(getattr(nn.Module, name, None), "__globals__", None) is not vars(_calls):
            return True
    return False


def is_called_as_all(kind: type[nn.Module]) -> bool:
    """Return whether a class of modules inherits the call methods of ``nn.Module``."""
    return kind.__call__ is nn.Module.__call__ and kind._call_impl is nn.Module._call_impl


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the children of a module by name, including repeated ones, which ``named_children`` leaves out."""
    return module._modules


def is_compiled(module: nn.Module) -> bool:
    """Return whether a module is the result of ``torch.compile``, or was compiled in place by ``Module.compile``."""
    kind = getattr(sys.modules.get("torch._dynamo"), "OptimizedModule", ())
    return isinstance(module, kind) or vars(module).get("_compiled_call_impl") is not None


def _assert(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


# An assertion that ``torch.fx`` records and its graph checks when it runs.
graph_assert: Callable[[object, str], object] = find("torch", "_assert", _assert)


def rename(node: fx.Node, name: str) -> None:
    """Rename a node of a graph; a number is appended if the name is taken."""
    if hasattr(node, "_rename"):  # otherwise the node keeps its own name, which works too
        node._rename(name)
