"""Where the command line writes: results to standard output, everything for people's eyes to standard error."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from deconvseg import progress
from deconvseg.cli.flags import name_flags
from deconvseg.text import dump_json, escape_controls

if TYPE_CHECKING:
    from deconvseg.planning import Section

_stderr = Console(stderr=True, highlight=False, emoji=False)


class Terminal:
    """Tells what happens, with Rich; shows moving bars on a terminal, a few lines elsewhere."""

    def say(self, text: str) -> None:
        """Print a line."""
        _print_line(text)

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[progress.Progress]:
        """Give a function that moves a bar; in a log file it prints a line for each tenth, and nothing for items."""
        if not _stderr.is_terminal:
            yield progress.tenths(text, self.say) if total is None else progress.show_nothing
            return
        with Progress(*_columns(total), console=_stderr, transient=total is not None) as bar:
            task = bar.add_task(shown(text), total=total or 1.0)
            yield lambda done, what=None, /: bar.update(
                task, completed=done, description=None if what is None else shown(what)
            )


def _columns(total: int | None) -> tuple[ProgressColumn, ...]:
    """Return what stands beside the bar: the number of items, or a percentage and what is at work."""
    text = TextColumn("{task.description}", markup=False)
    if total is not None:
        return text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), text


def shown(text: str) -> str:
    """Return a text as it is shown to a person: arguments as flags, control characters made visible."""
    return escape_controls(name_flags(text))


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
    typer.echo("\n".join(map(shown, text.split("\n"))))


def echo_path(path: object) -> None:
    """Print a path to standard output: escaped on a terminal, as it is for another program."""
    typer.echo(escape_controls(str(path)) if sys.stdout.isatty() else path)


def _print_line(text: str, style: str | None = None) -> None:
    # A name may hold ANSI escapes, line breaks or Rich's markup: none of it is acted on.
    _stderr.print(shown(text), style=style, markup=False, soft_wrap=True)


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
