"""The output of ``--help``: unchanged examples, options in groups, and text wrapped only at spaces."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from deconvseg.cli.examples import EXAMPLES
from deconvseg.cli.usage import OneLineErrors
from deconvseg.progress import wrap

# Options of a command are shown in the order of these groups; a command with few options has a single group.
_GROUPS: dict[str, tuple[str, ...]] = {
    "Data": (
        *("images", "truth", "prediction", "dataset", "splits", "split", "fold", "folds", "group_by", "stratify"),
        *("table", "image", "mask", "labels", "foreground", "exclude", "series", "channel", "cache", "cases", "bids"),
        *("protocol", "data", "datasets", "rows", "seeds", "incomplete"),
    ),
    "Scale": ("scale", "steps", "narrow"),
    "Plan": (
        *("model", "preset", "variant", "upsampling", "width", "patch_size", "batch_size", "plan", "recipe", "dims"),
        *("values",),
    ),
    "Training": ("epochs", "max_seconds", "learning_rate", "pretrained", "resume", "seed", "track"),
    "Prediction": (
        *("models", "weights", "test", "overlap", "tta", "threshold", "postprocess", "crop", "skip_existing"),
        *("probabilities", "save_probabilities", "save_regions", "seg_type", "codes", "anonymise"),
    ),
    "Metrics": ("metrics", "unit", "grid", "empty", "tolerance", "lesion_overlap", "lesion_sizes", "run"),
    "Machine": ("device", "devices", "nodes", "strategy", "precision", "workers", "jobs", "memory"),
    "Output": (
        "output",
        "records",
        "format",
        "sampling",
        "to",
        "number",
        "name",
        "link",
        "json",
        "explain",
        "listing",
        "show",
        "schema",
    ),
}
_OTHERS, _ALL = "Further options", "Options"
_MANY = 8
# The default names of values.
_VALUES = {"path": "PATH", "str": "TEXT", "text": "TEXT", "int": "N", "integer": "N", "float": "X"}
_NAMED_VALUES = {"max_seconds": "TIME", "memory": "SIZE"}
_EVERYWHERE = (
    ("--quiet", "Show only warnings and the last line."),
    ("--verbose", "Show every step; by default a log shows every tenth."),
    ("--debug", "Show the full traceback of an error."),
    ("-h, --help", "Show this help."),
)
# Columns: maximum width, width of the option column, and the width below which texts are placed under options.
_WIDEST, _LEFT, _NARROW = 100, 30, 72


class Command(OneLineErrors, TyperCommand):
    """A command whose help is that of :func:`describe`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage after the name of the command; errors show it too."""
        arguments, options = _parameters(self)
        return [_usage(arguments, options, {})]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(_render(describe(self, ctx), _width()))


class Group(OneLineErrors, TyperGroup):
    """Commands whose help is that of :func:`describe`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(_render(describe(self, ctx), _width()))


_Section = tuple[str, "list[tuple[str, str]] | list[str]"]


def describe(command: Any, context: Any) -> Iterator[_Section]:
    """Yield the parts of a command's help: a title, and lines or pairs of an option and its text.

    The first parts, usage and description, have no title.
    """
    commands = getattr(command, "commands", {})
    arguments, options = _parameters(command)
    yield "", [f"Usage: {context.command_path} {_usage(arguments, options, commands)}"]
    paragraphs = (command.help or "").strip().split("\n\n")
    for paragraph in paragraphs:
        yield "", [" ".join(paragraph.split()).replace("``", "")]
    # A name that commands of several groups have stands in its group.
    group = context.parent.info_name if context.parent is not None and context.parent.parent is not None else None
    yield "Examples", list(EXAMPLES.get(f"{group} {context.info_name}") or EXAMPLES.get(context.info_name, ()))
    if commands:
        yield "Commands", [(name, _first_sentence(one.help)) for name, one in commands.items()]
    if arguments:
        yield "Arguments", [(_name(part), _text(part)) for part in arguments]
    for title, parts in _group(options):
        yield title, [(_flags(part), _text(part)) for part in parts]
    yield "Of every command", list(_EVERYWHERE)


def _parameters(command: Any) -> tuple[list[Any], list[Any]]:
    arguments = [part for part in command.params if part.param_type_name == "argument"]
    options = [part for part in command.params if part.param_type_name == "option" and part.name != "help"]
    return arguments, options


def _usage(arguments: list[Any], options: list[Any], commands: Any) -> str:
    if commands:
        return "COMMAND ..."
    parts = [_name(part) if part.required else f"[{_name(part)}]" for part in arguments]
    parts += [f"{part.opts[0]} {_value(part)}" for part in options if part.required]
    return " ".join([*parts, "[OPTIONS]"])


def _group(options: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    options = [part for part in options if f"--{part.name}" not in dict(_EVERYWHERE)]
    if len(options) < _MANY:
        yield from [(_ALL, options)] if options else []
        return
    group_of = {name: title for title, names in _GROUPS.items() for name in names}
    order = [name for names in _GROUPS.values() for name in names]
    options = sorted(options, key=lambda part: order.index(part.name) if part.name in order else len(order))
    for title in (*_GROUPS, _OTHERS):
        if parts := [part for part in options if group_of.get(part.name, _OTHERS) == title]:
            yield title, parts


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name).upper()


def _flags(option: Any) -> str:
    value = _value(option)
    names = ", ".join(sorted(option.opts, key=lambda name: name.startswith("--")))
    if option.secondary_opts:
        names += f" / {', '.join(option.secondary_opts)}"
    return f"{names} {value}" if value else names


def _value(option: Any) -> str:
    if option.is_flag:
        return ""
    if option.name in _NAMED_VALUES:
        return _NAMED_VALUES[option.name]
    shown = str(option.metavar or _type_name(option))
    kind = re.match(r"<(?:list\[)?(\w+)", shown)
    return shown if kind is None else _VALUES.get(kind[1].lower(), kind[1].upper())


def _type_name(option: Any) -> str:
    """Return the type of an option's values between angle brackets."""
    if hasattr(option, "display_type_rich"):
        return str(option.display_type_rich(ctx=None))
    # Options of earlier versions of Typer are click's.
    return f"<{option.type.name}>"


def _text(part: Any) -> str:
    notes = []
    bounds = re.search(r"\[(?:([\d.]+)<=)?x(?:>=([\d.]+))?(?:<=([\d.]+))?\]", str(part.metavar or ""))
    if bounds is not None:
        least = bounds[1] or bounds[2]
        notes.append(f"{_plain(least)} or more" if bounds[3] is None else f"{_plain(least)} to {_plain(bounds[3])}")
    if part.required and part.param_type_name == "option":
        notes.append("required")
    default = part.default
    if default is not None and part.show_default and not part.required and not callable(default):
        if not getattr(part, "is_flag", False):
            notes.append(f"default: {default}")
        elif part.secondary_opts:
            notes.append(f"default: {(part.opts if default else part.secondary_opts)[0]}")
    return f"{part.help or ''} [{'; '.join(notes)}]" if notes else part.help or ""


def _plain(number: str) -> str:
    return f"{float(number):g}"


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _render(sections: Iterable[_Section], width: int) -> str:
    lines: list[str] = []
    for title, content in sections:
        if not content:
            continue
        if lines:
            lines.append("")
        if title:
            lines.append(_style(title, bold=True))
        for entry in content:
            if isinstance(entry, tuple):
                lines += _entry(*entry, width)
            elif title:
                # An example is not wrapped.
                lines.append(f"  {_style(entry, fg='green')}")
            else:
                lines += wrap(entry, width, "")
    return "\n".join(lines) + "\n"


def _entry(name: str, text: str, width: int) -> Iterator[str]:
    """Return the lines of an option: its text to the right, or below if there is no space."""
    shown = f"  {_style(name, fg='cyan')}"
    if width < _NARROW:
        yield shown
        yield from (f"      {line}" for line in wrap(text, width - 6, ""))
        return
    first, *others = wrap(text, width - _LEFT, "")
    if len(name) > _LEFT - 4:
        yield shown
        shown, name = "", ""
    beside = " " * (_LEFT - (2 + len(name) if name else 0))
    yield f"{shown}{beside}{first}"
    yield from (f"{' ' * _LEFT}{line}" for line in others)


def _style(text: str, **style: Any) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else typer.style(text, **style)


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size((80, 24)).columns)
