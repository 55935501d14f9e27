"""A generated tree with the names of BTCV: abdominal CT with thirteen organs, and scans for testing without masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from deconvseg.data.demo.scenes import blob, positions, smooth_noise, tilted_geometry, write_volume
from deconvseg.data.geometry import Geometry
from deconvseg.data.layouts.btcv import NUMBERS, TEST
from deconvseg.errors import InputError

_FIRST_TEST = 61
_SHAPE = (64, 56, 32)

# Place and radii of each organ in fractions of the body's half-axes (right, front, up are negative, positive,
# positive), and its Hounsfield units in the portal venous phase. Small organs are larger than in a body, so that
# volumes of few voxels have them all.
_ORGANS: tuple[tuple[tuple[float, float, float], tuple[float, float, float], float], ...] = (
    ((-0.58, -0.2, 0.4), (0.17, 0.22, 0.3), 120.0),  # spleen
    ((0.42, -0.42, -0.3), (0.14, 0.16, 0.32), 180.0),  # right kidney
    ((-0.42, -0.42, -0.2), (0.14, 0.16, 0.32), 180.0),  # left kidney
    ((0.35, 0.38, 0.0), (0.1, 0.13, 0.2), 12.0),  # gallbladder
    ((-0.06, -0.18, 0.72), (0.07, 0.09, 0.24), 45.0),  # esophagus
    ((0.45, 0.1, 0.5), (0.36, 0.4, 0.36), 110.0),  # liver
    ((-0.3, 0.35, 0.42), (0.22, 0.22, 0.3), 35.0),  # stomach
    ((-0.08, -0.42, 0.0), (0.07, 0.09, 0.9), 170.0),  # aorta
    ((0.12, -0.36, 0.0), (0.07, 0.09, 0.8), 140.0),  # inferior vena cava
    ((0.08, 0.05, 0.15), (0.16, 0.08, 0.16), 160.0),  # portal vein and splenic vein
    ((-0.12, 0.14, -0.12), (0.26, 0.09, 0.16), 90.0),  # pancreas
    ((0.27, -0.36, 0.24), (0.07, 0.09, 0.16), 60.0),  # right adrenal gland
    ((-0.25, -0.36, 0.3), (0.07, 0.09, 0.16), 60.0),  # left adrenal gland
)


def write_btcv(folder: Path, cases: int, seed: int) -> None:
    """Write ``RawData`` with the training cases, of which there are at most 30, and a few cases for testing."""
    training, testing = folder / "RawData" / "Training", folder / "RawData" / "Testing"
    for number in _numbers(cases):
        scan, labels, geometry = _make_case(np.random.default_rng([seed, number]))
        write_volume(scan, geometry, "LAS", training / "img" / f"img{number:04d}.nii.gz")
        write_volume(labels, geometry, "LAS", training / "label" / f"label{number:04d}.nii.gz")
    for number in range(_FIRST_TEST, _FIRST_TEST + max(1, cases // 5)):
        scan, _, geometry = _make_case(np.random.default_rng([seed, number]))
        write_volume(scan, geometry, "LAS", testing / "img" / f"img{number:04d}.nii.gz")


def _numbers(cases: int) -> list[int]:
    """Return the numbers of the cases: two fifths are test cases of the paper, as 12 of 30 are."""
    if not 2 <= cases <= len(NUMBERS):
        raise InputError(f"cases={cases}: BTCV has {len(NUMBERS)} cases with masks; give 2 to {len(NUMBERS)}")
    tests = max(1, round(cases * len(TEST) / len(NUMBERS)))
    return sorted([*TEST[:tests], *[number for number in NUMBERS if number not in TEST][: cases - tests]])


def _make_case(rng: np.random.Generator) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], Geometry]:
    """Return a CT scan in Hounsfield units and its labels, in RAS order, with their geometry."""
    from scipy import ndimage

    in_plane = float(rng.uniform(0.6, 0.95))
    spacing = (in_plane, in_plane, float(rng.choice([2.5, 3.0, 5.0])))
    grid = positions(_SHAPE, spacing)
    reach = np.asarray([np.ptp(grid[axis]) / 2 for axis in range(3)])
    body = blob(rng, grid, (0, 0, 0), (0.93, 0.93, 4.0) * reach, 0.02, spacing, turned=False)
    spine = blob(rng, grid, (0, -0.68, 0) * reach, (0.14, 0.16, 4.0) * reach, 0.05, spacing, turned=False)
    density = np.where(body, -80.0, -1000.0)
    density[blob(rng, grid, (0, 0, 0), (0.84, 0.84, 4.0) * reach, 0.03, spacing, turned=False)] = 20.0
    density[spine] = 350.0
    labels = np.zeros(_SHAPE, dtype=np.uint8)
    for value, (place, radii, units) in enumerate(_ORGANS, start=1):
        # Organs move against each other by a twentieth of the body.
        centre = (place + rng.uniform(-0.03, 0.03, size=3)) * (-1, 1, 1) * reach
        organ = (
            blob(rng, grid, centre, radii * rng.uniform(0.9, 1.15, size=3) * reach, 0.08, spacing, turned=False) & body
        )
        density[organ] = units + rng.normal(scale=8.0)
        labels[organ] = value
    blurred = ndimage.gaussian_filter(density, sigma=0.5)
    blurred += np.where(body, 12.0 * smooth_noise(rng, _SHAPE, 1.2 * in_plane, spacing), 0.0)
    scan = np.rint(blurred + rng.normal(scale=10.0, size=_SHAPE))
    return np.clip(scan, -1024, 3071).astype(np.int16), labels, tilted_geometry(rng, _SHAPE, spacing)
