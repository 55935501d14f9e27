"""Where a run samples an image: DTC's Fig. 7 (arXiv 2601.17939) from a run folder and a file."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

from deconvseg.inference.looking import look_at
from deconvseg.runs import WeightsChoice

if TYPE_CHECKING:
    from deconvseg.reporting.sampling import SamplingMap


def map_sampling(
    model: str | PathLike[str],
    image: str | PathLike[str],
    *,
    stage: int | None = None,
    slice: int | None = None,
    weights: WeightsChoice | None = None,
    case: str | None = None,
) -> SamplingMap:
    """Return where a run samples one image, with the mask that it predicts; of a cross-validation the first fold's.

    The image is prepared as by a prediction and shown with its own intensities. A 2D network that takes any size sees
    the whole image. Others see one window of the plan's patch size, around the mask in the axial ``slice``: slices are
    those of the image from the feet upwards, by default that with the largest part of the mask. ``stage`` is that of
    :func:`~deconvseg.reporting.sampling_map`; ``weights`` are the "final" or the "best" ones, by default those that the
    recipe chooses; ``case`` names one of several images. Raises :class:`~deconvseg.errors.InputError` for several
    images without it, and as that function does.

    Example:
        >>> from deconvseg.inference import map_sampling
        >>> map_sampling("RUN", "image.png")
        Traceback (most recent call last):
        deconvseg.errors.InputError: the model has no upsampling with learned positions: ...

    """
    from deconvseg.reporting.sampling import sampling_map

    look = look_at(model, image, slice=slice, weights=weights, case=case)
    drawn = sampling_map(look.network, look.pixels, slice=look.slice, stage=stage)
    return replace(drawn, image=look.picture, mask=look.mask, title=look.title)
