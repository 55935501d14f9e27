"""``deconvseg sources``."""

from typing import Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, loading
from deconvseg.options import PredictOptions


@options.takes(PredictOptions, "weights")
def sources(
    model: Annotated[str, typer.Option("-m", "--model", help="A run of a Deconver, or a cross-validation.")],
    image: options.Shown,
    output: options.Picture,
    case: options.Case = None,
    slice: options.Slice = None,
    **asked: Any,
) -> None:
    """Draw what each deconvolution makes of an image, before and after training: sources, filters, their sum.

    A 2D image is shown whole, a volume in a window around the predicted mask.
    """
    with loading():
        from deconvseg.inference import map_sources
        from deconvseg.reporting import draw_sources
        from deconvseg.reporting.style import check_picture, write_picture

    check_picture(output)
    with Terminal().track(f"predicting {image}"):
        found = map_sources(model, image, slice=slice, case=case, **asked)
    write_picture(draw_sources(found), output)
    for when, maps in found.items():
        echo(when)
        for one in maps:
            echo(f"  {one.layer}: {one}")
    echo_path(output)
