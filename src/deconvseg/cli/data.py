"""``deconvseg data``: check or convert a dataset, list DICOM series, make synthetic data, show a published card."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.cards import count_cases, describe_card
from deconvseg.cli.console import Terminal, echo, echo_path, list_errors, print_json, warn
from deconvseg.cli.helping import Command, Group
from deconvseg.cli.series import describe_series
from deconvseg.options import READING, Option, RunOptions, whole
from deconvseg.text import number_of

app = typer.Typer(
    help="Check or convert a dataset, list DICOM series, make a synthetic dataset, or show a published one's card.",
    no_args_is_help=True,
    cls=Group,
)


@app.command(cls=Command)
@options.takes(RunOptions, "dataset", "splits", *READING)
def check(dataset: str, splits: str | None, json: options.Json = False, **asked: Any) -> None:
    """Read every case and report shapes, spacings, labels and every problem by file name.

    If more than eight files have the same problem, eight are listed and the others counted; --json lists all.
    """
    from deconvseg.data import check_dataset, open_dataset, read_splits, resolve_splits

    data = open_dataset(dataset, **asked)
    source = splits or data.splits_file
    parts = None if source is None else read_splits(source, data.names, excluded=data.excluded_names)
    if source is None and data.declared_test and data.labelled_names:
        # The test cases that the layout declares, and all others for training.
        parts = resolve_splits(data, None, fold="all")
    report = check_dataset(data, splits=parts, console=Terminal())
    if json:
        print_json(report.to_json())
    else:
        echo(report.to_text())
    if report.errors:
        raise typer.Exit(1)


@app.command("series", cls=Command)
@options.takes(RunOptions, "series")
def list_series(
    folder: Annotated[Path, typer.Argument(help="A folder of one or many DICOM studies.")],
    json: options.Json = False,
    **asked: Any,
) -> None:
    """List the DICOM series of a folder with their grids, why some cannot be read, and the files that were skipped."""
    from deconvseg.integrations.dicom import list_folder

    found = list_folder(folder, asked["series"] or ())
    if json:
        print_json(found.to_json())
    else:
        echo(describe_series(found))


@app.command(cls=Command)
@options.takes(
    RunOptions,
    *("dataset", "splits", *READING, "workers"),
    workers=Option("Processes that convert cases; 0: only this one. By default one per core, at most 8.", whole(0)),
)
def convert(
    dataset: str,
    splits: str | None,
    workers: int | None,
    output: Annotated[
        Path, typer.Argument(help="The new folder, such as Dataset011_NAME; with --id, the folder to make it in.")
    ],
    to: Annotated[str, typer.Option(help="nnunet (raw, version 2) or msd (Medical Segmentation Decathlon).")],
    number: Annotated[int | None, typer.Option("--id", help="Number of the dataset.", min=1, metavar="N")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; by default that of its folder.")] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Hard-link files that need no change instead of copying them.")
    ] = False,
    json: options.Json = False,
    **asked: Any,
) -> None:
    """Write any dataset that can be read as nnU-Net raw or Medical Segmentation Decathlon, with a manifest.

    Files that fit are copied, others written losslessly. Labels get consecutive values; conversion.json records the
    mapping, all sources and hashes. The same command continues an interrupted conversion.
    """
    from deconvseg.data import convert, open_dataset

    data = open_dataset(dataset, **asked)
    done = convert(
        data, output, to=to, number=number, name=name, splits=splits, link=link, workers=workers, console=Terminal()
    )
    if json:
        print_json(done.to_json())
    elif not done.problems:
        kept = f", {len(done.kept)} of them kept" if done.kept else ""
        echo(f"{number_of(done.training, 'training case')}, {number_of(done.testing, 'test case')}{kept}")
        echo_path(done.folder)
    list_errors(done.problems)
    if done.problems:
        warn(
            f"{number_of(len(done.problems), 'case')} could not be converted, {len(done.written) + len(done.kept)} are "
            "in place; correct or --exclude them, and run the command again"
        )
        raise typer.Exit(1)


@app.command(cls=Command)
@options.takes(RunOptions, "seed")
def demo(
    output: Annotated[Path, typer.Argument(help="Folder to write the dataset into.")],
    cases: Annotated[
        int | None, typer.Option(help="Number of cases with a mask: 30, with --like 10.", min=2, show_default=False)
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Name and arrange the files as this published dataset does ('data card').")
    ] = None,
    **asked: Any,
) -> None:
    """Make a synthetic dataset: volumes of an organ with lesions, or a tree with a published dataset's names."""
    from deconvseg.data import make_demo_dataset

    again = output.is_dir() and any(output.iterdir())
    folder = make_demo_dataset(output, cases=cases, like=like, **asked)
    if again:
        warn(f"{folder}: held the synthetic dataset already; it was written again")
    echo_path(folder)


@app.command(cls=Command)
def card(
    name: Annotated[str | None, typer.Argument(help="Name of a dataset; without it, all are listed.")] = None,
    json: options.Json = False,
) -> None:
    """Show a published dataset's source, licence, citation, counts and file names."""
    from deconvseg.catalog import CARDS
    from deconvseg.errors import check_choice

    if name is not None:
        check_choice(name, CARDS, "name")
    chosen = {key: found for key, found in CARDS.items() if name in (None, key)}
    if json:
        print_json({key: found._asdict() for key, found in chosen.items()})
    elif name is not None:
        echo(describe_card(chosen[name]))
    else:
        for key, found in chosen.items():
            echo(f"{key:8} {found.title:24} {count_cases(found)}")
        echo("\nAll about one: deconvseg data card NAME")
