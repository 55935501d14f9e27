"""Options on the command line: those of :mod:`deconvseg.options`, and the few that commands add."""

import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from deconvseg.cli.usage import typed_flag
from deconvseg.options import PATCH, Declared, Option, Options, RunOptions, declared_options

# One size, or two that were joined; an image has at most three axes.
_SIZES = re.compile(r"\d+(x\d+)?")


def takes(
    options: type[Options], *names: str, **others: Option
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add declared options to the parameters of a command, which receives them, parsed and checked, as ``asked``.

    These are all options of a dataclass, or those with the ``names``; ``others`` replaces declarations for this
    command. Required options come first in ``--help``.
    """
    entries = [
        entry._replace(option=others.get(entry.name, entry.option))
        for entry in declared_options(options)
        if not entry.option.kind.python_only and (not names or entry.name in names)
    ]
    # Required options come first.
    entries.sort(key=lambda entry: entry.default is not MISSING)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**given: Any) -> None:
            function(**given | {entry.name: _read(entry, given[entry.name]) for entry in entries})

        taken = {"asked", *(entry.name for entry in entries)}
        own = [part for part in signature(function).parameters.values() if part.name not in taken]
        parameters = [*map(_parameter, entries), *(part.replace(kind=Parameter.KEYWORD_ONLY) for part in own)]
        parameters.sort(key=lambda part: part.default is not Parameter.empty)
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {part.name: part.annotation for part in parameters}
        return command

    return decorate


def _parameter(entry: Declared) -> Parameter:
    """Return the parameter from which Typer makes an option."""
    name, option, default = entry
    kind: Any = option.kind.parsed
    if default is not None and kind is str:
        default = str(default) if default is not MISSING else default
    return Parameter(
        name,
        Parameter.KEYWORD_ONLY,
        default=Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind | None if default is None else kind, _say(name, option)],
    )


def _say(name: str, option: Option) -> Any:
    text = option.help.replace("{form}", option.kind.text_form)
    if option.positional:
        return typer.Argument(help=text)
    return typer.Option(*_flags(name, option), metavar=option.kind.metavar, help=text)


def _flags(name: str, option: Option) -> list[str]:
    """Return the names of an option on the command line."""
    return [
        "/".join(f"-{part}" if len(part) == 1 else f"--{part}" for part in names.split("/"))
        for names in option.names or (name.replace("_", "-"),)
    ]


def join_sizes(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the numbers after an option for sizes joined: 96 96 64 becomes 96x96x64."""
    taking = {
        flag
        for name, option, _ in declared_options(RunOptions)
        if option.kind is PATCH
        for flag in _flags(name, option)
    }
    joined: list[str] = []
    for argument in arguments:
        before = joined[-2:]
        if len(before) == 2 and before[0] in taking and argument.isdecimal() and _SIZES.fullmatch(before[1]):
            joined[-1] += f"x{argument}"
        else:
            joined.append(argument)
    return joined


def _read(entry: Declared, given: Any) -> Any:
    """Return the value of an argument; :class:`InputError` names the option by its flag."""
    name, option, _ = entry
    if given is None:
        return None
    flag = name.upper() if option.positional else typed_flag(_flags(name, option))
    if isinstance(given, list):
        return option.accept(option.kind.gather([option.read(text, flag) for text in given]), name)
    return option.read(given, flag)


Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]

# Of the commands that draw what a network does with one image.
Shown = Annotated[Path, typer.Option("-i", "--input", help="An image, or a dataset and one of its cases.")]
Picture = Annotated[Path, typer.Option("-o", "--output", help="Picture to write (.png, .pdf, .svg).")]
Case = Annotated[str | None, typer.Option("--case", help="The case of a dataset or a folder of images.")]
Slice = Annotated[
    int | None,
    typer.Option(
        "--slice", min=0, help="Axial slice of a volume, from the feet; by default that with most of the mask."
    ),
]
