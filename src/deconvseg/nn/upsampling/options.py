"""Options declared by the signature of a function or class: names, types with bounds, defaults, descriptions."""

import functools
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from deconvseg.errors import InputError, check_choice
from deconvseg.text import plain_documentation

_WORDS = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "a text", "null": "null"}
# Keywords for bounds in JSON schemas, and their wording.
_BOUNDS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}


@dataclass(frozen=True)
class Option:
    """One keyword-only argument: its name, type (bounds are those of ``pydantic.Field``), default and description."""

    name: str
    annotation: Any
    default: Any
    description: str

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of its values."""
        return self._adapter.json_schema()

    @property
    def takes_lists(self) -> bool:
        """Whether a value may be a list, so that a list is not a value for each stage of a network."""
        return any(kind.get("type") == "array" for kind in (self.schema, *self.schema.get("anyOf", ())))

    @property
    def told(self) -> str:
        """One line with the option's name, values, default and description."""
        default = json.dumps(self.default).replace('"', "'")
        return f"{self.name}: {self.values} (default {default}){': ' if self.description else ''}{self.description}"

    @property
    def values(self) -> str:
        """The allowed values, in words."""
        return _in_words(self.schema)

    def check(self, value: object) -> None:
        """Raise :class:`~deconvseg.errors.InputError` for a value of another type or out of bounds."""
        try:
            self._adapter.validate_python(value)
        except ValidationError as error:
            if isinstance(value, str) and "enum" in self.schema:
                check_choice(value, self.schema["enum"], self.name)
            known = self.schema.get("items", {}).get("enum")
            for item in value if known and isinstance(value, list | tuple) else ():
                check_choice(item, known, f"{self.name}:")
            raise InputError(f"{self.name}={value!r}: give {self.values}") from error

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation, config=ConfigDict(strict=True))


def keyword_parameters(build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a function, or of the constructor of a class."""
    parameters = inspect.signature(build).parameters.items()
    return {name: parameter for name, parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def check_options(build: Callable[..., Any], **values: object) -> None:
    """Raise :class:`~deconvseg.errors.InputError` for a value that an option of a function or class does not allow."""
    options = options_of(build)
    for name, value in values.items():
        options[name].check(value)


@functools.cache
def options_of(build: Callable[..., Any]) -> Mapping[str, Option]:
    """Return the options declared by the keyword-only parameters of a function or class."""
    types = get_type_hints(build.__init__ if inspect.isclass(build) else build, include_extras=True)
    told = _descriptions(plain_documentation(build.__doc__ or ""))
    return {
        name: Option(name, types.get(name, Any), parameter.default, told.get(name, ""))
        for name, parameter in keyword_parameters(build).items()
    }


def _descriptions(documentation: str) -> Mapping[str, str]:
    """Return the description of each argument from the section ``Args:`` of a docstring."""
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", documentation, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _in_words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return ", or ".join(map(_in_words, schema["anyOf"]))
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        *others, last = map(repr, schema["enum"])
        return f"{', '.join(others)} or {last}"
    if schema.get("type") == "array":
        return f"a list of {_in_words(schema['items'])}"
    if schema == {"type": "number", "exclusiveMinimum": 0}:
        return "a positive number"
    bounds = "".join(f", {words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema)
    return f"{_WORDS.get(schema.get('type', ''), 'any value')}{bounds}"
