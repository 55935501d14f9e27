"""A synthetic demo dataset without download: an organ with lesions, blurred and noisy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.nifti import save_nifti
from deconvseg.data.geometry import Geometry
from deconvseg.data.json_files import read_json_object
from deconvseg.errors import InputError
from deconvseg.system import atomic_write, write_text

Volume = npt.NDArray[np.float64]

_SHAPE = (48, 48, 32)
_SPACING = (1.0, 1.0, 1.5)
_ORIENTATIONS = ("RAS", "LPS", "LAS", "PIR", "ASL")
_ORGAN, _LESION = 1, 2
_NAME = "Demo"


def make_demo_dataset(folder: str | PathLike[str], *, cases: int = 30, seed: int = 0) -> Path:
    """Write the synthetic dataset to ``folder`` in nnU-Net's raw layout with a ``splits.json``; return the folder.

    The volumes have about 48×48×32 voxels of 1×1×1.5 mm, in varying sizes, positions and axis orientations. Label 1 is
    a bright organ and label 2 the dark lesions in it; blobs outside the organ resemble either but are background. Each
    case depends only on ``seed`` and its number. A fifth of the cases is the test set. Raises `InputError` if the
    folder holds anything other than this dataset with as many cases.

    Example:
        >>> from deconvseg.data import make_demo_dataset, open_dataset
        >>> folder = make_demo_dataset("demo", cases=5)
        >>> sorted(path.name for path in folder.iterdir())
        ['dataset.json', 'imagesTr', 'labelsTr', 'splits.json']

    """
    folder = Path(folder)
    _check_free(folder, cases)
    names = [f"demo_{number:03d}" for number in range(cases)]
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, number])
        image, labels = _make_case(rng)
        geometry = _random_geometry(rng, image.shape)
        # Shifted by one after each five cases, so that the test cases (every fifth) also cover all orientations.
        orientation = _ORIENTATIONS[(number + number // len(_ORIENTATIONS)) % len(_ORIENTATIONS)]
        _write_volume(image, geometry, orientation, folder / "imagesTr" / f"{name}_0000.nii.gz")
        _write_volume(labels, geometry, orientation, folder / "labelsTr" / f"{name}.nii.gz")
    description = {
        "name": _NAME,
        "description": "Synthetic organ with lesions, blurred by a random point spread function",
        "channel_names": {"0": "synthetic"},
        "labels": {"background": 0, "organ": _ORGAN, "lesion": _LESION},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    test = names[4::5]
    splits = {"train": [name for name in names if name not in test], "test": test}
    for file_name, record in (("dataset.json", description), ("splits.json", splits)):
        write_text(folder / file_name, json.dumps(record, indent=1) + "\n")
    return folder


def _check_free(folder: Path, cases: int) -> None:
    """Raise an `InputError` for a folder with other files, which the dataset would be mixed with."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    description = folder / "dataset.json"
    found = read_json_object(description) if description.is_file() else {}
    if (found.get("name"), found.get("numTraining")) != (_NAME, cases):
        what = f"the synthetic dataset of {found['numTraining']} cases" if found.get("name") == _NAME else "other files"
        raise InputError(f"{folder} holds {what}; give a new folder, or remove it")


def _make_case(rng: np.random.Generator) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Return one simulated scan and its true labels in RAS order."""
    from scipy import ndimage

    shape = tuple(int(size + rng.integers(-4, 5)) for size in _SHAPE)
    grid = _millimetres(shape)
    centre = rng.uniform(-4, 4, size=3)
    organ = _blob(rng, grid, centre, radii=rng.uniform((11, 9, 10), (17, 14, 16)), roughness=0.22)
    lesions = np.zeros(shape, dtype=bool)
    inside = np.argwhere(ndimage.binary_erosion(organ, iterations=2))
    for _ in range(rng.integers(1, 5)):
        x, y, z = inside[rng.integers(len(inside))]
        lesions |= _blob(rng, grid, grid[:, x, y, z], radii=rng.uniform(3.2, 6.0, size=3), roughness=0.15)
    lesions &= organ
    tissue = 0.35 + 0.10 * _smooth_noise(rng, shape, sigma_mm=5.0)
    tissue[organ] = 0.65 + 0.05 * _smooth_noise(rng, shape, sigma_mm=3.0)[organ]
    tissue[lesions] -= rng.uniform(0.25, 0.4)
    for _ in range(rng.integers(2, 6)):
        place = rng.uniform(-0.45, 0.45, size=3) * np.multiply(shape, _SPACING)
        distractor = _blob(rng, grid, place, radii=rng.uniform(2.2, 6.0, size=3), roughness=0.15) & ~organ
        tissue[distractor] = rng.uniform(0.1, 0.95)
    labels = (organ * _ORGAN + lesions * (_LESION - _ORGAN)).astype(np.uint8)
    return _scan(rng, tissue), labels


def _scan(rng: np.random.Generator, tissue: Volume) -> npt.NDArray[np.int16]:
    """Blur by an anisotropic Gaussian point spread function, shade by a bias field, add noise, digitise."""
    from scipy import ndimage

    width = rng.uniform((0.8, 0.8, 1.0), (1.6, 1.6, 2.2))
    blurred = ndimage.gaussian_filter(tissue, sigma=width / _SPACING, mode="nearest")
    bias = np.exp(0.25 * _smooth_noise(rng, tissue.shape, sigma_mm=15.0))
    noisy = blurred * bias + rng.normal(scale=rng.uniform(0.015, 0.04), size=tissue.shape)
    gain = rng.uniform(600, 1400)
    return np.clip(np.rint(gain * noisy), 0, 4095).astype(np.int16)


def _blob(
    rng: np.random.Generator, grid: Volume, centre: Sequence[float] | Volume, radii: Volume, roughness: float
) -> npt.NDArray[np.bool_]:
    """A randomly turned ellipsoid whose boundary undulates by ``roughness`` of its radius."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    offset = np.einsum("ij,jxyz->ixyz", turn, grid - np.reshape(centre, (3, 1, 1, 1)))
    distance = np.sqrt(np.sum((offset / np.reshape(radii, (3, 1, 1, 1))) ** 2, axis=0))
    undulation = _smooth_noise(rng, grid.shape[1:], sigma_mm=float(np.mean(radii)) / 2.5)
    return np.asarray(distance < 1.0 + roughness * undulation)


def _smooth_noise(rng: np.random.Generator, shape: Sequence[int], sigma_mm: float) -> Volume:
    """A smooth Gaussian random field with mean 0 and standard deviation 1."""
    from scipy import ndimage

    field: Volume = ndimage.gaussian_filter(rng.normal(size=tuple(shape)), sigma=sigma_mm / np.asarray(_SPACING))
    field -= field.mean()
    field /= field.std()
    return field


def _millimetres(shape: Sequence[int]) -> Volume:
    """The positions of the voxel centres (3, X, Y, Z) in millimetres, zero in the middle."""
    axes = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(shape, _SPACING, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _random_geometry(rng: np.random.Generator, shape: Sequence[int]) -> Geometry:
    """The spacing of the set, a tilt of a few degrees, and an origin near the middle of the volume."""
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-6, 6, size=3), degrees=True).as_matrix() * _SPACING
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(shape) / 2) + rng.uniform(-20, 20, size=3)
    return Geometry(affine)


def _write_volume(pixels: npt.NDArray[Any], geometry: Geometry, orientation: str, path: Path) -> None:
    """Store a RAS volume in another axis orientation; world positions do not change."""
    import nibabel as nib

    turned = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    )
    stored = nib.orientations.apply_orientation(pixels, turned)
    to_ras = nib.orientations.inv_ornt_aff(turned, pixels.shape)
    with atomic_write(path) as temporary:
        save_nifti(np.ascontiguousarray(stored), Geometry(geometry.affine @ to_ras), temporary, like=None)
