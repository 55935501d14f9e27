"""A generated tree with the names of ISIC 2018, task 1: photographs of skin with a lesion and hairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from deconvseg.data.demo.scenes import smooth_noise

_SIZES = ((96, 128), (120, 96), (128, 160))
# Of ten cases seven are training, one validation and two test cases.
_PARTS = ("Training",) * 7 + ("Validation", "Test", "Test")


def write_isic(folder: Path, cases: int, seed: int) -> None:
    """Write the inputs and ground truths of the three parts of the challenge."""
    from PIL import Image

    for number in range(cases):
        part, name = _PARTS[number % len(_PARTS)], f"ISIC_{number:07d}"
        picture, lesion = _make_case(np.random.default_rng([seed, number]), _SIZES[number % len(_SIZES)])
        images = folder / f"ISIC2018_Task1-2_{part}_Input"
        masks = folder / f"ISIC2018_Task1_{part}_GroundTruth"
        for place in (images, masks):
            place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(images / f"{name}.jpg", quality=95)
        Image.fromarray(np.where(lesion, 255, 0).astype(np.uint8)).save(masks / f"{name}_segmentation.png")


def _make_case(rng: np.random.Generator, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return a picture (H, W, 3) and its lesion (H, W)."""
    rows, columns = np.indices(size)
    centre = [length * rng.uniform(0.35, 0.65) for length in size]
    radii = [min(size) * rng.uniform(0.16, 0.32) for _ in size]
    away = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    lesion = away + 0.25 * smooth_noise(rng, size, 8.0, (1.0, 1.0)) < 1
    skin = np.array([0.82, 0.62, 0.52]) * rng.uniform(0.85, 1.1)
    dark = np.array([0.45, 0.27, 0.2]) * rng.uniform(0.8, 1.2)
    shade = 1 + 0.08 * smooth_noise(rng, size, 20.0, (1.0, 1.0)) + 0.03 * smooth_noise(rng, size, 2.0, (1.0, 1.0))
    inside = np.clip((1.15 - away) / 0.3, 0, 1) * lesion
    picture = (skin + inside[..., None] * (dark - skin)) * shade[..., None]
    for _ in range(rng.integers(0, 5)):
        # A hair crosses the picture.
        slope, start = rng.uniform(-0.6, 0.6), rng.uniform(0, size[0])
        picture[np.abs(rows - start - slope * columns - 3 * np.sin(columns / 15)) < 0.8] *= 0.45
    return (255 * np.clip(picture, 0, 1)).astype(np.uint8), lesion
