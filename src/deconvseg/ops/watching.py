"""Detection of code that watches or replaces PyTorch's functions; those functions are then called, not the kernels."""

import types

import torch
import torch.nn.functional as F

from deconvseg.ops.torch_internals import constant_to_compilers, has_function_mode

# Functions that a kernel replaces in layers.
_FUNCTIONS = (
    *((F, f"conv{axes}d") for axes in (1, 2, 3)),
    *((F, f"conv_transpose{axes}d") for axes in (1, 2, 3)),
    *((F, name) for name in ("gelu", "relu", "leaky_relu", "linear", "group_norm", "instance_norm")),
    *((torch, name) for name in ("relu", "group_norm", "instance_norm")),
)


def _is_own(owner: types.ModuleType, name: str) -> bool:
    function = getattr(owner, name)
    return isinstance(function, types.BuiltinFunctionType) or getattr(function, "__globals__", None) is vars(owner)


# None for a function that was replaced before this module was imported.
_ORIGINALS = tuple((owner, name, getattr(owner, name) if _is_own(owner, name) else None) for owner, name in _FUNCTIONS)


@constant_to_compilers
def why_watched() -> str | None:
    """Return which function of PyTorch was replaced, or that a mode sees all of them, or None.

    ``with torch.device(...)`` is such a mode too, but is ignored: it only changes where tensors are created.
    """
    if has_function_mode():
        return "a TorchFunctionMode sees each function of PyTorch"
    for owner, name, original in _ORIGINALS:
        if getattr(owner, name) is not original:
            return f"{owner.__name__}.{name} was replaced"
    return None
