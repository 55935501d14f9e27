"""``deconvseg reproduce`` and ``deconvseg compare``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, list_errors, loading, print_json, print_table
from deconvseg.errors import InputError
from deconvseg.options import ReproduceOptions, declared_options
from deconvseg.system import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from deconvseg.reporting.results import ResultColumn, TableResult

_Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder of the table: its files, and a folder for each cell.")
]
_Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON schema of a protocol and exit.")]
_OWN = ("protocol", "output")
_OTHERS = tuple(name for name, option, _ in declared_options(ReproduceOptions) if name not in (*_OWN, "command"))


@options.takes(ReproduceOptions, *_OTHERS)
def reproduce(
    protocol: Annotated[str | None, typer.Argument(help="A table of --list, such as dtc/table-1.")] = None,
    output: _Output = None,
    listing: Annotated[bool, typer.Option("--list", help="List the tables and figures, and exit.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the protocol as JSON, to copy and change it, and exit.")
    ] = False,
    schema: _Schema = False,
    json: options.Json = False,
    **asked: Any,
) -> None:
    """Make a table of the papers from the data on disk: a cross-validation for each network, beside the printed scores.

    Whatever is missing or misspelt is found before anything is trained. --scale below 1 rehearses the table in minutes.
    """
    with loading():
        from deconvseg import experiments

    if schema:
        print_json(experiments.Protocol.model_json_schema())
        return
    if listing:
        _list()
        return
    if protocol is None:
        raise InputError("give a table, such as dtc/table-1; --list shows them")
    if show:
        print_json(experiments.read_protocol(protocol).model_dump(mode="json", exclude_defaults=True))
        return
    _make(experiments.reproduce, protocol, output, asked, json=json)


@options.takes(ReproduceOptions, *_OTHERS)
def compare(
    protocol: Annotated[
        str | None,
        typer.Argument(
            help="A protocol, a JSON file: copy one from 'deconvseg reproduce NAME --show'. Or a comparison of --list."
        ),
    ] = None,
    output: _Output = None,
    listing: Annotated[bool, typer.Option("--list", help="List the comparisons of this package, and exit.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the protocol as JSON, to copy and change it, and exit.")
    ] = False,
    schema: _Schema = False,
    json: options.Json = False,
    **asked: Any,
) -> None:
    """Compare networks on datasets by a protocol of your own, as 'deconvseg reproduce' does by those of the papers.

    Whatever is missing or misspelt is found before anything is trained. --scale below 1 rehearses the table in minutes.
    """
    with loading():
        from deconvseg import experiments

    if schema:
        print_json(experiments.Protocol.model_json_schema())
        return
    if listing:
        _list_comparisons()
        return
    if protocol is None:
        raise InputError(
            "give the file of a protocol; 'deconvseg reproduce dtc/table-1 --show > mine.json' makes one to change"
        )
    if show:
        print_json(experiments.read_protocol(protocol).model_dump(mode="json", exclude_defaults=True))
        return
    _make(experiments.compare, protocol, output, asked, json=json)


def _make(
    function: "Callable[..., TableResult]", protocol: str, output: Path | None, asked: dict[str, Any], *, json: bool
) -> None:
    """Make the table, print it, and list the cells that failed."""
    if output is None:
        raise InputError("give a folder for the table as -o")
    keep_freed_memory()
    command = shlex.join(["deconvseg", *sys.argv[1:]])
    result = function(protocol, output, **asked, command=command, console=Terminal())
    if json:
        print_json(result.to_json())
    else:
        _print(result)
        echo_path(output)
    failed = [
        f"{row.title}, {cell.column}: {cell.reason}"
        for row in result.rows
        for cell in row.cells
        if cell.status == "failed"
    ]
    list_errors(failed)
    if failed:
        raise typer.Exit(1)


def _list() -> None:
    from deconvseg.experiments import list_protocols, read_protocol

    rows = []
    for name in list_protocols():
        found = read_protocol(name)
        figures = ", ".join(figure.name.rpartition(", ")[2] for figure in found.figures)
        datasets = ", ".join(dataset.name for dataset in found.datasets) if found.trains else "none needed"
        rows.append([name, found.title.partition(": ")[2] or found.title, datasets, str(len(found.rows)), figures])
    print_table("Tables of the papers", ["name", "what", "data", "rows", "figures"], rows)
    echo("deconvseg reproduce NAME --data FOLDER -o OUT; --scale 0.01 rehearses it")


def _list_comparisons() -> None:
    from deconvseg.experiments import list_comparisons, read_protocol

    rows = []
    for name in list_comparisons():
        found = read_protocol(name)
        datasets = ", ".join(dataset.name for dataset in found.datasets)
        rows.append([name, found.title, datasets, str(len(found.rows)), str(len(found.seeds))])
    print_table("Comparisons of this package", ["name", "what", "data", "rows", "seeds"], rows)
    echo("deconvseg compare NAME --data FOLDER -o OUT; --scale 0.01 rehearses it")


def _print(result: "TableResult") -> None:
    """Print mean and standard deviation over folds beside the printed scores."""
    heads = ["", "parameters", *(part for column in result.columns for part in (_head(result, column), "published"))]
    rows = []
    for row in result.rows:
        counts = [cost.parameters for cost in row.costs.values() if cost.parameters is not None]
        texts = [row.title, f"{counts[0]:,}" if counts else "–"]
        for column in result.columns:
            cell = result.cell(row.key, column.key)
            printed = None if cell is None else cell.published
            values = [] if cell is None else [fold.value for fold in cell.folds if fold.value is not None]
            texts.append(_spread(values, column.digits) if values else "–" if cell is None else cell.status)
            texts.append("–" if printed is None else _pair(printed.value, printed.sd, column.digits))
        rows.append(texts)
    print_table(result.title, heads, rows)


def _head(result: "TableResult", column: "ResultColumn") -> str:
    """Return the heading of a column, with its dataset if there are several."""
    return column.title if len(result.datasets) == 1 else f"{column.dataset} {column.title}"


def _spread(values: list[float], digits: int) -> str:
    from statistics import mean, stdev

    return _pair(mean(values), stdev(values) if len(values) > 1 else None, digits)


def _pair(value: float, sd: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")
