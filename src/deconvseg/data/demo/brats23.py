"""A generated tree with the names of BraTS'23: four sequences and a mask in a folder for each scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deconvseg.data.demo.heads import make_brain, render
from deconvseg.data.demo.scenes import blob, digitise, point_inside, positions, write_volume
from deconvseg.data.geometry import Geometry

_SHAPE, _SPACING = (48, 56, 40), (1.0, 1.0, 1.0)
_TRAINING = "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
_VALIDATION = "ASNR-MICCAI-BraTS2023-GLI-Challenge-ValidationData"
_NCR, _ED, _ET = 1, 2, 3

# Brightness of brain, white matter, ventricles, and of the labels 1, 2 and 3 in each sequence.
_SEQUENCES = {
    "t1n": (0.45, 0.55, 0.18, 0.28, 0.38, 0.42),
    "t1c": (0.47, 0.56, 0.18, 0.28, 0.4, 0.9),
    "t2w": (0.45, 0.38, 0.95, 0.85, 0.75, 0.6),
    "t2f": (0.48, 0.4, 0.12, 0.55, 0.85, 0.7),
}


def write_brats23(folder: Path, cases: int, seed: int) -> None:
    """Write the folder of the training cases, every fifth a second time point, and that of a few validation cases."""
    names, subject = [], -1
    for number in range(cases):
        again = number % 5 == 4
        subject += 0 if again else 1
        names.append(f"BraTS-GLI-{subject:05d}-{int(again):03d}")
    for number, name in enumerate(names):
        _write_case(folder / _TRAINING / name, np.random.default_rng([seed, number]), labelled=True)
    for number in range(max(1, cases // 5)):
        place = folder / _VALIDATION / f"BraTS-GLI-{cases + number:05d}-000"
        _write_case(place, np.random.default_rng([seed, cases + number, 1]), labelled=False)


def _write_case(place: Path, rng: np.random.Generator, *, labelled: bool) -> None:
    grid = positions(_SHAPE, _SPACING)
    brain, white, ventricles = make_brain(rng, grid, _SPACING)
    centre = point_inside(rng, brain & ~ventricles, grid, margin=6)
    radii = rng.uniform(8.0, 12.0, size=3)
    whole, core, necrosis = (
        blob(rng, grid, centre, radii * share, roughness, _SPACING) & brain
        for share, roughness in ((1.0, 0.15), (0.65, 0.1), (0.4, 0.1))
    )
    core &= whole
    labels = np.zeros(_SHAPE, dtype=np.uint8)
    for part, value in ((whole, _ED), (core, _ET), (necrosis & core, _NCR)):
        labels[part] = value
    # All published scans have one atlas's grid, in millimetres.
    geometry = Geometry(np.diag([1.0, 1.0, 1.0, 1.0]))
    for sequence, values in _SEQUENCES.items():
        parts = zip((brain, white, ventricles, *(labels == value for value in (1, 2, 3))), values, strict=True)
        scan = render(rng, list(parts), _SPACING)
        stored = np.where(brain, digitise(rng, scan, rng.uniform(400, 1600), 0.02), 0).astype(np.int16)
        write_volume(stored, geometry, "LPS", place / f"{place.name}-{sequence}.nii.gz")
    if labelled:
        write_volume(labels, geometry, "LPS", place / f"{place.name}-seg.nii.gz")
