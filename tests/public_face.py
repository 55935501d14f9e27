"""The public face: every name that the reference shows and that examples explain."""

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import deconvseg

#: Modules beneath the package that are no part of its public face.
PRIVATE = {"__main__", "_version", "cli", "system", "text", "units"}


@dataclass(frozen=True)
class PublicName:
    """A name of a public module, and what it stands for."""

    module: str
    name: str
    value: Any

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def called(self) -> bool:
        """Whether users call it or make one of it: a function or a class, and neither an exception nor a protocol."""
        if not inspect.isclass(self.value):
            return inspect.isfunction(self.value)
        return not issubclass(self.value, BaseException) and Protocol not in self.value.__bases__


def public_modules() -> list[str]:
    """The package, and what lies directly beneath it and is public."""
    beneath = [f"deconvseg.{entry.name}" for entry in pkgutil.iter_modules(deconvseg.__path__)]
    return ["deconvseg", *(name for name in beneath if name.split(".")[1] not in PRIVATE)]


def public_names(module: str) -> list[PublicName]:
    """The names of ``__all__``; of a module without one the functions and classes that it defines."""
    face = importlib.import_module(module)
    names = getattr(face, "__all__", None)
    if names is None:
        own = {name: value for name, value in vars(face).items() if getattr(value, "__module__", "") == module}
        names = [name for name, value in own.items() if inspect.isfunction(value) or inspect.isclass(value)]
    return [PublicName(module, name, getattr(face, name)) for name in names if not name.startswith("_")]


def distinct_names() -> list[PublicName]:
    """Every public name once, by the module that is first to give it."""
    found: dict[int, PublicName] = {}
    for module in public_modules():
        for name in public_names(module):
            found.setdefault(id(name.value), name)
    return list(found.values())


REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


def page_of(module: str) -> Path:
    """The page of a module in the reference of the site."""
    return REFERENCE / f"{module.removeprefix('deconvseg.')}.md"
