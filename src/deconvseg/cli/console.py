"""Where the command line writes: results to standard output, everything for people's eyes to standard error."""

import json
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

if TYPE_CHECKING:
    from deconvseg.planning import Section

_stderr = Console(stderr=True, highlight=False)


class Terminal:
    """Tells what happens, with Rich; shows moving bars on a terminal, a few lines elsewhere."""

    def say(self, text: str) -> None:
        """Print a line."""
        _stderr.print(text, markup=False, soft_wrap=True)

    def track(self, items: Sequence[Any], text: str) -> Iterable[Any]:
        """Go through items under a bar."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=_stderr, transient=True, disable=not _stderr.is_terminal) as bar:
            yield from bar.track(items, description=text)

    @contextmanager
    def meter(self) -> Iterator[Callable[[str, float], None]]:
        """Give a function that moves a bar to a fraction and tells a text beside it."""
        columns = (
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        if not _stderr.is_terminal:
            yield _tenths()
            return
        with Progress(*columns, console=_stderr) as bar:
            task = bar.add_task("starting", total=1.0)
            yield lambda text, fraction: bar.update(task, completed=fraction, description=text)


def _tenths() -> Callable[[str, float], None]:
    """Return a meter for log files: a line for each tenth of the way."""
    told = -1

    def tell(text: str, fraction: float) -> None:
        nonlocal told
        if int(fraction * 10) > told:
            told = int(fraction * 10)
            _stderr.print(f"{fraction:4.0%}  {text}", markup=False)

    return tell


def error(text: str) -> None:
    """Print one line about what went wrong."""
    _stderr.print(f"error: {text}", style="red", markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print one line about something to look at."""
    _stderr.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output, as wide as it needs to be where that is not a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def print_explanation(sections: Iterable["Section"]) -> None:
    """Print the sections of a plan's explanation to standard output, long texts folded into their column."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else 140
    for section in sections:
        table = Table(title=section.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        for heading in section.headings:
            table.add_column(heading, overflow="fold")
        for row in section.rows:
            # Texts may hold brackets, which are no markup.
            table.add_row(*(Text(text) for text in row))
        Console(highlight=False, width=width).print(table)


def print_json(tree: Any) -> None:
    """Print a JSON document to standard output."""
    typer.echo(json.dumps(tree, indent=2, ensure_ascii=False))
