"""Declaration of an option as a field of a dataclass, with its type, default, help text, kind and names."""

import json
import math
import operator
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from os import fspath
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from deconvseg.errors import InputError, check_choice
from deconvseg.units import parse_bytes, parse_seconds


class Kind(NamedTuple):
    """The values that an option accepts, in Python and as text on the command line.

    ``check`` returns the normalised value, ``read`` converts a text to a value; both raise TypeError or ValueError.
    ``wanted`` describes valid values, and ``form`` replaces ``{form}`` in a help text; on the command line these are
    ``wanted_text`` and ``text_form``. The parser of the command line returns a ``parsed``, which ``read`` converts; if
    that is a list, ``read`` converts each element and ``gather`` combines them. For a kind whose values are names,
    ``names`` returns all names. ``find`` raises :class:`InputError` for a value that does not exist.
    Options of a kind that is ``python_only`` are arguments of functions, not of commands.
    """

    check: Callable[[Any], Any]
    wanted: str
    form: str = ""
    read: Callable[[Any], Any] | None = None
    wanted_text: str | None = None
    text_form: str = ""
    metavar: str | None = None
    parsed: Any = str
    gather: Callable[[list[Any]], Any] = dict
    names: Callable[[], Iterable[str]] | None = None
    find: Callable[[Any], object] | None = None
    python_only: bool = False


def name_of(names: Callable[[], Iterable[str]]) -> Kind:
    """Names in a registry, or a few choices; ``names`` imports what it needs when it is called."""
    return TEXT._replace(names=names, metavar="NAME")


def whole(minimum: int, maximum: int | None = None) -> Kind:
    """Whole numbers within bounds."""

    def check(value: Any) -> int:
        number = operator.index(value)
        if isinstance(value, bool) or number < minimum or (maximum is not None and number > maximum):
            raise ValueError
        return number

    wanted = f"a whole number, {minimum} or more" if maximum is None else f"a whole number, {minimum} to {maximum}"
    bounds = f"x>={minimum}" if maximum is None else f"{minimum}<=x<={maximum}"
    return Kind(check, wanted, read=lambda text: check(int(text)), metavar=f"<int range> [{bounds}]")


def _is(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return check


def _check_seconds(value: Any) -> float:
    if isinstance(value, str | bool):
        raise TypeError
    return _check_positive(value)


def _check_positive(value: Any) -> float:
    if not 0 < _check_number(value) < math.inf:
        raise ValueError
    return float(value)


def _check_number(value: Any) -> float:
    if isinstance(value, str | bool):
        raise TypeError
    return float(value)


def _check_place(value: Any) -> str:
    """Return a path as text. An empty one, as of an unset variable of the shell, does not mean the current folder."""
    path = fspath(value)
    if not isinstance(path, str) or not path:
        raise TypeError
    return path


def _check_settings(values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise TypeError
    return dict(values)


def _read_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


TEXT = Kind(_is(str), "a text")
FLAG = Kind(_is(bool), "True or False", parsed=bool)
NUMBER = Kind(_check_number, "a number", read=float)
POSITIVE = Kind(_check_positive, "a number above 0", read=lambda text: _check_positive(float(text)))
# A path, stored as text.
PLACE = Kind(_check_place, "a path", read=lambda text: fspath(Path(_check_place(text))), metavar="PATH")
SECONDS = Kind(
    _check_seconds,
    "a number of seconds above 0",
    form=" (seconds)",
    read=parse_seconds,
    wanted_text="a number and s, m or h, such as 90s, 15m or 1.5h",
    text_form=", such as 90s, 15m, 1.5h",
)
BYTES = whole(1)._replace(
    form=" (bytes)",
    read=parse_bytes,
    wanted_text="a number and K, M, G or T, such as 800M or 8G",
    text_form=", such as 800M or 8G (of 1024)",
    metavar=None,
)
# Values by name; on the command line each value is JSON or else text.
SETTINGS = Kind(
    _check_settings,
    "a mapping of names to values",
    form=', such as {"recipe.learning_rate": 1e-4}',
    read=_read_setting,
    wanted_text="KEY=VALUE, such as batch_size=2",
    text_form=", such as recipe.learning_rate=1e-4",
    metavar="KEY=VALUE",
    parsed=list[str],
)


def _check_thresholds(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {""}:
        # The key of a value without a name on the command line.
        value = value[""]
    if isinstance(value, Mapping):
        if not value or "" in value or not all(isinstance(name, str) for name in value):
            raise ValueError
        return {name: _check_share(number) for name, number in value.items()}
    return value if value == "default" else _check_share(value)


def _check_share(value: Any) -> float:
    number = _check_number(value)
    if not 0 < number < 1:
        raise ValueError
    return number


def _read_threshold(text: str) -> tuple[str, Any]:
    if text == "default":
        return "", text
    name, _, number = text.rpartition("=")
    return name, _check_share(float(number))


# Probabilities above which voxels count: one for all classes, or several by name.
THRESHOLDS = Kind(
    _check_thresholds,
    "a number between 0 and 1, a mapping of classes to such numbers, or 'default'",
    form=', such as 0.35 or {"lesion": 0.3}',
    read=_read_threshold,
    wanted_text="a number between 0 and 1, such as 0.35, one for a class, such as lesion=0.3, or default",
    text_form=", such as 0.35, or lesion=0.3 for a class; default: the largest",
    metavar="[CLASS=]NUMBER",
    parsed=list[str],
)
# A share of a total.
SHARE = Kind(
    lambda value: 1.0 if value == 1 else _check_share(value),
    "a share above 0, up to 1, such as 0.9",
    read=float,
    metavar="NUMBER",
)
# Values that only Python accepts.
OBJECT = Kind(lambda value: value, "an object", python_only=True)


@dataclass(frozen=True)
class Option:
    """The declaration of an option in addition to its type, for Python and for the command line.

    ``help`` is one sentence. ``names`` are the names on the command line, if they differ from the argument's name.
    ``resume`` restricts the option when a run is resumed: its value must be the "same"; may change ("free"); may only
    go "further"; or must have the same "contents" under any name. An option of the "call" is not stored in
    ``config.json``. An option for making a plan (``plans``) cannot be combined with a given plan, unless it has a
    ``key``, the dotted path of an entry of the plan, which is then replaced.
    """

    help: str
    kind: Kind = TEXT
    names: tuple[str, ...] = ()
    resume: Literal["same", "free", "further", "contents", "call"] = "same"
    plans: bool = False
    key: str | None = None
    positional: bool = False

    def accept(self, value: Any, name: str) -> Any:
        """Return the normalised value; :class:`InputError` names the argument and the valid values."""
        try:
            return self.kind.check(value)
        except InputError as error:
            raise InputError(f"`{name}`: {error}") from error
        except (OverflowError, TypeError, ValueError) as error:
            raise InputError(f"`{name}={value!r}`: give {self.kind.wanted}") from error

    def read(self, text: Any, name: str) -> Any:
        """Return the value of a text; :class:`InputError` names the option and the valid values."""
        try:
            value = (self.kind.read or self.kind.check)(text)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        except (OverflowError, TypeError, ValueError) as error:
            raise InputError(
                f"{name} {shlex.quote(str(text))}: give {self.kind.wanted_text or self.kind.wanted}"
            ) from error
        self.find(value, name)
        return value

    def find(self, value: Any, name: str) -> None:
        """Raise :class:`InputError` with the nearest names for a name that does not exist."""
        if self.kind.names is not None:
            check_choice(value, self.kind.names(), name)
        if self.kind.find is not None:
            self.kind.find(value)


class Declared(NamedTuple):
    """An option of a dataclass; without a default, ``default`` is ``dataclasses.MISSING``."""

    name: str
    option: Option
    default: Any


class Options:
    """Base class of dataclasses whose fields are options; values are checked on creation."""

    @staticmethod
    def types() -> dict[str, Any]:
        """Return types in annotations that are not imported at module level because their import is slow."""
        return {}

    def __post_init__(self) -> None:
        for name, option, default in declared_options(type(self)):
            if (value := getattr(self, name)) is not None or default is not None:
                object.__setattr__(self, name, option.accept(value, name))

    def check_given(self) -> None:
        """Raise :class:`InputError` if an option names something that does not exist, without opening files.

        Functions call this first. Stored options are not checked, because what they name may have been removed.
        """
        for name, option, default in declared_options(type(self)):
            names_something = option.kind.names is not None or option.kind.find is not None
            # Defaults exist, and looking them up would import packages that are not needed yet.
            if names_something and (value := getattr(self, name)) is not None and value != default:
                option.find(value, f"`{name}`")


def evaluated_annotations(options: type[Options], *, include_extras: bool = False) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name, with postponed annotations evaluated."""
    # `get_type_hints` of Python 3.10 cannot evaluate a postponed `_: KW_ONLY`.
    return get_type_hints(options, localns={**options.types(), "KW_ONLY": Any}, include_extras=include_extras)


def declared_options(options: type[Options]) -> list[Declared]:
    """Return the options that a dataclass and its bases declare, in their order."""
    entries: tuple[Any, ...] = fields(options)  # type: ignore[arg-type]
    kinds = {entry.name: entry.type for entry in entries}
    if any(isinstance(kind, str) for kind in kinds.values()):
        # The dataclass is in a module whose annotations are postponed.
        kinds = evaluated_annotations(options, include_extras=True)
    found = []
    for entry in entries:
        parts = [part for part in get_args(kinds[entry.name])[1:] if isinstance(part, Option)]
        found += [Declared(entry.name, part, entry.default) for part in parts]
    return found
