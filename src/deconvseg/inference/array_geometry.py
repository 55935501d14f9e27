"""The geometry of an array in memory: from its affine, from its spacing, or that of the training files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from deconvseg.data import Geometry
from deconvseg.errors import InputError
from deconvseg.planning import Plan

_log = logging.getLogger("deconvseg")

# Fraction of a voxel's side by which a spacing may differ from that of the affine.
_TOLERANCE = 1e-3
_WORLD_AXES = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}


def geometry_of(plan: Plan, spacing: Sequence[float] | None, affine: Any) -> Geometry:
    """Return the geometry of an array with this affine or spacing; without both, the log states the assumption."""
    dims = plan.spatial_dims
    steps = None if spacing is None else _spacing(spacing, dims)
    if affine is None:
        return _assumed_geometry(plan, steps)
    if isinstance(affine, torch.Tensor):
        affine = affine.detach().cpu().numpy()
    matrix = np.asarray(affine)
    if matrix.shape != (dims + 1, dims + 1) or matrix.dtype.kind not in "iuf":
        raise InputError(
            f"affine: has the shape {matrix.shape}; give real numbers ({dims + 1}, {dims + 1}), from voxels to "
            f"millimetres{' in RAS, as nibabel does' if dims == 3 else ' along rows and columns'}"
        )
    geometry = checked_geometry(matrix.astype(np.float64))
    if steps is not None and not np.allclose(steps, geometry.spacing, rtol=_TOLERANCE, atol=0):
        found = ", ".join(f"{step:.6g}" for step in geometry.spacing)
        raise InputError(f"spacing {tuple(map(float, steps))}: the affine has another one ({found}); omit one of them")
    return geometry


def checked_geometry(affine: NDArray[np.float64]) -> Geometry:
    """Return the geometry of an affine, whose last row must be (0, …, 0, 1)."""
    if not np.array_equal(affine[-1], [0.0] * (len(affine) - 1) + [1.0]):
        raise InputError(f"affine: its last row is {affine[-1].tolist()}, but it must be zeros and a one; transpose?")
    return Geometry(affine)


def own_affine(tensor: torch.Tensor, dims: int) -> NDArray[np.float64] | None:
    """Return the affine of a MONAI MetaTensor in RAS, None for another tensor."""
    found = getattr(tensor, "affine", None)
    if found is None:
        return None
    affine = np.asarray(torch.as_tensor(found).detach().cpu(), np.float64)
    space = str(getattr(tensor, "meta", {}).get("space", "RAS"))
    if affine.shape == (4, 4) and dims == 3:
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine if space.rpartition(".")[2].upper() == "LPS" else affine
    if affine.shape == (4, 4) and dims == 2:
        if affine[:2, 2].any() or affine[2, :2].any():
            raise InputError(
                "images: the affine of this tensor turns its slice in space, but the run needs 2D images; give its "
                "array with spacing"
            )
        # A picture has no left and right of a patient: only the size of its pixels is used.
        return np.diag([*np.linalg.norm(affine[:2, :2], axis=0), 1.0])
    return affine


def _spacing(spacing: Sequence[float], dims: int) -> NDArray[np.float64]:
    try:
        steps = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        steps = np.zeros(0)
    if steps.shape != (dims,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise InputError(f"spacing {spacing}: give {dims} positive numbers, in mm")
    return steps


def _assumed_geometry(plan: Plan, steps: NDArray[np.float64] | None) -> Geometry:
    """Return the geometry of an array without affine; a log message states the assumption if it affects the result."""
    dims = plan.spatial_dims
    if steps is None and plan.resize is None and any(abs(side - 1) > _TOLERANCE for side in plan.spacing):
        _log.warning(
            "the array comes without spacing and affine: its voxels are assumed to be 1 mm wide, but the run works at "
            "%s mm; give spacing or affine if this is wrong",
            " x ".join(f"{side:g}" for side in plan.spacing),
        )
    steps = np.ones(dims) if steps is None else steps
    if dims != 3:
        return Geometry(np.diag([*steps, 1.0]))
    axes, trained = _training_axes(plan)
    matrix = np.eye(4)
    for axis, (world, direction) in enumerate(nib.orientations.axcodes2ornt(tuple(axes))):
        matrix[:3, axis] = 0
        matrix[int(world), axis] = direction * steps[axis]
    if _tells_directions(plan):
        _log.warning(
            "the array comes without an affine: its axes are assumed to be %s (%s); masks are wrong if they are "
            "not; give affine=, or an image of nibabel",
            axes,
            "as those of all training files" if trained else "x to the right, y to the front, z up",
        )
    return Geometry(matrix)


def _training_axes(plan: Plan) -> tuple[str, bool]:
    """Return the common orientation of the training files and True, or RAS and False if they have several."""
    known = [] if plan.data is None else list(plan.data.orientations)
    usable = len(known) == 1 and sorted(_WORLD_AXES.get(code, -1) for code in known[0]) == [0, 1, 2]
    return (known[0], True) if usable else ("RAS", False)


def _tells_directions(plan: Plan) -> bool:
    """Whether the run distinguishes the axes of a volume, or their two directions."""
    mirrored = set(plan.recipe.augmentation.mirrored(3)) == {0, 1, 2}
    alike = len(set(plan.spacing)) == 1 and len(set(plan.patch_size)) == 1
    one_way = plan.data is not None and len(plan.data.orientations) == 1
    return not (mirrored and alike) or one_way
