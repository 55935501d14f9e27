"""``deconvseg sampling``."""

from typing import Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, loading
from deconvseg.options import PredictOptions


@options.takes(PredictOptions, "weights")
def sampling(
    model: Annotated[
        str, typer.Option("-m", "--model", help="A run whose network has DTC or DySample, or a cross-validation.")
    ],
    image: options.Shown,
    output: options.Picture,
    case: options.Case = None,
    stage: Annotated[
        int | None,
        typer.Option(
            "--stage", min=1, help="Upsampling to show: 1 is that of the lowest resolution; by default the last."
        ),
    ] = None,
    slice: options.Slice = None,
    **asked: Any,
) -> None:
    """Draw where a learned upsampling samples an image: positions, their density and their displacement.

    The image has the outline of the predicted mask. A 2D image is shown whole, a volume in a window around the mask.
    """
    with loading():
        from deconvseg.inference import map_sampling
        from deconvseg.reporting import draw_sampling
        from deconvseg.reporting.style import check_picture, write_picture

    check_picture(output)
    with Terminal().track(f"predicting {image}"):
        found = map_sampling(model, image, stage=stage, slice=slice, case=case, **asked)
    write_picture(draw_sampling({found.layer: found}), output)
    echo(f"{found.layer}: {found}")
    echo_path(output)
