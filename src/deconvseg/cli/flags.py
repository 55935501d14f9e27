"""Translation of argument names in library errors to flags of the command line.

The library names arguments as in Python, between backquotes: ```fold```, ```resume=True```, ```workers=0```. If a
command stores an option under that name, its flag is shown: ``--fold``, ``--resume``, ``--workers 0``. Other names do
not change.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import typer

from deconvseg.cli.usage import typed_flag

_NAMED = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")
# Commands and parameters are objects of the Click version that Typer includes.
_commands: ContextVar[tuple[Any, ...]] = ContextVar("_commands", default=())


def speak_for(context: typer.Context) -> None:
    """Use the flags of the command that is about to run; for arguments it does not have, those of other commands."""
    root: Any = context.command
    chosen = getattr(root, "commands", {}).get(context.invoked_subcommand)
    _commands.set((root,) if chosen is None else (chosen, root))


def name_flags(text: str) -> str:
    """Return the text with flags in place of arguments."""
    return _NAMED.sub(_flag, text)


def _flag(named: re.Match[str]) -> str:
    name, value = named.groups()
    for command in _commands.get():
        for parameter in _parameters(command):
            if parameter.name == name:
                return _say(parameter, None if value is None else _read(value))
    return named[0]


def _parameters(command: Any) -> Iterator[Any]:
    yield from command.params
    for part in getattr(command, "commands", {}).values():
        yield from _parameters(part)


def _say(parameter: Any, value: Any) -> str:
    if parameter.param_type_name != "option":
        return str(parameter.name).upper() if value is None else shlex.quote(str(value))
    flag, off = map(typed_flag, (parameter.opts, parameter.secondary_opts))
    if parameter.is_flag:
        return off if value is False and off else flag
    if isinstance(value, list | tuple) and all(isinstance(entry, int) for entry in value):
        value = "x".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{flag} {_setting(key, entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return " ".join(f"{flag} {shlex.quote(str(entry))}" for entry in value)
    return flag if value is None else f"{flag} {shlex.quote(str(value))}"


def _setting(key: str, value: Any) -> str:
    """Return KEY=VALUE as it is typed in a shell; a list has brackets, which shells expand."""
    return (
        shlex.quote(f"{key}={json.dumps(value, separators=(',', ':'))}")
        if isinstance(value, list)
        else f"{key}={value}"
    )


def _read(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
