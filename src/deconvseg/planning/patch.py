"""Geometry of a plan: target spacing, 2D or 3D, patch size, and strides and kernels of each stage."""

import math
from collections.abc import Sequence

import numpy as np

from deconvseg.errors import InputError
from deconvseg.models import DeviceKind, Grid
from deconvseg.planning.fingerprint import Fingerprint

# Above this ratio of spacings a volume counts as anisotropic (Isensee et al., Nature Methods 2021), if it also has
# fewer slices than a third of the rows and columns.
_ANISOTROPIC = 3.0
# Percentile of the spacing along the coarse axis: the median would lose slices of half the cases (same paper).
_FINE_PERCENTILE = 10
# Spacings within this factor count as equal: a kernel of 3 then has a similar extent along every axis.
_CLOSE = 2.0
# Smallest size of an axis after halving, so that kernels of the deepest stage still cover neighbours.
_SMALLEST_SIZE = 4
# Most voxels of a patch. A CPU gains more from many small steps than from few large ones (3D: measured on hippocampi;
# 2D: a quarter of a 512x512 image). A GPU needs the larger patches of the papers to be used fully.
PATCH_VOXELS: dict[tuple[DeviceKind, int], int] = {
    ("cpu", 2): 256**2,
    ("cpu", 3): 40 * 56 * 40,
    ("gpu", 2): 512**2,
    ("gpu", 3): 128**3,
}
# Most stages: as in the papers on a GPU, one fewer on a CPU, whose patches are about half as long.
_MOST_STAGES: dict[tuple[DeviceKind, int], int] = {("cpu", 2): 5, ("cpu", 3): 4, ("gpu", 2): 6, ("gpu", 3): 5}


def target_spacing(fingerprint: Fingerprint) -> tuple[tuple[float, ...], str]:
    """Return the spacing in mm to which every case is resampled, and the reason."""
    median = fingerprint.median_spacing
    axis, others = _coarsest(median)
    if len(median) == 3 and median[axis] > _ANISOTROPIC * max(others):
        shape = fingerprint.median_shape(median)
        if shape[axis] * _ANISOTROPIC < min(n for place, n in enumerate(shape) if place != axis):
            fine = float(np.percentile([spacing[axis] for spacing in fingerprint.spacings], _FINE_PERCENTILE))
            spacing = list(median)
            # Not finer than the spacing within slices.
            spacing[axis] = round(max(fine, max(others)), 6)
            return tuple(spacing), (
                f"median of the training cases; along the coarsest axis, more than {_ANISOTROPIC:g} times the others "
                f"and of few voxels, their {_FINE_PERCENTILE}th percentile, so that few cases lose slices"
            )
    return median, "median of the training cases"


def choose_slices(
    fingerprint: Fingerprint,
    spacing: Sequence[float],
    dims: int | None,
    kind: DeviceKind,
    asked_axis: int | None = None,
) -> tuple[int | None, str]:
    """Return the axis along which volumes are cut into slices, or None, and the reason.

    ``dims`` is 2 or 3 if the user sets it; ``asked_axis`` is the slice axis of a requested patch. Raises
    :class:`InputError` if the data do not allow it.
    """
    if dims not in (None, 2, 3):
        raise InputError(f"`dims={dims}`: choose 2 or 3, or leave it out")
    if fingerprint.spatial_dims == 2:
        if dims == 3:
            raise InputError("`dims=3`: the images are 2D; leave it out")
        return None, "the images are 2D"
    shape = fingerprint.median_shape(spacing)
    thin = [place for place in range(3) if shape[place] < _SMALLEST_SIZE]
    axis = max(thin or range(3), key=lambda place: (round(spacing[place], 3), -shape[place], place))
    if asked_axis is not None:
        return asked_axis, "2D slices, as the requested patch implies"
    if dims is not None:
        return (axis, "2D slices, as requested") if dims == 2 else (None, "3D, as requested")
    if thin:
        return axis, f"2D slices: {shape[axis]} of them in a volume (median) are no third dimension to look along"
    plane = max(n for place, n in enumerate(spacing) if place != axis)
    deepest = plane * 2 ** (_MOST_STAGES[kind, 3] - 1)
    if spacing[axis] > _CLOSE * deepest:
        return axis, (
            f"2D slices: they lie {spacing[axis]:g} mm apart, {spacing[axis] / plane:.0f} times the spacing in them, "
            "so even the deepest stage of a 3D network would look at single ones"
        )
    return None, "3D: at some depth of the network neighbouring slices are as near as voxels within one"


def plan_grid(
    shape: Sequence[int],
    spacing: Sequence[float],
    kind: DeviceKind,
    slices: int | None,
    shrink: float = 1.0,
    *,
    asked: Sequence[int] | None = None,
) -> tuple[Grid, str]:
    """Choose the patch for a median shape and spacing (mm); return the grid and the reason.

    ``shrink`` divides the largest number of voxels. If a patch size is ``asked``, it is used.
    """
    seen = len(shape) - (slices is not None)
    if asked is not None:
        whole = all(n >= size for axis, (n, size) in enumerate(zip(asked, shape, strict=True)) if axis != slices)
        strides, reaches = _stages(asked, spacing, _MOST_STAGES[kind, seen], slices)
        return Grid(kind, tuple(asked), whole, strides, reaches, slices, exact=True), "as requested"
    sizes = [1.0 if axis == slices else float(n) for axis, n in enumerate(shape)]
    limit = float(PATCH_VOXELS[kind, seen])
    if shrink > 1:
        limit = min(limit, math.prod(sizes)) / shrink
    whole = math.prod(sizes) <= limit * 1.001
    sizes = _cut(sizes, spacing, limit)
    strides, reaches = _stages(sizes, spacing, _MOST_STAGES[kind, seen], slices)
    one = "slice" if slices is not None else "volume" if len(shape) == 3 else "image"
    text = f"median shape {tuple(shape)} at the plan's spacing, at most {limit:.0f} voxels on this device: "
    text += f"the whole {one}" if whole else f"part of the {one}, its longest axes (in mm) cut to one length"
    return Grid(kind, tuple(sizes), whole, strides, reaches, slices), text


def _coarsest(spacing: Sequence[float]) -> tuple[int, list[float]]:
    axis = int(np.argmax(spacing))
    return axis, [value for place, value in enumerate(spacing) if place != axis]


def _cut(sizes: Sequence[float], spacing: Sequence[float], limit: float) -> list[float]:
    """Shorten the longest axes (in mm) to a common length until the patch has at most ``limit`` voxels."""
    lengths = [n * step for n, step in zip(sizes, spacing, strict=True)]
    budget = limit * math.prod(spacing)
    while math.prod(lengths) > budget * 1.001:
        longest = max(lengths)
        rest = [n for n in lengths if n < longest]
        count = len(lengths) - len(rest)
        wanted = max(max(rest, default=0.0), (budget / math.prod(rest)) ** (1 / count))
        lengths = [wanted if n == longest else n for n in lengths]
    # Every axis keeps at least one voxel.
    cut = (max(1.0, n / step) for n, step in zip(lengths, spacing, strict=True))
    return [min(n, wanted) for n, wanted in zip(sizes, cut, strict=True)]


def _stages(
    sizes: Sequence[float], spacing: Sequence[float], most: int, slices: int | None
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[bool, ...], ...]]:
    """Return strides, which halve the finest axes first, and reaches: kernels extend along axes of similar spacing."""
    left, current = list(sizes), list(spacing)
    reach = _close(current, slices)
    strides, reaches = [(1,) * len(sizes)], [tuple(reach)]
    while len(strides) < most:
        large = [axis for axis, n in enumerate(left) if n / 2 >= _SMALLEST_SIZE]
        if not large:
            break
        finest = min(current[axis] for axis in large)
        halved = [axis in large and current[axis] <= _CLOSE * finest for axis in range(len(sizes))]
        left = [n / 2 if halve else n for n, halve in zip(left, halved, strict=True)]
        current = [n * 2 if halve else n for n, halve in zip(current, halved, strict=True)]
        # Kernels that extend along an axis keep doing so in deeper stages.
        reach = [was or now for was, now in zip(reach, _close(current, slices), strict=True)]
        strides.append(tuple(2 if halve else 1 for halve in halved))
        reaches.append(tuple(reach))
    return tuple(strides), tuple(reaches)


def _close(spacing: Sequence[float], slices: int | None) -> list[bool]:
    """Return the axes along which kernels extend, because neighbours are close; never across slices."""
    near = _CLOSE * min(step for axis, step in enumerate(spacing) if axis != slices)
    return [axis != slices and step <= near for axis, step in enumerate(spacing)]
