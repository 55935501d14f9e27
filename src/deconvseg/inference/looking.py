"""One image as the network of a run sees it, for the pictures of what the network does with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy
from torch.nn.functional import pad

from deconvseg.data import Axes, Image, Normalisation
from deconvseg.errors import InputError, check_choice
from deconvseg.inference.finding import choose_cases
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.preparing import PreparedImage
from deconvseg.inference.records import Prediction
from deconvseg.models import Network
from deconvseg.planning import Plan
from deconvseg.runs import Run, WeightsChoice, open_runs


@dataclass(frozen=True, eq=False)
class Look:
    """What the network of a run sees of an image.

    Attributes:
        run: the run, of a cross-validation the first fold.
        network: its network.
        pixels: the network's input (C, \\*S): the whole 2D image, or a window around the mask.
        picture: the same part (C, \\*S) with the image's own intensities.
        mask: the predicted foreground (\\*S) in it.
        slice: the axial slice of the part, None in 2D.
        title: name of the case, with the slice of the image.

    """

    run: Run
    network: Network
    pixels: Tensor
    picture: NDArray[np.float32]
    mask: NDArray[np.bool_]
    slice: int | None
    title: str


def look_at(
    model: str | PathLike[str],
    image: str | PathLike[str],
    *,
    slice: int | None = None,
    weights: WeightsChoice | None = None,
    case: str | None = None,
) -> Look:
    """Prepare an image as a prediction does, and return the part of it that a picture shows.

    A 2D network that takes any size sees the whole image. Others see one window of the plan's patch size, around the
    mask in the axial ``slice``: slices are those of the image from the feet upwards, by default that with the largest
    part of the mask. ``weights`` are the "final" or the "best" ones, by default those that the recipe chooses; ``case``
    names one of several images. Raises :class:`~deconvseg.errors.InputError` for several images without it, for images
    that cannot be predicted, and for a plan whose network sees volumes on other than canonical axes.
    """
    if weights is not None:
        check_choice(weights, get_args(WeightsChoice), "weights")
    run = open_runs(model)[0]
    plan = run.plan
    if plan.spatial_dims == 3 and plan.axes != Axes():
        raise InputError(
            f"{run.path}: its network sees volumes with the axes {plan.axes.model_dump()} (`axes` of its plan), and "
            "axial slices are shown of canonical axes only"
        )
    network = run.network(run.choose_weights(weights))
    told = Prediction()
    cases, problems, load = choose_cases(Path(image), plan, [run], names=None if case is None else [case], told=told)
    if len(cases) != 1:
        found = f"{len(cases)} images" if cases or not problems else f"{problems[0].file} {problems[0].message}"
        raise InputError(f"{image}: {found}; give one (`case`, or its file)")
    scan = load(cases[0])
    predictor = Predictor([(network, plan)])
    prepared = predictor.prepare(scan, str(image))
    if plan.spatial_dims == 2 and slice is not None:
        raise InputError(f"`slice={slice}`: {image} is a 2D image, which has none")
    shown, mask = _shown(scan, prepared, plan), _mask(predictor, prepared, plan)
    level, name = _level(slice, mask, prepared, cases[0].name)
    box = _window(plan, network, mask, level)
    parts = (prepared.pixels[0], from_numpy(shown), from_numpy(mask)[None].float())
    pixels, picture, outline = (_take(part, box) for part in parts)
    inside = None if level is None else level - box[2].start
    return Look(run, network, pixels, picture.numpy(), outline[0].numpy() > 0, inside, name)


def _shown(scan: Image, prepared: PreparedImage, plan: Plan) -> NDArray[np.float32]:
    """Return the image (C, \\*S) on the network's grid with its own intensities, clipped as for the network."""
    plain = [Normalisation("ct", clip=one.clip, mean=0.0, std=1.0) for one in plan.normalisations]
    channels = len(plan.channels)
    pixels = np.repeat(scan.pixels, channels, axis=0) if scan.channels == 1 < channels else scan.pixels
    own = replace(plan.preprocessing, normalisations=tuple(plain))
    return own.image(Image(pixels, scan.geometry), prepared.crop).pixels


def _mask(predictor: Predictor, prepared: PreparedImage, plan: Plan) -> NDArray[np.uint8]:
    """Return the predicted foreground (\\*S) on the network's grid."""
    labels = plan.preprocessing.labels(predictor.segment(prepared), prepared.crop)
    foreground: NDArray[np.bool_] = labels.pixels != plan.labels.values[0]
    return foreground.astype(np.uint8)


def _level(slice: int | None, mask: NDArray[np.uint8], prepared: PreparedImage, name: str) -> tuple[int | None, str]:
    """Return the axial slice on the network's grid, None in 2D, and the title of the picture."""
    if mask.ndim == 2:
        return None, name
    seen, count = prepared.crop[2], mask.shape[2]
    if slice is None:
        from deconvseg.reporting.picking import busiest_slice

        level = busiest_slice(mask, mask)
        return level, f"{name}, slice {seen.start + int((level + 0.5) * len(seen) / count)}"
    if slice not in seen:
        raise InputError(f"`slice={slice}`: {prepared.where} has the slices {seen.start} to {seen.stop - 1}")
    return int((slice - seen.start + 0.5) * count / len(seen)), f"{name}, slice {slice}"


def _window(plan: Plan, network: Any, mask: NDArray[np.uint8], level: int | None) -> list[range]:
    """Return the part of the network's grid that it sees, around the mask; it may reach beyond the image."""
    whole = plan.spatial_dims == 2 and network.fixed_size is None
    wanted: Sequence[int] = mask.shape if whole else network.fixed_size or plan.patch_size
    multiple = network.size_multiple
    sizes = [math.ceil(size / step) * step for size, step in zip(wanted, multiple, strict=True)]
    where = mask if level is None else np.where(np.arange(mask.shape[2]) == level, mask, 0)
    inside = np.argwhere(where)
    middle = inside.mean(axis=0) if len(inside) else (np.array(mask.shape) - 1) / 2
    if level is not None:
        middle[2] = level
    starts = []
    for centre, size, have in zip(middle, sizes, mask.shape, strict=True):
        start = round(float(centre) - (size - 1) / 2)
        starts.append(-((size - have) // 2) if size >= have else min(max(start, 0), have - size))
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _take(pixels: Tensor, box: Sequence[range]) -> Tensor:
    """Return the part of pixels (C, \\*S) in a box, zero outside the image."""
    padding = []
    for axis, part in enumerate(box, start=1):
        have = pixels.shape[axis]
        first, last = max(part.start, 0), min(part.stop, have)
        pixels = pixels.narrow(axis, first, last - first)
        padding.append((first - part.start, part.stop - last))
    return pad(pixels, [length for pair in reversed(padding) for length in pair])
