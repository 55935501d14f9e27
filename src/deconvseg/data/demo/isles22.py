"""A generated tree with the names of ISLES'22: DWI, ADC and FLAIR in BIDS folders, masks below ``derivatives``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from deconvseg.data.demo.heads import make_brain, render
from deconvseg.data.demo.scenes import blob, digitise, point_inside, positions, tilted_geometry, write_volume
from deconvseg.system import write_text

# Spacings of three scanners: the published scans differ in the same way.
_GRIDS = (
    ((40, 40, 32), (2.0, 2.0, 2.0)),
    ((44, 44, 20), (1.8, 1.8, 3.6)),
    ((52, 52, 16), (1.5, 1.5, 5.0)),
)
_FLAIR = ((72, 72, 12), (1.0, 1.0, 5.5))


def write_isles22(folder: Path, cases: int, seed: int) -> None:
    """Write the tree below ``folder/ISLES-2022``, where lesions are bright in DWI and dark in ADC."""
    root = folder / "ISLES-2022"
    write_text(root / "dataset_description.json", json.dumps({"Name": "ISLES'22", "BIDSVersion": "1.6.0"}) + "\n")
    for number in range(1, cases + 1):
        _write_case(root, number, np.random.default_rng([seed, number]))


def _write_case(root: Path, number: int, rng: np.random.Generator) -> None:
    shape, spacing = _GRIDS[number % len(_GRIDS)]
    grid = positions(shape, spacing)
    brain, white, ventricles = make_brain(rng, grid, spacing)
    lesion = np.zeros(shape, dtype=bool)
    for _ in range(rng.integers(1, 4)):
        centre = point_inside(rng, brain & ~ventricles, grid)
        lesion |= blob(rng, grid, centre, rng.uniform(4.0, 10.0, size=3), 0.15, spacing) & brain
    lesion &= ~ventricles
    # Bright in DWI like a lesion, but not dark in ADC: T2 shine-through.
    bright = blob(rng, grid, point_inside(rng, white, grid), rng.uniform(4.0, 8.0, size=3), 0.15, spacing) & brain
    bright &= ~lesion
    dwi = render(rng, [(brain, 0.42), (white, 0.36), (ventricles, 0.1), (bright, 0.7), (lesion, 0.75)], spacing)
    adc = render(rng, [(brain, 0.45), (white, 0.4), (ventricles, 0.95), (bright, 0.55), (lesion, 0.22)], spacing)
    geometry = tilted_geometry(rng, shape, spacing)
    subject, session = f"sub-strokecase{number:04d}", "ses-0001"
    stem, place = f"{subject}_{session}", root / subject / session
    for scan, suffix, gain in ((dwi, "dwi", 900.0), (adc, "adc", 1800.0)):
        stored = digitise(rng, scan, gain * rng.uniform(0.8, 1.2), 0.02).astype(np.int16)
        write_volume(stored, geometry, "LAS", place / "dwi" / f"{stem}_{suffix}.nii.gz")
    flair_shape, flair_spacing = _FLAIR
    flair_brain, flair_white, flair_ventricles = make_brain(rng, positions(flair_shape, flair_spacing), flair_spacing)
    parts = [(flair_brain, 0.5), (flair_white, 0.42), (flair_ventricles, 0.08)]
    flair = digitise(rng, render(rng, parts, flair_spacing), 700.0, 0.02).astype(np.int16)
    flair_geometry = tilted_geometry(rng, flair_shape, flair_spacing)
    write_volume(flair, flair_geometry, "LPS", place / "anat" / f"{stem}_FLAIR.nii.gz")
    masks = root / "derivatives" / subject / session
    write_volume(lesion.astype(np.uint8), geometry, "LAS", masks / f"{stem}_msk.nii.gz")
