"""``deconvseg complexity``."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, error, print_json, print_table
from deconvseg.errors import InputError
from deconvseg.options import SETTINGS, Option, RunOptions

if TYPE_CHECKING:
    from deconvseg.reporting.complexity import MeasuredTable


@options.takes(
    RunOptions,
    "values",
    values=Option(
        "Set a constructor argument, such as ratio=2, instead of using the papers' rows.", SETTINGS, names=("set",)
    ),
)
def complexity(
    presets: Annotated[
        list[str] | None,
        typer.Option("--preset", help="Networks of a preset, such as isles22 (see 'deconvseg models'); repeatable."),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="A network of 'deconvseg models'; repeatable.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="Size of the image, such as 64x64x64 or 256x256; by default as in the papers."),
    ] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Also time the networks on --device.")] = False,
    device: Annotated[
        str | None, typer.Option("-d", "--device", help="With --latency: auto, cpu, cuda, cuda:N or mps.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Markdown page to write, with a picture next to it.")
    ] = None,
    json: options.Json = False,
    **asked: Any,
) -> None:
    """Count parameters, operations and memory of networks, next to the published figures."""
    lengths = _parse_size(size)
    if device and not latency:
        raise InputError(f"--device {device}: only --latency runs networks on a device; add it")
    from deconvseg.reporting import complexity as reports
    from deconvseg.system import choose_device

    if output:
        reports.check_page(output)
    timed = choose_device(device or "auto") if latency else None
    how = reports.Measuring(lengths, timed, Terminal(), Terminal().say)
    presets, models = presets or [], models or []
    if settings := asked["values"]:
        tables = reports.measure_networks(presets, models, settings, how)
    else:
        tables = reports.compare_with_published(presets, models, how)
    if json:
        print_json(reports.to_json(tables))
    else:
        _print(tables)
    if timed:
        Terminal().say(reports.timing(timed))
    if output:
        for path in reports.write_complexity_page(tables, output, device=timed):
            Terminal().say(f"wrote {path}")
    unmeasured = _unmeasured(tables, models)
    if unmeasured:
        error(f"no measurement of {', '.join(unmeasured)}; the reasons are in the lines above")
        raise typer.Exit(1)


def _unmeasured(tables: "list[MeasuredTable]", models: list[str]) -> list[str]:
    """Return the requested models without a measurement; without requested models, all tables if none has one."""
    rows = [row for table in tables for row in table.rows]
    measured = {row.published.model if row.published else row.name for row in rows if row.complexity}
    if models:
        return [name for name in models if name not in measured]
    return [] if measured else [table.title for table in tables]


def _print(tables: "list[MeasuredTable]") -> None:
    from deconvseg.reporting.complexity import cells, reasons_of, text_of_reason

    reasons = reasons_of(tables)
    for table in tables:
        print_table(f"{table.title}, {' × '.join(map(str, table.size))}", *cells(table, reasons))
    for number, reason in enumerate(reasons, start=1):
        typer.echo(f"{number:2}  {text_of_reason(reason)}")


def _parse_size(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise InputError(f"--size {text}: give positive numbers with x between them, such as 64x64x64 or 256x256")
    return tuple(map(int, text.split("x")))
