"""Where the command line writes: results to standard output, everything for people's eyes to standard error."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from deconvseg.text import dump_json, escape_controls

if TYPE_CHECKING:
    from deconvseg.planning import Section

_stderr = Console(stderr=True, highlight=False, emoji=False)


class Terminal:
    """Tells what happens, with Rich; shows moving bars on a terminal, a few lines elsewhere."""

    def say(self, text: str) -> None:
        """Print a line."""
        _print_line(text)

    def track(self, items: Sequence[Any], text: str) -> Iterable[Any]:
        """Go through items under a bar."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=_stderr, transient=True, disable=not _stderr.is_terminal) as bar:
            yield from bar.track(items, description=text)

    @contextmanager
    def meter(self) -> Iterator[Callable[[str, float], None]]:
        """Give a function that moves a bar to a fraction and tells a text beside it."""
        columns = (
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        if not _stderr.is_terminal:
            yield _tenths()
            return
        with Progress(*columns, console=_stderr) as bar:
            task = bar.add_task("starting", total=1.0)
            yield lambda text, fraction: bar.update(task, completed=fraction, description=escape_controls(text))


def _tenths() -> Callable[[str, float], None]:
    """Return a meter for log files: a line for each tenth of the way."""
    told = -1

    def tell(text: str, fraction: float) -> None:
        nonlocal told
        if int(fraction * 10) > told:
            told = int(fraction * 10)
            _print_line(f"{fraction:4.0%}  {text}")

    return tell


def error(text: str) -> None:
    """Print one line about what went wrong."""
    _print_line(f"error: {text}", "red")


def warn(text: str) -> None:
    """Print one line about something to look at."""
    _print_line(f"warning: {text}", "yellow")


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
    typer.echo("\n".join(map(escape_controls, text.split("\n"))))


def echo_path(path: object) -> None:
    """Print a path to standard output: escaped on a terminal, as it is for another program."""
    typer.echo(escape_controls(str(path)) if sys.stdout.isatty() else path)


def _print_line(text: str, style: str | None = None) -> None:
    # A name may hold ANSI escapes, line breaks or Rich's markup: none of it is acted on.
    _stderr.print(escape_controls(text), style=style, markup=False, soft_wrap=True)


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output, as wide as it needs to be where that is not a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(escape_controls(title)), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    for row in rows:
        table.add_row(*(Text(escape_controls(text)) for text in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def print_explanation(sections: Iterable["Section"]) -> None:
    """Print the sections of a plan's explanation to standard output, long texts folded into their column."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else 140
    for section in sections:
        table = Table(
            title=Text(escape_controls(section.title)), title_justify="left", title_style="bold", box=SIMPLE_HEAD
        )
        for heading in section.headings:
            table.add_column(heading, overflow="fold")
        for row in section.rows:
            # Texts may hold brackets, which are no markup.
            table.add_row(*(Text(escape_controls(text)) for text in row))
        Console(highlight=False, width=width).print(table)


def print_json(tree: Any) -> None:
    """Print a JSON document to standard output."""
    typer.echo(dump_json(tree))
