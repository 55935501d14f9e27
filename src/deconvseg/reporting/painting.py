"""Colours over a slice of a scan: pixels that are square in millimetres, translucent areas with solid edges."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.reporting.style import rgb

Labels = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
Box = tuple[slice, ...]


def paint(
    base: npt.NDArray[np.float32],
    ids: Labels,
    colours: Mapping[int, str],
    spacing: Sequence[float],
    *,
    longest: int,
    opacity: float = 0.45,
) -> Pixels:
    """Paint ids over a slice (H, W, 3) in 0…1: translucent inside, solid along the edge.

    The longest side of the picture has ``longest`` pixels. Pixels are square in the unit of ``spacing``.
    """
    from PIL import Image

    extent = [n * length for n, length in zip(ids.shape, spacing, strict=True)]
    height, width = (max(1, round(longest * side / max(extent))) for side in extent)
    enlarged = height * width >= ids.size
    if enlarged:
        picture = Image.fromarray(np.round(base * 255).astype(np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        base = (np.asarray(picture) / 255).astype(np.float32)
        rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), ids.shape, strict=True))
        ids = ids[np.ix_(rows, columns)]
    painted = _colour(base, ids, colours, opacity)
    if enlarged:
        return painted
    reduced: Pixels = np.asarray(Image.fromarray(painted).resize((width, height), Image.Resampling.BOX))
    return reduced


def _colour(base: npt.NDArray[np.float32], ids: Labels, colours: Mapping[int, str], opacity: float) -> Pixels:
    from scipy.ndimage import binary_erosion

    painted = np.array(base)
    for value, colour in colours.items():
        inside = ids == value
        edge = inside & ~binary_erosion(inside, border_value=1)
        for where, strength in ((inside, opacity), (edge, 0.9)):
            painted[where] = (1 - strength) * base[where] + strength * rgb(colour)
    return np.round(painted * 255).astype(np.uint8)


def focus(foreground: npt.NDArray[np.bool_]) -> Box:
    """Return a box around a small foreground, with the shape of the slice; otherwise the whole slice."""
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


def frame(view: Pixels, box: Box, shape: tuple[int, ...]) -> Pixels:
    """Mark the box that other pictures show on the picture of a whole slice of that ``shape``."""
    framed: Pixels = view.copy()
    (top, bottom), (left, right) = (
        (part.start * size // n, part.stop * size // n)
        for part, size, n in zip(box, view.shape[:2], shape, strict=True)
    )
    inside = framed[top + 2 : bottom - 2, left + 2 : right - 2].copy()
    framed[top:bottom, left:right] = 255
    framed[top + 2 : bottom - 2, left + 2 : right - 2] = inside
    return framed
