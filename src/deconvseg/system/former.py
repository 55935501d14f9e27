"""Deprecated names of a module, which still work and warn."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any


def former_names(module: str, names: Mapping[str, tuple[Callable[[], Any], str]]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` for deprecated names; ``names`` maps each to its getter and its replacement."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        give, advice = names[name]
        warnings.warn(f"{module}.{name} is deprecated: {advice}", DeprecationWarning, stacklevel=2)
        return give()

    return find
