"""A case as image, truth, prediction and errors, side by side."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import default_colour
from deconvseg.errors import InputError
from deconvseg.reporting.painting import Box, focus, frame, paint
from deconvseg.reporting.picking import PERCENTILES, PLANES, Plane, clearest_channel, wrongest_slice
from deconvseg.reporting.style import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    INK,
    MUTED,
    TRUE_POSITIVE,
    WRONG_CLASS,
    new_figure,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Labels = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
LONGEST_SIDE = 560


@dataclass(frozen=True)
class CaseViews:
    """Pictures (H, W, 3) of one slice by title (the first one only if there is an image), and their legend.

    ``slice`` and ``plane`` apply to volumes; ``channel`` is the channel shown, None for a colour image or without an
    image. ``width`` is the width of the pictures in the unit of the spacing; if they are ``zoomed``, it is that of the
    zoomed pictures, and ``whole_width`` is that of the first one.
    """

    views: Mapping[str, Pixels]
    classes: Mapping[str, str]
    errors: Mapping[str, str]
    slice: int | None
    zoomed: bool
    plane: Plane = "axial"
    channel: int | None = None
    width: float = 0.0
    whole_width: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A slice of an image, and how masks of it are cropped and drawn; all pictures of a scene show the same region."""

    base: npt.NDArray[np.float32]
    spacing: tuple[float, float]
    box: Box
    plane: Plane | None
    slice: int | None
    channel: int | None
    longest: int

    @classmethod
    def of(
        cls,
        image: npt.NDArray[Any] | None,
        masks: Sequence[Labels],
        spacing: Sequence[float],
        *,
        plane: Plane = "axial",
        slice: int,
        channel: int | None = None,
        longest: int = LONGEST_SIDE,
    ) -> "Scene":
        """Return the scene of an image (C, *S) and masks (*S) of it; ``slice`` is used for volumes only."""
        shape = masks[0].shape
        volume = len(shape) == 3
        base = window(image, channel) if image is not None else np.full((*shape, 1), 0.13, np.float32)
        lengths = (spacing[0], spacing[1])
        if volume:
            base, masks = cut(base, plane, slice), [cut(mask, plane, slice) for mask in masks]
            across, up = (length for axis, length in enumerate(spacing) if axis != PLANES[plane])
            lengths = (up, across)
        foreground = np.any([mask != 0 for mask in masks], axis=0)
        # Without an image, no picture would show where a box is.
        box = focus(foreground if image is not None else np.ones_like(foreground))
        base = np.broadcast_to(base, (*foreground.shape, 3))
        chosen = None if image is None or is_colour(image) else channel or 0
        return cls(base, lengths, box, plane if volume else None, slice if volume else None, chosen, longest)

    @property
    def zoomed(self) -> bool:
        """Whether pictures show only a part of the slice."""
        return any(part.stop - part.start < n for part, n in zip(self.box, self.base.shape[:2], strict=True))

    @property
    def width(self) -> float:
        """The width of the pictures in the unit of the spacing."""
        return float((self.box[1].stop - self.box[1].start) * self.spacing[1])

    @property
    def whole_width(self) -> float:
        """The width of the slice in the unit of the spacing."""
        return float(self.base.shape[1] * self.spacing[1])

    def without_zoom(self) -> "Scene":
        """Return the scene of the whole slice."""
        rows, columns = self.base.shape[:2]
        return replace(self, box=(slice(0, rows), slice(0, columns)))

    def cut(self, mask: Labels) -> Labels:
        """Return the part of a mask (*S) that the pictures show."""
        flat = mask if self.slice is None or self.plane is None else cut(mask, self.plane, self.slice)
        return flat[self.box]

    def draw(self, ids: Labels, colours: Mapping[int, str], opacity: float = 0.45) -> Pixels:
        """Return a picture painted with cropped ids."""
        return paint(self.base[self.box], ids, colours, self.spacing, longest=self.longest, opacity=opacity)

    def draw_image(self) -> Pixels:
        """Return the picture of the whole slice; if the others are zoomed, a frame marks what they show."""
        blank = np.zeros(self.base.shape[:2], np.uint8)
        whole = paint(self.base, blank, {}, self.spacing, longest=self.longest)
        return frame(whole, self.box, blank.shape) if self.zoomed else whole


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

    The arguments are those of `case_views`. Save the figure with ``figure.savefig(path)``.

    Example:
        >>> from deconvseg.data import read_image, read_mask
        >>> from deconvseg.reporting import case_panel
        >>> image, truth, mask = read_image("image.png"), read_mask("TRUTH/disc0.png"), read_mask("MASKS/disc0.png")
        >>> figure = case_panel(image.pixels, truth.pixels, mask.pixels, spacing=(1.0, 1.0), title="disc0")
        >>> figure.savefig("disc0.png")

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
    plane: Plane = "axial",
    channel: int | None = None,
    colours: Mapping[int, str] | None = None,
    longest: int = LONGEST_SIDE,
    titles: Collection[str] = ("Image", "Truth", "Prediction", "Errors"),
) -> CaseViews:
    """Draw the views of a case, true positives blue, false positives green, false negatives red.

    The hues are those of Deconver's Fig. 4 (arXiv 2504.00302), with a lighter green and a darker red, so that they
    differ without colour vision too; a voxel of the wrong class is pink.

    ``image`` is (C, *S) or None (masks only), ``truth`` and ``prediction`` are integers (*S), and ``spacing`` has one
    value per axis. 3D arrays have their axes in canonical order (RAS) and show a ``slice`` of the ``plane``, by default
    the slice with the most voxels that differ (`wrongest_slice`), in radiological convention: the patient's right on
    the left, the front or the head at the top. Three channels in 2D are colours; otherwise one ``channel`` is shown, by
    default the one with the highest contrast of the truth (`clearest_channel`), windowed from its 0.5th to its 99.5th
    percentile. ``colours`` maps label values to colours, and ``titles`` selects the views. Raises :class:`InputError`
    for other shapes.
    """
    _check_shapes(image, truth, prediction, spacing)
    values = sorted({int(value) for mask in (truth, prediction) for value in np.unique(mask)} - {0})
    names = labels if labels is not None else {value: f"label {value}" for value in values}
    order = list(dict.fromkeys([*names, *values]))
    if slice is None:
        slice = wrongest_slice(truth, prediction, plane) if truth.ndim == 3 else 0
    if channel is None and image is not None:
        channel = choose_channel(image, truth, prediction)
    scene = Scene.of(image, (truth, prediction), spacing, plane=plane, slice=slice, channel=channel, longest=longest)
    painted = {value: (colours or {}).get(value) or default_colour(order.index(value)) for value in values}
    true, found = scene.cut(truth), scene.cut(prediction)
    errors, error_colours = classify_errors(true, found)
    drawers: dict[str, Callable[[], Pixels]] = {
        **({"Image": scene.draw_image} if image is not None else {}),
        "Truth": lambda: scene.draw(true, painted),
        "Prediction": lambda: scene.draw(found, painted),
        "Errors": lambda: scene.draw(errors, error_colours, opacity=0.65),
    }
    views = {title: draw() for title, draw in drawers.items() if title in titles}
    return CaseViews(
        views,
        {names.get(value, f"label {value}"): colour for value, colour in painted.items()},
        error_legend(several=len(names) > 1),
        scene.slice,
        scene.zoomed,
        plane,
        scene.channel,
        scene.width,
        scene.whole_width,
    )


def choose_channel(image: npt.NDArray[Any], truth: Labels, prediction: Labels) -> int | None:
    """Return the channel to show, chosen by the truth or, if that is empty, the prediction; None for a colour image."""
    if is_colour(image):
        return None
    return clearest_channel(image, truth if truth.any() else prediction)


def error_legend(*, several: bool) -> dict[str, str]:
    """Return the colours of errors; with ``several`` classes there is one for a wrong class."""
    legend = {"true positive": TRUE_POSITIVE, "false positive": FALSE_POSITIVE, "false negative": FALSE_NEGATIVE}
    return legend | ({"wrong class": WRONG_CLASS} if several else {})


def _check_shapes(image: npt.NDArray[Any] | None, truth: Labels, prediction: Labels, spacing: Sequence[float]) -> None:
    if truth.shape != prediction.shape or truth.ndim not in (2, 3) or len(spacing) != truth.ndim:
        raise InputError(
            f"a panel needs two masks of one 2D or 3D shape and a spacing per axis, but they are {truth.shape}, "
            f"{prediction.shape} and {tuple(spacing)}"
        )
    if image is not None and image.shape[1:] != truth.shape:
        raise InputError(f"the image (C, *S) is {image.shape}, but the masks are {truth.shape}")


def is_colour(image: npt.NDArray[Any]) -> bool:
    """Whether an image (C, *S) is shown in colours: three channels in 2D."""
    return image.ndim == 3 and len(image) == 3


def window(image: npt.NDArray[Any], channel: int | None = None) -> npt.NDArray[np.float32]:
    """Scale the shown channels of an image (C, *S) to 0…1, last axis: all colours, or one channel (the first)."""
    first = channel or 0
    shown = image if is_colour(image) else image[first : first + 1]
    low, high = np.percentile(shown, PERCENTILES)
    if high <= low:
        low, high = float(shown.min()), max(float(shown.max()), float(shown.min()) + 1.0)
    scaled: npt.NDArray[np.float32] = np.clip((np.moveaxis(shown, 0, -1) - low) / (high - low), 0, 1).astype(np.float32)
    return scaled


def axial(array: npt.NDArray[Any], position: int) -> npt.NDArray[Any]:
    """Return an axial slice (y, x, ...) with the front at the top and the patient's right on the left."""
    return cut(array, "axial", position)


def cut(array: npt.NDArray[Any], plane: Plane, position: int) -> npt.NDArray[Any]:
    """Return a slice of an array (X, Y, Z, ...) as radiologists see it.

    The patient's right is on the left and the front (of an axial slice) or the head at the top; the front is on the
    left of a sagittal slice.
    """
    flat: npt.NDArray[Any] = np.swapaxes(np.take(array, position, axis=PLANES[plane]), 0, 1)
    return flat[::-1, ::-1]


def classify_errors(truth: Labels, prediction: Labels) -> tuple[Labels, dict[int, str]]:
    """Return the kind of error of each voxel, and the colours of the kinds."""
    errors = np.zeros(truth.shape, int)
    errors[(truth != 0) & (prediction == truth)] = 1
    errors[(truth == 0) & (prediction != 0)] = 2
    errors[(truth != 0) & (prediction == 0)] = 3
    errors[(truth != 0) & (prediction != 0) & (truth != prediction)] = 4
    return errors, {1: TRUE_POSITIVE, 2: FALSE_POSITIVE, 3: FALSE_NEGATIVE, 4: WRONG_CLASS}
