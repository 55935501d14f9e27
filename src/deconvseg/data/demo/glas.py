"""A generated tree with the names of GlaS: stained sections of the colon, with a number for each gland."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deconvseg.data.demo.scenes import blob, positions, smooth_noise
from deconvseg.system import write_text

_FOLDER = "Warwick QU Dataset (Released 2016_07_08)"
_SIZES = ((104, 154), (86, 114))
# 85, 60 and 20 of 165 images: five, four and one of ten.
_PARTS = ("train", "testA", "testB", "train", "testA", "train", "testA", "train", "testA", "train")
_PATIENTS = 4
_STROMA, _NUCLEI, _LUMEN = (0.86, 0.62, 0.78), (0.45, 0.28, 0.58), (0.94, 0.91, 0.94)


def write_glas(folder: Path, cases: int, seed: int) -> None:
    """Write the images, instance maps and grades of the three parts."""
    from PIL import Image

    place = folder / _FOLDER
    place.mkdir(parents=True, exist_ok=True)
    numbers: Counter[str] = Counter()
    rows = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for number in range(cases):
        part = _PARTS[number % len(_PARTS)]
        numbers[part] += 1
        name = f"{part}_{numbers[part]}"
        picture, glands = _make_case(np.random.default_rng([seed, number]), _SIZES[number % len(_SIZES)])
        Image.fromarray(picture).save(place / f"{name}.bmp")
        Image.fromarray(glands).save(place / f"{name}_anno.bmp")
        rows.append(f"{name},{1 + number % _PATIENTS}, benign, healthy")
    write_text(place / "Grade.csv", "\n".join(rows) + "\n")


def _make_case(rng: np.random.Generator, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return a picture (H, W, 3) and the number of the gland of each pixel (H, W)."""
    from scipy import ndimage

    grid = positions(size, (1.0, 1.0))
    glands = np.zeros(size, dtype=np.uint8)
    picture = np.broadcast_to(_STROMA, (*size, 3)).copy()
    reach = np.asarray(size) / 2
    for number in range(1, int(rng.integers(3, 8)) + 1):
        gland = blob(rng, grid, rng.uniform(-1, 1, size=2) * reach, rng.uniform(9, 18, size=2), 0.12, (1.0, 1.0))
        # Glands do not touch: each has its own wall.
        if ndimage.binary_dilation(gland, iterations=2)[glands > 0].any() or gland.sum() < 60:
            continue
        glands[gland] = number
        picture[gland] = _NUCLEI
        picture[ndimage.binary_erosion(gland, iterations=4)] = _LUMEN
    spots = smooth_noise(rng, size, 1.0, (1.0, 1.0)) > 1.4
    picture[spots & (glands == 0)] = _NUCLEI
    shade = 1 + 0.05 * smooth_noise(rng, size, 12.0, (1.0, 1.0)) + 0.04 * smooth_noise(rng, size, 1.0, (1.0, 1.0))
    blurred = ndimage.gaussian_filter(picture, sigma=(0.6, 0.6, 0)) * shade[..., None]
    return (255 * np.clip(blurred, 0, 1)).astype(np.uint8), glands
