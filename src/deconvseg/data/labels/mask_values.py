"""Read masks for training and scoring; refuse labels changed by compression, smoothing or transparency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.headers import asking, compression_with_losses
from deconvseg.data.labels.encoding import count_values
from deconvseg.data.reading import read_label_map
from deconvseg.data.types import LabelMap
from deconvseg.errors import InputError

# With fewer grey levels than this between two ends, the levels are classes.
_FEWEST_LEVELS = 3
# A mask whose largest value is smaller contains label numbers.
_LEAST_WHITE = 8
# In a lossy mask, labels below this value cannot be distinguished from compression noise.
_LEAST_LOSSY_WHITE = 32
# Values within this fraction of the range from an end belong to that end.
_END = 0.1
# A grey pixel is on an edge if both ends occur within this distance (pixels). Grey levels with a smaller share of
# edge pixels are classes. Compression spreads an edge over its blocks, hence the longer distance. None of 800 random
# maps of instances and classes reaches the share.
_REACH, _LOSSY_REACH, _SHARE_ON_EDGES = 3, 5, 0.7
_SAMPLES = 500
# A value fills no area if a smaller share of its pixels has equal neighbours on all sides.
_LEAST_FILLED = 0.1
# Share of pixels that differ from all neighbours: 0.68 to 0.89 for grey levels between several classes (resized by any
# filter, or saved once as JPEG); at most 0.45 in 560 random maps of regions, ribbons, lines and dots.
_SHARE_BETWEEN_CLASSES = 0.55
# Most grey pixels per white pixel; even smoothed thin lines have fewer, noise has more.
_MOST_BETWEEN = 4
# If values scatter about both ends, at most this share of the foreground lies between them; instances spread more.
_MOST_NOISE = 0.3
_ADVICE = "or take what lies above half as one class (`foreground=True`)"


class BlurredMaskError(InputError):
    """A mask with grey levels from compression, smoothing or resizing, which are not classes."""


class TransparentMaskError(InputError):
    """A mask whose shape is in its alpha channel, which is not read."""


def read_mask(path: str | PathLike[str], *, foreground: bool = False) -> LabelMap:
    """Read a mask for training or scoring: the values of `read_label_map`, after a check that they are labels.

    With ``foreground``, a mask of two ends with grey levels between them (anti-aliased, resized, or lossily
    compressed) is thresholded at half of its largest value.

    Raises `BlurredMaskError` for such a mask without ``foreground``, and for a lossy mask of several classes;
    `TransparentMaskError` for a mask of one colour whose alpha channel varies.

    Example:
        >>> from deconvseg.data import count_values, read_mask
        >>> list(count_values(read_mask("truth.nii.gz").pixels))
        [0, 3, 7]

    """
    path = Path(path)
    found = read_label_map(path)
    pixels = found.pixels
    if not pixels.size or pixels.min() < 0:
        return found
    highest = int(pixels.max())
    if highest == int(pixels.min()):
        _check_alpha(path)
    counts = count_values(pixels) if highest >= 2 else {}
    levels = len(set(counts) - {0, highest})
    lossy = compression_with_losses(path) if levels else ""
    if not lossy and (levels < _FEWEST_LEVELS or highest < _LEAST_WHITE):
        return found
    two_ended = _is_noisy(counts, highest) or _is_two_ended(pixels, highest, bool(lossy))
    classes = () if lossy else _smoothed_classes(pixels, counts)
    if any(not two_ended or _END * highest < value < (1 - _END) * highest for value in classes):
        raise BlurredMaskError(_describe_classes(path, levels + 2 - len(classes), classes))
    if not lossy and not two_ended:
        return found
    if foreground and two_ended and not (lossy and highest < _LEAST_LOSSY_WHITE):
        return replace(found, pixels=np.where(pixels > highest // 2, pixels.dtype.type(highest), 0))
    raise BlurredMaskError(_describe(path, levels, highest, lossy, two_ended))


def _is_noisy(counts: Mapping[int, int], highest: int) -> bool:
    """Return whether nearly all values scatter about two ends, as in a mask that was once compressed lossily."""
    low = [value for value in counts if 0 < value <= _END * highest]
    high = [value for value in counts if (1 - _END) * highest <= value < highest]
    foreground = sum(count for value, count in counts.items() if value)
    between = foreground - sum(counts[value] for value in (*low, *high, highest))
    return min(len(low), len(high)) >= _FEWEST_LEVELS and between <= _MOST_NOISE * foreground


def _is_two_ended(pixels: npt.NDArray[Any], highest: int, lossy: bool) -> bool:
    """Return whether the values between the ends are on edges, with both ends a few pixels away."""
    low, high = _END * highest, (1 - _END) * highest
    between = np.flatnonzero((pixels > low) & (pixels < high))
    if not between.size:
        return lossy
    if between.size > _MOST_BETWEEN * np.count_nonzero(pixels >= high):
        return False
    if between.size > _SAMPLES:
        between = np.random.default_rng(0).choice(between, _SAMPLES, replace=False)
    values = _windows(pixels, between, _LOSSY_REACH if lossy else _REACH)
    on_edge = (values <= low).any(axis=1) & (values >= high).any(axis=1)
    return bool(on_edge.mean() >= _SHARE_ON_EDGES)


def _smoothed_classes(pixels: npt.NDArray[Any], counts: Mapping[int, int]) -> tuple[int, ...]:
    """Return the values of the classes in a smoothed map of several classes; empty for a proper label map.

    Grey levels from smoothing fill no area: their pixels lie between smaller and larger values and mostly differ from
    all neighbours, unlike those of thin structures and small instances.
    """
    values = np.asarray(list(counts))
    alike = _equal_neighbours(pixels)
    inside = np.bincount(np.searchsorted(values, pixels[alike == 2 * pixels.ndim]), minlength=len(values))
    filled = inside >= _LEAST_FILLED * np.asarray(list(counts.values()))
    classes = tuple(int(value) for value in values[filled])
    if len(values) - len(classes) < max(_FEWEST_LEVELS, len(classes)):
        return ()
    between = np.flatnonzero(~np.isin(pixels, classes))
    if between.size > _SAMPLES:
        between = np.random.default_rng(0).choice(between, _SAMPLES, replace=False)
    near, own = _windows(pixels, between, _REACH), pixels.ravel()[between]
    on_edge = (near.min(axis=1) < own) & (own < near.max(axis=1)) & (alike.ravel()[between] <= 1)
    return classes if on_edge.mean() >= _SHARE_BETWEEN_CLASSES else ()


def _equal_neighbours(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Count the neighbours of each pixel along the axes with the same value; outside the borders counts as equal."""
    alike = np.zeros(pixels.shape, np.uint8)
    for axis in range(pixels.ndim):
        moved, counted = np.moveaxis(pixels, axis, 0), np.moveaxis(alike, axis, 0)
        equal = moved[1:] == moved[:-1]
        counted[1:] += equal
        counted[:-1] += equal
        counted[0] += 1
        counted[-1] += 1
    return alike


def _windows(pixels: npt.NDArray[Any], places: npt.NDArray[np.intp], reach: int) -> npt.NDArray[Any]:
    """Return the values around pixels given by flat index, as (pixels, values)."""
    centres = np.stack(np.unravel_index(places, pixels.shape), axis=1)
    steps = np.arange(-reach, reach + 1)
    window = np.stack(np.meshgrid(*(steps for _ in pixels.shape), indexing="ij"), axis=-1).reshape(-1, pixels.ndim)
    near = np.clip(centres[:, None] + window[None], 0, np.asarray(pixels.shape) - 1)
    values: npt.NDArray[Any] = pixels[tuple(np.moveaxis(near, -1, 0))]
    return values


def _describe_classes(path: Path, levels: int, classes: Sequence[int]) -> str:
    listed = ", ".join(map(str, classes[:6])) + (", …" if len(classes) > 6 else "")
    return (
        f"{path} has {levels} grey levels along the edges of its labels ({listed}), as an anti-aliased or resized mask "
        "has; save it with one value per class, and resize masks by nearest neighbours"
    )


def _describe(path: Path, levels: int, highest: int, lossy: str, two_ended: bool) -> str:
    if not lossy:
        return (
            f"{path} has {levels} grey levels between 0 and {highest}, all along edges, as an anti-aliased or resized "
            f"mask has; save it with one value per class, {_ADVICE}"
        )
    if two_ended and highest >= _LEAST_LOSSY_WHITE:
        return (
            f"{path} is a {lossy} whose compression has spread the labels 0 and {highest} over {levels + 2} values; "
            f"save the mask as PNG, {_ADVICE}"
        )
    return (
        f"{path} is a {lossy} with {levels + 2} values up to {highest}: compression has changed the labels; "
        "save the mask as PNG from its source"
    )


def _check_alpha(path: Path) -> None:
    """Raise `TransparentMaskError` for a mask of one colour whose transparency varies."""
    with asking(path) as reader:
        alpha = reader.read_alpha(path)
    if alpha is not None and alpha.min() != alpha.max():
        raise TransparentMaskError(
            f"{path} is a mask of one colour whose shape is in its alpha channel, which is not read; save the alpha "
            "channel as a grey mask"
        )
