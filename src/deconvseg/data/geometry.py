"""Positions of voxels in the world: affines, axis orders and the grids of resampled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from deconvseg.errors import InputError

Array = npt.NDArray[Any]

_FARTHEST = 1e12  # mm
_POSSIBLE_SPACING = (1e-7, 1e7)  # mm: a tenth of a nanometre, ten kilometres


@dataclass(frozen=True)
class AxisOrder:
    """A reordering of axes: output axis i is input axis ``permutation[i]``, reversed where ``flips[i]``."""

    permutation: tuple[int, ...]
    flips: tuple[bool, ...]

    def apply(self, array: Array) -> Array:
        """Reorder the last n axes of ``array`` (..., *S); the leading axes stay, the result is contiguous."""
        return np.ascontiguousarray(self.view(array))

    def view(self, array: Array) -> Array:
        """Reorder as a view: writing to the result changes ``array``."""
        leading = array.ndim - len(self.permutation)
        moved = array.transpose(*range(leading), *(leading + axis for axis in self.permutation))
        # Do not flip axes of one voxel: they are their own mirror image, and PyTorch rejects negative strides.
        return np.flip(moved, tuple(axis for axis in self._flipped_axes(leading) if moved.shape[axis] > 1))

    def undo(self, array: Array) -> Array:
        """Restore the last n axes of a reordered ``array``: the exact inverse of `apply`."""
        leading = array.ndim - len(self.permutation)
        flipped = np.flip(array, self._flipped_axes(leading))
        inverse = (leading + int(axis) for axis in np.argsort(self.permutation))
        return np.ascontiguousarray(flipped.transpose(*range(leading), *inverse))

    def apply_geometry(self, geometry: Geometry, shape: Sequence[int]) -> Geometry:
        """Return the geometry of the reordered grid with ``shape`` voxels; world positions do not change."""
        dims = len(self.permutation)
        to_input = np.zeros((dims + 1, dims + 1))
        to_input[-1, -1] = 1.0
        for axis, (source, flipped) in enumerate(zip(self.permutation, self.flips, strict=True)):
            to_input[source, axis] = -1.0 if flipped else 1.0
            to_input[source, -1] = shape[source] - 1.0 if flipped else 0.0
        return Geometry(geometry.affine @ to_input, geometry.placed)

    def _flipped_axes(self, leading: int) -> tuple[int, ...]:
        return tuple(leading + axis for axis, flipped in enumerate(self.flips) if flipped)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The map from voxel indices to world millimetres: an affine (n + 1, n + 1) in nibabel's convention.

    In 3D the world is RAS (x to the right, y to the front, z up). In 2D the axes are (row, column), and the affine is
    the identity unless the file gives another. ``placed`` is False if the file gives only the distances between
    voxels, but no orientation and origin. Raises `InputError` for a singular or non-finite affine, and for voxels of
    an impossible size.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Geometry
        >>> affine = np.array([[0, -1.0, 0, 5], [1.0, 0, 0, -3], [0, 0, 2.0, 9], [0, 0, 0, 1]])
        >>> geometry = Geometry(affine)
        >>> geometry.spacing, geometry.origin
        ((1.0, 1.0, 2.0), (5.0, -3.0, 9.0))

    """

    affine: npt.NDArray[np.float64]
    placed: bool = True

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.ndim != 2 or affine.shape[0] != affine.shape[1] or affine.shape[0] < 2:
            raise InputError(f"an affine is a square matrix, but this one has the shape {affine.shape}")
        if not np.isfinite(affine).all():
            raise InputError("the affine has NaN or infinite entries; repair the file's header")
        if np.abs(affine).max() > _FARTHEST:
            raise InputError(f"the affine has the entry {np.abs(affine).max():g}; repair the file's header")
        if np.linalg.matrix_rank(affine[:-1, :-1]) < affine.shape[0] - 1:
            raise InputError("the affine is singular (an axis has no extent); repair the file's header")
        spacing = np.linalg.norm(affine[:-1, :-1], axis=0)
        if not ((spacing >= _POSSIBLE_SPACING[0]) & (spacing <= _POSSIBLE_SPACING[1])).all():
            sizes = ", ".join(f"{length:g}" for length in spacing)
            raise InputError(f"the affine gives voxels of ({sizes}) mm; repair the file's header")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    @classmethod
    def identity(cls, spatial_dims: int) -> Geometry:
        """Return a geometry with unit spacing, no rotation and the origin at zero."""
        return cls(np.eye(spatial_dims + 1))

    @property
    def spatial_dims(self) -> int:
        """The number of spatial axes."""
        return len(self.affine) - 1

    @property
    def spacing(self) -> tuple[float, ...]:
        """The distance in millimetres between neighbouring voxels, per array axis."""
        return tuple(float(length) for length in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def direction(self) -> npt.NDArray[np.float64]:
        """The unit vectors of the array axes in the world, as columns (n, n)."""
        columns: npt.NDArray[np.float64] = self.affine[:-1, :-1] / np.asarray(self.spacing)
        return columns

    @property
    def origin(self) -> tuple[float, ...]:
        """The world position in millimetres of the first voxel's centre."""
        return tuple(float(value) for value in self.affine[:-1, -1])

    @property
    def tolerance(self) -> float:
        """The difference in millimetres that counts as rounding: 1 % of the smallest spacing, at most 1e-3 mm."""
        return min(1e-3, 0.01 * min(self.spacing))

    def matches(self, other: Geometry, tolerance: float | None = None) -> bool:
        """Return whether both affines have the same size and agree in every entry within ``tolerance`` (mm).

        The default is the smaller `tolerance` of both, plus the rounding of large entries in float32, the type in
        headers. If one of them is not placed, only the spacings are compared.
        """
        if self.affine.shape != other.affine.shape:
            return False
        if not (self.placed and other.placed):
            return self.agrees(self.spacing, other.spacing, other, tolerance)
        return self.agrees(self.affine, other.affine, other, tolerance)

    def agrees(self, ours: Any, theirs: Any, other: Geometry, tolerance: float | None = None) -> bool:
        """Return whether two arrays of lengths, ours and those of ``other``, agree in every entry as in `matches`."""
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if tolerance is None:
            rounding = 4 * np.finfo(np.float32).eps * np.maximum(np.abs(ours), np.abs(theirs))
            allowed = np.maximum(min(self.tolerance, other.tolerance), np.minimum(rounding, 1e-3))
        else:
            allowed = np.full(ours.shape, tolerance)
        return bool((np.abs(ours - theirs) <= allowed).all())

    def resampled(self, old_shape: Sequence[int], new_shape: Sequence[int]) -> Geometry:
        """Return the geometry after resampling from ``old_shape`` to ``new_shape`` within the same outer edges."""
        scale = np.asarray(old_shape, dtype=np.float64) / np.asarray(new_shape, dtype=np.float64)
        to_old = np.diag([*scale, 1.0])
        to_old[:-1, -1] = (scale - 1.0) / 2.0
        return Geometry(self.affine @ to_old, self.placed)

    def cropped(self, box: Sequence[range]) -> Geometry:
        """Return the geometry of a box of the grid, whose first voxel is the first of each range."""
        shift = np.eye(len(self.affine))
        shift[:-1, -1] = [part.start for part in box]
        return Geometry(self.affine @ shift, self.placed)

    def axis_order(self) -> AxisOrder:
        """Return the order that brings the array closest to canonical axes: RAS in 3D, unchanged otherwise."""
        dims = self.spatial_dims
        if dims != 3:
            return AxisOrder(tuple(range(dims)), (False,) * dims)
        orientation = nib.orientations.io_orientation(self.affine)
        permutation = tuple(int(axis) for axis in np.argsort(orientation[:, 0]))
        return AxisOrder(permutation, tuple(bool(orientation[axis, 1] < 0) for axis in permutation))
