"""Where the command line writes: results to standard output, everything for people's eyes to standard error."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from deconvseg import progress
from deconvseg.cli.flags import name_flags
from deconvseg.progress.screen import Level, Shown, choose_display
from deconvseg.text import dump_json, escape_controls

if TYPE_CHECKING:
    from deconvseg.planning import Section

_stderr = Console(stderr=True, highlight=False, emoji=False)
_level: Level = "usual"


def choose_level(level: Level) -> None:
    """Show less or more from now on."""
    global _level
    _level = level


class Terminal:
    """Tells what happens: with moving bars on a terminal, as a log elsewhere."""

    def __init__(self) -> None:
        self._shown = Shown(choose_display(_level, _stderr), shown, _level)

    def say(self, text: str) -> None:
        """Print a line."""
        self._shown.say(text)

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[progress.Progress]:
        """Give a function that moves a bar, or writes a line of the log now and then."""
        with self._shown.track(text, total) as tell:
            yield tell


def shown(text: str) -> str:
    """Return a text as it is shown to a person: arguments as flags, control characters made visible."""
    return escape_controls(name_flags(text))


def error(text: str) -> None:
    """Print one line about what went wrong."""
    _print_line(f"error: {text}")


def warn(text: str) -> None:
    """Print one line about something to look at."""
    _print_line(f"warning: {text}")


def show_log() -> None:
    """Print what the package logs as warnings."""
    log = logging.getLogger("deconvseg")
    if not any(isinstance(handler, _Warnings) for handler in log.handlers):
        log.addHandler(_Warnings())


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(self.format(record))


def echo(text: str) -> None:
    """Print lines to standard output."""
    typer.echo("\n".join(map(shown, text.split("\n"))))


def echo_path(path: object) -> None:
    """Print a path to standard output: escaped on a terminal, as it is for another program."""
    typer.echo(escape_controls(str(path)) if sys.stdout.isatty() else path)


def _print_line(text: str) -> None:
    # A name may hold ANSI escapes, line breaks or Rich's markup: none of it is acted on.
    choose_display(_level, _stderr).say(shown(text))


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output, as wide as it needs to be where that is not a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(shown(title)), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for place, heading in enumerate(headings):
        table.add_column(Text(shown(heading)), justify="right" if place else "left")
    for row in rows:
        table.add_row(*(Text(shown(text)) for text in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def print_explanation(sections: Iterable["Section"]) -> None:
    """Print the sections of a plan's explanation to standard output, long texts folded into their column."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else 140
    for section in sections:
        table = Table(title=Text(shown(section.title)), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        for heading in section.headings:
            table.add_column(heading, overflow="fold")
        for row in section.rows:
            # Texts may hold brackets, which are no markup.
            table.add_row(*(Text(shown(text)) for text in row))
        Console(highlight=False, width=width).print(table)


def print_json(tree: Any) -> None:
    """Print a JSON document to standard output."""
    typer.echo(dump_json(tree))
