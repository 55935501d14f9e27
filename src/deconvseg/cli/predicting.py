"""``deconvseg predict``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, list_errors, loading, print_json, warn
from deconvseg.options import PredictOptions
from deconvseg.progress import Timings
from deconvseg.text import number_of
from deconvseg.units import format_time


@options.takes(PredictOptions)
def predict(
    images: Annotated[
        Path,
        typer.Option(
            "-i",
            "--input",
            "--from",
            help="An image, a folder of images, a dataset, or dicomweb://HOST/PATH/studies/UID.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the masks.")],
    models: Annotated[
        list[str],
        typer.Option(
            "-m",
            "--model",
            help="A run, a cross-validation, an export, a packed run (.dseg.zip), hf://ORG/NAME or pretrained:NAME; "
            "several are averaged.",
        ),
    ],
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", min=1, help="Number of processes that predict in parallel, each with a share of the threads."
        ),
    ] = 1,
    json: options.Json = False,
    **asked: Any,
) -> None:
    """Write a mask for each image, with the grid of the image and the label values of the training masks."""
    with loading():
        from deconvseg.experiments import choose_executor, predict_many

    timings = Timings()
    executor = choose_executor(jobs, asked["device"]) if jobs > 1 else None
    done = predict_many(images, models, output, **asked, executor=executor, console=Terminal())
    if json:
        print_json(done.to_json())
    else:
        skipped = f", {len(done.skipped)} existed already" if done.skipped else ""
        echo(f"{number_of(len(done.written), 'mask')} written to {output} in {format_time(timings.total)}{skipped}")
    if done.remarks:
        cases = number_of(len(done.written) + len(done.skipped), "case")
        have = "has" if len(done.remarks) == 1 else "have"
        warn(f"{len(done.remarks)} of {cases} {have} warnings; see the lines above")
    list_errors(done.problems)
    if done.problems:
        raise typer.Exit(1)
