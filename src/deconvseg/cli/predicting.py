"""``deconvseg predict``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, error, print_json, warn
from deconvseg.options import BYTES, Option, PartOptions, RunOptions


@options.takes(PartOptions)
@options.takes(
    RunOptions,
    *("device", "memory"),
    memory=Option("What a case may take beside the loaded model{form}.", BYTES),
)
def predict(
    images: Annotated[Path, typer.Option("-i", "--input", help="An image, a folder of images, or a dataset.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the masks.")],
    models: Annotated[
        list[Path], typer.Option("-m", "--model", help="A run or cross-validation; give several to average them.")
    ],
    tta: Annotated[
        bool, typer.Option("--tta/--disable_tta", help="Average over mirrorings: slower, often a little better.")
    ] = False,
    postprocess: Annotated[
        bool,
        typer.Option("--postprocessing/--no-postprocessing", help="Apply what a cross-validation has chosen."),
    ] = True,
    overlap: Annotated[
        float | None,
        typer.Option("--overlap", min=0.0, max=0.95, help="Overlap of windows; the plan's (0.5) if not given."),
    ] = None,
    crop: Annotated[
        bool,
        typer.Option("--crop/--no-crop", help="Take what lies around all non-zero voxels for background unseen."),
    ] = True,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Write CASE.npz beside each mask.")
    ] = False,
    skip_existing: Annotated[bool, typer.Option("--continue", help="Leave masks that are there already.")] = False,
    bids: Annotated[
        bool, typer.Option("--bids", help="Write a BIDS derivative: sub-01/anat/sub-01_desc-deconvseg_dseg.nii.gz.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Processes that predict at once, each with its share of the threads.")
    ] = 1,
    json: options.Json = False,
    *,
    device: str,
    **asked: Any,
) -> None:
    """Write a mask for each image, on its own grid, with its geometry, in the label values of the training masks."""
    from deconvseg.experiments import choose_executor, predict_many

    done = predict_many(
        images,
        models,
        output,
        overlap=overlap,
        tta=tta,
        postprocess=postprocess,
        crop=crop,
        save_probabilities=save_probabilities,
        skip_existing=skip_existing,
        bids=bids,
        executor=choose_executor(jobs, device) if jobs > 1 else None,
        device=device,
        console=Terminal(),
        **asked,
    )
    if json:
        print_json(done.to_json())
    else:
        skipped = f", {len(done.skipped)} were there already" if done.skipped else ""
        echo(f"{len(done.written)} masks written to {output}{skipped}")
    if done.remarks:
        warn(f"{len(done.remarks)} of {len(done.written) + len(done.skipped)} cases have warnings; they are above")
    for problem in done.problems:
        error(problem)
    if done.problems:
        raise typer.Exit(1)
