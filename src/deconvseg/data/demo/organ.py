"""The built-in synthetic dataset: an organ with lesions, blurred and noisy, in nnU-Net's raw layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deconvseg.data.demo.scenes import Field, blob, positions, smooth_noise, tilted_geometry, write_volume
from deconvseg.data.json_files import read_json_object
from deconvseg.errors import InputError
from deconvseg.system import write_text

_SHAPE = (48, 48, 32)
_SPACING = (1.0, 1.0, 1.5)
_ORIENTATIONS = ("RAS", "LPS", "LAS", "PIR", "ASL")
_ORGAN, _LESION = 1, 2
_NAME = "Demo"


def write_organ(folder: Path, cases: int, seed: int) -> None:
    """Write the dataset of an organ with lesions, with its ``dataset.json`` and ``splits.json``."""
    names = [f"demo_{number:03d}" for number in range(cases)]
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, number])
        image, labels = _make_case(rng)
        geometry = tilted_geometry(rng, image.shape, _SPACING)
        # Shifted by one after each five cases, so that the test cases (every fifth) also cover all orientations.
        orientation = _ORIENTATIONS[(number + number // len(_ORIENTATIONS)) % len(_ORIENTATIONS)]
        write_volume(image, geometry, orientation, folder / "imagesTr" / f"{name}_0000.nii.gz")
        write_volume(labels, geometry, orientation, folder / "labelsTr" / f"{name}.nii.gz")
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


def check_organ(folder: Path, cases: int) -> None:
    """Raise an `InputError` for a folder that holds anything other than this dataset with as many cases."""
    description = folder / "dataset.json"
    found = read_json_object(description) if description.is_file() else {}
    if (found.get("name"), found.get("numTraining")) != (_NAME, cases):
        what = f"the synthetic dataset of {found['numTraining']} cases" if found.get("name") == _NAME else "other files"
        raise InputError(f"{folder} holds {what}; give a new folder, or remove it")


def _make_case(rng: np.random.Generator) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Return one simulated scan and its true labels in RAS order."""
    from scipy import ndimage

    shape = tuple(int(size + rng.integers(-4, 5)) for size in _SHAPE)
    grid = positions(shape, _SPACING)
    centre = rng.uniform(-4, 4, size=3)
    organ = blob(rng, grid, centre, rng.uniform((11, 9, 10), (17, 14, 16)), 0.22, _SPACING)
    lesions = np.zeros(shape, dtype=bool)
    inside = np.argwhere(ndimage.binary_erosion(organ, iterations=2))
    for _ in range(rng.integers(1, 5)):
        x, y, z = inside[rng.integers(len(inside))]
        lesions |= blob(rng, grid, grid[:, x, y, z], rng.uniform(3.2, 6.0, size=3), 0.15, _SPACING)
    lesions &= organ
    tissue = 0.35 + 0.10 * smooth_noise(rng, shape, 5.0, _SPACING)
    tissue[organ] = 0.65 + 0.05 * smooth_noise(rng, shape, 3.0, _SPACING)[organ]
    tissue[lesions] -= rng.uniform(0.25, 0.4)
    for _ in range(rng.integers(2, 6)):
        place = rng.uniform(-0.45, 0.45, size=3) * np.multiply(shape, _SPACING)
        distractor = blob(rng, grid, place, rng.uniform(2.2, 6.0, size=3), 0.15, _SPACING) & ~organ
        tissue[distractor] = rng.uniform(0.1, 0.95)
    labels = (organ * _ORGAN + lesions * (_LESION - _ORGAN)).astype(np.uint8)
    return _scan(rng, tissue), labels


def _scan(rng: np.random.Generator, tissue: Field) -> npt.NDArray[np.int16]:
    """Blur by an anisotropic Gaussian point spread function, shade by a bias field, add noise, digitise."""
    from scipy import ndimage

    width = rng.uniform((0.8, 0.8, 1.0), (1.6, 1.6, 2.2))
    blurred = ndimage.gaussian_filter(tissue, sigma=width / _SPACING, mode="nearest")
    bias = np.exp(0.25 * smooth_noise(rng, tissue.shape, 15.0, _SPACING))
    noisy = blurred * bias + rng.normal(scale=rng.uniform(0.015, 0.04), size=tissue.shape)
    gain = rng.uniform(600, 1400)
    return np.clip(np.rint(gain * noisy), 0, 4095).astype(np.int16)
