"""Parts of simulated scans: blobs, smooth noise, and volumes written in any axis orientation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.nifti import save_nifti
from deconvseg.data.geometry import Geometry
from deconvseg.system import atomic_write

Field = npt.NDArray[np.float64]


def blob(
    rng: np.random.Generator,
    grid: Field,
    centre: Sequence[float] | Field,
    radii: Field | Sequence[float],
    roughness: float,
    spacing: Sequence[float],
    *,
    turned: bool = True,
) -> npt.NDArray[np.bool_]:
    """Return an ellipsoid (or ellipse), randomly ``turned``, whose boundary undulates by ``roughness`` of its radius.

    ``grid`` (D, *S) has the positions of the voxel centres; ``centre`` and ``radii`` are in the same unit.
    """
    axes = len(grid)
    turn = np.linalg.qr(rng.normal(size=(axes, axes)))[0] if turned else np.eye(axes)
    offset = np.einsum("ij,j...->i...", turn, grid - np.reshape(centre, (axes, *[1] * axes)))
    distance = np.sqrt(np.sum((offset / np.reshape(radii, (axes, *[1] * axes))) ** 2, axis=0))
    undulation = smooth_noise(rng, grid.shape[1:], float(np.mean(radii)) / 2.5, spacing)
    return np.asarray(distance < 1.0 + roughness * undulation)


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], sigma: float, spacing: Sequence[float]) -> Field:
    """Return a smooth Gaussian random field with mean 0 and standard deviation 1; ``sigma`` is in units of spacing."""
    from scipy import ndimage

    field: Field = ndimage.gaussian_filter(rng.normal(size=tuple(shape)), sigma=sigma / np.asarray(spacing))
    field -= field.mean()
    field /= field.std()
    return field


def positions(shape: Sequence[int], spacing: Sequence[float]) -> Field:
    """Return the positions of the voxel centres (D, *S) in units of the spacing, zero in the middle."""
    axes = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def point_inside(rng: np.random.Generator, region: npt.NDArray[np.bool_], grid: Field, margin: int = 2) -> Field:
    """Return the position of a random voxel of a region, ``margin`` voxels from its boundary if there is one."""
    from scipy import ndimage

    inner = ndimage.binary_erosion(region, iterations=margin)
    inside = np.flatnonzero(inner if inner.any() else region)
    return np.asarray(grid.reshape(len(grid), -1)[:, inside[rng.integers(len(inside))]])


def digitise(rng: np.random.Generator, tissue: Field, gain: float, noise: float, most: int = 4095) -> Field:
    """Return a scan of the tissue as whole numbers from 0 to ``most``: with a gain, and with Gaussian noise."""
    return np.clip(np.rint(gain * (tissue + rng.normal(scale=noise, size=tissue.shape))), 0, most)


def tilted_geometry(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Geometry:
    """Return a geometry with this spacing, a tilt of a few degrees, and an origin near the middle of the volume."""
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-6, 6, size=3), degrees=True).as_matrix() * spacing
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(shape) / 2) + rng.uniform(-20, 20, size=3)
    return Geometry(affine)


def write_volume(pixels: npt.NDArray[Any], geometry: Geometry, orientation: str, path: Path) -> None:
    """Store a volume of RAS order in another axis orientation as NIfTI; world positions do not change."""
    import nibabel as nib

    turned = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    )
    stored = nib.orientations.apply_orientation(pixels, turned)
    to_ras = nib.orientations.inv_ornt_aff(turned, pixels.shape)
    with atomic_write(path) as temporary:
        save_nifti(np.ascontiguousarray(stored), Geometry(geometry.affine @ to_ras), temporary, like=None)
