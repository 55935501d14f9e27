"""A case as image, truth, prediction and errors, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import default_colour
from deconvseg.errors import InputError
from deconvseg.reporting.style import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    INK,
    MUTED,
    TRUE_POSITIVE,
    WRONG_CLASS,
    new_figure,
    plain,
    rgb,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Labels = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
_LONGEST_SIDE = 560
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class CaseViews:
    """Pictures (H, W, 3) of one slice by title (no image, no first one), and what their colours mean."""

    views: Mapping[str, Pixels]
    classes: Mapping[str, str]
    errors: Mapping[str, str]
    slice: int | None
    zoomed: bool


def case_panel(
    image: npt.NDArray[Any] | None,
    truth: Labels,
    prediction: Labels,
    *,
    spacing: Sequence[float],
    title: str = "",
    labels: Mapping[int, str] | None = None,
    slice: int | None = None,
) -> "Figure":
    """Return a figure of one case: image, truth, prediction and errors side by side, with a legend.

    The arguments are those of `case_views`. Save it with ``figure.savefig(path)``.
    """
    drawn = case_views(image, truth, prediction, spacing=spacing, labels=labels, slice=slice)
    height, width = next(iter(drawn.views.values())).shape[:2]
    count = len(drawn.views)
    figure = new_figure(3 * count, 3 * height / width + 0.9)
    for axes, (name, pixels) in zip(figure.subplots(1, count), drawn.views.items(), strict=True):
        axes.imshow(pixels)
        axes.set_title(name, fontsize=10, color=MUTED)
        axes.set_axis_off()
    from matplotlib.patches import Patch

    patches = [Patch(color=colour, label=plain(name)) for name, colour in {**drawn.classes, **drawn.errors}.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 8), frameon=False, fontsize=9)
    figure.suptitle(plain(title, 100), fontsize=11, fontweight="bold", color=INK)
    return figure


def case_views(
    image: npt.NDArray[Any] | None,
    truth: Labels,
    prediction: Labels,
    *,
    spacing: Sequence[float],
    labels: Mapping[int, str] | None = None,
    slice: int | None = None,
) -> CaseViews:
    """Draw the views of a case, true positives blue, false positives green, false negatives red.

    The colours are those of Deconver's Fig. 4 (arXiv 2504.00302); a voxel of the wrong class is magenta.
    ``image`` is (C, *S) or None (masks alone), ``truth`` and ``prediction`` integers (*S), ``spacing`` per
    axis. 3D arrays have their axes in canonical order (RAS) and show the axial ``slice``, by default the one
    with the most foreground, as radiologists do: the patient's right on the left. Three channels in 2D are
    colours; otherwise the first channel is shown, windowed from its 0.5th to its 99.5th percentile. Raises
    :class:`InputError` for other shapes.
    """
    _check_shapes(image, truth, prediction, spacing)
    values = sorted({int(value) for mask in (truth, prediction) for value in np.unique(mask)} - {0})
    names = labels if labels is not None else {value: f"label {value}" for value in values}
    order = list(dict.fromkeys([*names, *values]))
    base = window(image) if image is not None else np.full((*truth.shape, 1), 0.13, np.float32)
    if truth.ndim == 3:
        slice = busiest_slice(truth, prediction) if slice is None else slice
        base, truth, prediction = (axial(array, slice) for array in (base, truth, prediction))
        spacing = (spacing[1], spacing[0])
    base = np.broadcast_to(base, (*truth.shape, 3))
    # Without an image nothing would say where a box lies.
    foreground = (truth != 0) | (prediction != 0)
    box = _focus(foreground if image is not None else np.ones_like(foreground))
    zoomed = any(part.stop - part.start < n for part, n in zip(box, truth.shape, strict=True))
    colours = {value: default_colour(order.index(value)) for value in values}
    errors, error_colours = _classify_errors(truth[box], prediction[box])
    views = {
        "Truth": _draw(base[box], truth[box], colours, spacing),
        "Prediction": _draw(base[box], prediction[box], colours, spacing),
        "Errors": _draw(base[box], errors, error_colours, spacing, opacity=0.65),
    }
    if image is not None:
        whole = _draw(base, truth, {}, spacing)
        views = {"Image": _frame(whole, box, truth.shape) if zoomed else whole, **views}
    legend = {"true positive": TRUE_POSITIVE, "false positive": FALSE_POSITIVE, "false negative": FALSE_NEGATIVE}
    if len(names) > 1:
        legend["wrong class"] = WRONG_CLASS
    classes = {names.get(value, f"label {value}"): colour for value, colour in colours.items()}
    return CaseViews(views, classes, legend, slice, zoomed)


def busiest_slice(truth: Labels, prediction: Labels) -> int:
    """Return the axial slice that shows the largest shares of all classes together; the middle one if there are none.

    Each class counts by the share of its voxels, in truth or prediction, so that a small one is not left out.
    """
    shares = np.zeros(truth.shape[2])
    for value in np.union1d(np.unique(truth), np.unique(prediction)):
        if value != 0:
            counts = np.count_nonzero((truth == value) | (prediction == value), axis=(0, 1))
            shares += counts / counts.sum()
    return int(shares.argmax()) if shares.any() else truth.shape[2] // 2


def _check_shapes(image: npt.NDArray[Any] | None, truth: Labels, prediction: Labels, spacing: Sequence[float]) -> None:
    if truth.shape != prediction.shape or truth.ndim not in (2, 3) or len(spacing) != truth.ndim:
        raise InputError(
            f"a panel needs two masks of one 2D or 3D shape and a spacing per axis, but they are {truth.shape}, "
            f"{prediction.shape} and {tuple(spacing)}"
        )
    if image is not None and image.shape[1:] != truth.shape:
        raise InputError(f"the image (C, *S) is {image.shape}, but the masks are {truth.shape}")


def window(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Bring the channels that are shown to 0…1, as the last axis."""
    shown = image if image.ndim == 3 and len(image) == 3 else image[:1]
    low, high = np.percentile(shown, _PERCENTILES)
    if high <= low:
        low, high = float(shown.min()), max(float(shown.max()), float(shown.min()) + 1.0)
    scaled: npt.NDArray[np.float32] = np.clip((np.moveaxis(shown, 0, -1) - low) / (high - low), 0, 1).astype(np.float32)
    return scaled


def axial(array: npt.NDArray[Any], position: int) -> npt.NDArray[Any]:
    """Return an axial slice (y, x, ...) with the front at the top and the patient's right on the left."""
    return np.swapaxes(array[:, :, position], 0, 1)[::-1, ::-1]


def _focus(foreground: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return a box around a small foreground, shaped like the slice, or the whole slice."""
    whole = tuple(slice(0, n) for n in foreground.shape)
    spans = [np.flatnonzero(foreground.any(axis=1 - axis))[[0, -1]] for axis in (0, 1) if foreground.any()]
    if not spans:
        return whole
    lengths = [int(last - first) + 1 for first, last in spans]
    share = max(max(1.8 * length, 32) / n for length, n in zip(lengths, foreground.shape, strict=True))
    share = max(share, 0.25)
    if share > 0.6:
        return whole
    box = []
    for (first, last), n in zip(spans, foreground.shape, strict=True):
        size = round(share * n)
        start = min(max(int(first + last + 1 - size) // 2, 0), n - size)
        box.append(slice(start, start + size))
    return tuple(box)


def _classify_errors(truth: Labels, prediction: Labels) -> tuple[Labels, dict[int, str]]:
    errors = np.zeros(truth.shape, int)
    errors[(truth != 0) & (prediction == truth)] = 1
    errors[(truth == 0) & (prediction != 0)] = 2
    errors[(truth != 0) & (prediction == 0)] = 3
    errors[(truth != 0) & (prediction != 0) & (truth != prediction)] = 4
    return errors, {1: TRUE_POSITIVE, 2: FALSE_POSITIVE, 3: FALSE_NEGATIVE, 4: WRONG_CLASS}


def _draw(
    base: npt.NDArray[np.float32],
    ids: Labels,
    colours: Mapping[int, str],
    spacing: Sequence[float],
    opacity: float = 0.45,
) -> Pixels:
    """Paint ids over a slice (H, W, 3): translucent inside, solid along the edge; pixels become square."""
    from PIL import Image

    extent = [n * length for n, length in zip(ids.shape, spacing, strict=True)]
    height, width = (max(1, round(_LONGEST_SIDE * side / max(extent))) for side in extent)
    enlarged = height * width >= ids.size
    if enlarged:
        picture = Image.fromarray(np.round(base * 255).astype(np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        base = (np.asarray(picture) / 255).astype(np.float32)
        rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), ids.shape, strict=True))
        ids = ids[np.ix_(rows, columns)]
    painted = _paint(base, ids, colours, opacity)
    if enlarged:
        return painted
    reduced: Pixels = np.asarray(Image.fromarray(painted).resize((width, height), Image.Resampling.BOX))
    return reduced


def _paint(base: npt.NDArray[np.float32], ids: Labels, colours: Mapping[int, str], opacity: float) -> Pixels:
    from scipy.ndimage import binary_erosion

    painted = np.array(base)
    for value, colour in colours.items():
        inside = ids == value
        edge = inside & ~binary_erosion(inside, border_value=1)
        for where, strength in ((inside, opacity), (edge, 0.9)):
            painted[where] = (1 - strength) * base[where] + strength * rgb(colour)
    return np.round(painted * 255).astype(np.uint8)


def _frame(view: Pixels, box: tuple[slice, ...], shape: tuple[int, ...]) -> Pixels:
    """Mark on the whole slice where the other views look."""
    framed: Pixels = view.copy()
    (top, bottom), (left, right) = (
        (part.start * size // n, part.stop * size // n)
        for part, size, n in zip(box, view.shape[:2], shape, strict=True)
    )
    inside = framed[top + 2 : bottom - 2, left + 2 : right - 2].copy()
    framed[top:bottom, left:right] = 255
    framed[top + 2 : bottom - 2, left + 2 : right - 2] = inside
    return framed
