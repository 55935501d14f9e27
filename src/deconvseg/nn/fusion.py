"""When modules may be computed together, as one operator, instead of being called one by one."""

from collections.abc import Mapping

import torch
from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def why_apart(root: nn.Module, expected: Mapping[str, tuple[type, ...]]) -> str | None:
    """Say why the modules inside ``root`` must be called one by one, or None where nobody could tell the difference.

    They must be just the expected ones, by path and exact type (a parametrisation changes the type), without hooks, and
    convolutions must be pointwise.
    """
    if is_watched():
        return "there is a hook on all modules"
    modules = dict(root.named_modules())
    del modules[""]
    if modules.keys() != expected.keys():
        return f"modules were added or removed: {', '.join(sorted(modules.keys() ^ expected.keys()))}"
    for path, module in modules.items():
        if why := why_special(module, expected[path]):
            return f"{path} {why}"
        if isinstance(module, nn.Conv2d | nn.Conv3d) and not is_pointwise(module):
            return f"{path} is not a pointwise convolution"
    return None


def why_special(module: nn.Module, types: tuple[type, ...]) -> str | None:
    """Say why a module must be called, or None where it is of one of these very types and nobody watches its calls."""
    if type(module) not in types or "forward" in vars(module):
        return f"was replaced or parametrised ({type(module).__name__})"
    return "has a hook" if any(vars(module)[kind] for kind in _HOOKS) else None


def is_watched() -> bool:
    """Say whether there is a hook on all modules."""
    module = torch.nn.modules.module
    return any(getattr(module, f"_global{kind}") for kind in _HOOKS)


def is_pointwise(conv: nn.Conv2d | nn.Conv3d) -> bool:
    """Say whether a convolution maps the channels of each position, and nothing else."""
    sizes = (*conv.kernel_size, *conv.stride)
    return sizes == (1,) * len(sizes) and not any(conv.padding) and conv.groups == 1
