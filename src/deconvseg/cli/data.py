"""``deconvseg data``: check a dataset, or make a synthetic one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, print_json, warn
from deconvseg.cli.helping import Command, Group
from deconvseg.options import READING, RunOptions

app = typer.Typer(help="Check a dataset, or make a synthetic one.", no_args_is_help=True, cls=Group)


@app.command(cls=Command)
@options.takes(RunOptions, "dataset", "splits", *READING)
def check(dataset: str, splits: str | None, json: options.Json = False, **asked: Any) -> None:
    """Read every case and report shapes, spacings, labels and every problem by file name.

    If more than eight files have the same problem, eight are listed and the others counted; --json lists all.
    """
    from deconvseg.data import check_dataset, open_dataset, read_splits

    data = open_dataset(dataset, **asked)
    source = splits or data.splits_file
    parts = None if source is None else read_splits(source, data.names, excluded=data.excluded_names)
    report = check_dataset(data, splits=parts, console=Terminal())
    if json:
        print_json(report.to_json())
    else:
        echo(report.to_text())
    if report.errors:
        raise typer.Exit(1)


@app.command(cls=Command)
@options.takes(RunOptions, "seed")
def demo(
    output: Annotated[Path, typer.Argument(help="Folder to write the dataset into.")],
    cases: Annotated[int, typer.Option(help="Number of cases.", min=5)] = 30,
    **asked: Any,
) -> None:
    """Make the built-in synthetic dataset: blurred volumes of an organ with lesions, in nnU-Net's raw layout."""
    from deconvseg.data import make_demo_dataset

    again = (output / "dataset.json").is_file()
    folder = make_demo_dataset(output, cases=cases, **asked)
    if again:
        warn(f"{folder}: held the synthetic dataset already; it was written again")
    echo_path(folder)
