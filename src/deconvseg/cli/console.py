"""Output of the command line: results to standard output, messages and progress to standard error."""

import gc
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from deconvseg import progress
from deconvseg.cli.flags import name_flags
from deconvseg.cli.tables import lay_out, lay_out_texts
from deconvseg.progress import wrap
from deconvseg.progress.screen import Level, Shown, choose_display
from deconvseg.text import dump_json, escape_controls

if TYPE_CHECKING:
    from deconvseg.planning import Section

_stderr = Console(stderr=True, highlight=False, emoji=False)
_level: Level = "usual"
# The width of wrapped columns if standard output is not a terminal.
_LOG_WIDTH = 140


def choose_level(level: Level) -> None:
    """Set the amount of messages."""
    global _level
    _level = level


class Terminal:
    """Shows messages and progress: bars on a terminal, a log elsewhere."""

    def __init__(self) -> None:
        self._shown = Shown(choose_display(_level, _stderr), shown, _level)

    def say(self, text: str) -> None:
        """Print a line."""
        self._shown.say(text)

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[progress.Progress]:
        """Yield a function that updates a bar, or writes a line of the log at intervals."""
        with self._shown.track(text, total) as tell:
            yield tell


@contextmanager
def loading() -> Iterator[None]:
    """Show that libraries are being imported, which takes seconds."""
    with Terminal().track("loading PyTorch"):
        # There is no garbage among the modules, and each search for it goes through all of them. They are not frozen:
        # frozen ones stay at the end of the process, where extension modules report them as leaks.
        gc.disable()
        try:
            yield
        finally:
            gc.enable()


def shown(text: str) -> str:
    """Return a text for display: arguments as flags, control characters escaped."""
    return escape_controls(name_flags(text))


def error(text: str) -> None:
    """Print an error in one line."""
    _print_line(f"error: {text}")


def show_command(arguments: Sequence[str], further: str) -> None:
    """Print the command with these arguments, and ``further`` ones as the library names them, in one unwrapped line."""
    typer.echo(escape_controls(f"{shlex.join(['deconvseg', *arguments])} {name_flags(further)}"), err=True)


def list_errors(problems: Sequence[str]) -> None:
    """Print the problems of cases, those with the same text in one line."""
    for line in group_alike(problems):
        error(line)


def group_alike(problems: Iterable[str]) -> list[str]:
    """Return one line for each text of problems ``NAME: TEXT``; a text of several cases has their number and names."""
    from deconvseg.data import list_names

    grouped: dict[str, list[str]] = {}
    for problem in problems:
        grouped.setdefault(problem.partition(": ")[2] or problem, []).append(problem)
    lines = []
    for text, alike in grouped.items():
        names = list_names((Path(problem.partition(": ")[0]).name for problem in alike), limit=3)
        lines.append(alike[0] if len(alike) == 1 else f"{len(alike)} cases: {text} ({names})")
    return lines


def warn(text: str) -> None:
    """Print a warning in one line."""
    _print_line(f"warning: {text}")


def show_log() -> None:
    """Print the warnings that the package logs."""
    log = logging.getLogger("deconvseg")
    if not any(isinstance(handler, _Warnings) for handler in log.handlers):
        log.addHandler(_Warnings())


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(self.format(record))


def echo(text: str) -> None:
    """Print lines to standard output, wrapped on a terminal."""
    lines = map(shown, text.split("\n"))
    width = table_width()
    typer.echo("\n".join(lines if width is None else (part for line in lines for part in wrap(line, width))))


def echo_path(path: object) -> None:
    """Print a path to standard output: escaped on a terminal, unchanged in a pipe or file."""
    typer.echo(escape_controls(str(path)) if sys.stdout.isatty() else path)


def _print_line(text: str) -> None:
    # A name may contain ANSI escapes, line breaks or Rich's markup, which must have no effect.
    choose_display(_level, _stderr).say(shown(text))


def table_width() -> int | None:
    """Return the maximum width of tables on standard output; None if it is not a terminal."""
    return Console().width if sys.stdout.isatty() else None


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output; if that is not a terminal, the width is not limited."""
    table = [[shown(text) for text in row] for row in (headings, *rows)]
    _print_titled(title, lay_out(table[0], table[1:], table_width()))


def print_explanation(sections: Iterable["Section"]) -> None:
    """Print the sections of a plan's explanation to standard output, with long texts wrapped in their column."""
    for section in sections:
        table = [[shown(text) for text in row] for row in (section.headings, *section.rows)]
        _print_titled(section.title, lay_out_texts(table[0], table[1:], table_width() or _LOG_WIDTH))


def _print_titled(title: str, lines: Sequence[str]) -> None:
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    heads = wrap(shown(title), table_width() or _LOG_WIDTH, "")
    typer.echo("\n".join([*(typer.style(head, bold=True) if bold else head for head in heads), *lines, ""]))


def print_json(tree: Any) -> None:
    """Print a JSON document to standard output."""
    typer.echo(dump_json(tree))
