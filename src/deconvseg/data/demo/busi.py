"""A generated tree with the names of BUSI: ultrasound images with dark lesions, and some of normal tissue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deconvseg.data.demo.scenes import blob, positions, smooth_noise

_FOLDER = "Dataset_BUSI_with_GT"
_SIZES = ((96, 112), (112, 96), (104, 128))
# 437 and 210 of 647 images: two thirds are benign.
_PARTS = ("benign", "benign", "malignant")


def write_busi(folder: Path, cases: int, seed: int) -> None:
    """Write the images and masks of both kinds of lesion, and a fifth as many images without one."""
    numbers: Counter[str] = Counter()
    parts = [_PARTS[number % len(_PARTS)] for number in range(cases)] + ["normal"] * max(1, cases // 5)
    for number, part in enumerate(parts):
        numbers[part] += 1
        place = numbers[part]
        # Normal images come after the others in number, but depend on their own alone.
        rng = np.random.default_rng([seed, place, 1] if part == "normal" else [seed, number])
        # As in the published set, the fourth benign image has two lesions.
        lesions = 0 if part == "normal" else 2 if part == "benign" and place % 4 == 0 else 1
        picture, masks = _make_case(rng, _SIZES[place % len(_SIZES)], lesions, rough=part == "malignant")
        _save(folder / _FOLDER / part, f"{part} ({place})", picture, masks)


def _save(folder: Path, name: str, picture: npt.NDArray[np.uint8], masks: list[npt.NDArray[np.bool_]]) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    # Published as pictures in colour whose channels are equal.
    Image.fromarray(picture).convert("RGB").save(folder / f"{name}.png")
    for number, mask in enumerate(masks):
        ending = f"_{number}" if number else ""
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(folder / f"{name}_mask{ending}.png")


def _make_case(
    rng: np.random.Generator, size: tuple[int, int], lesions: int, *, rough: bool
) -> tuple[npt.NDArray[np.uint8], list[npt.NDArray[np.bool_]]]:
    """Return a grey picture (H, W) and a mask (H, W) for each lesion, or an empty one."""
    grid, unit = positions(size, (1.0, 1.0)), (1.0, 1.0)
    depth = np.linspace(0, 1, size[0])[:, None]
    tissue = 0.55 + 0.1 * smooth_noise(rng, size, 10.0, unit) - 0.2 * depth
    tissue[: size[0] // 10] += 0.2
    masks = []
    for place in range(lesions):
        shift = 0.0 if lesions == 1 else (place - 0.5) * size[1] / 2
        centre = rng.uniform(-0.08, 0.08, size=2) * size + (0.0, shift)
        lesion = blob(rng, grid, centre, rng.uniform(10, 17, size=2), 0.3 if rough else 0.08, unit)
        masks.append(lesion)
        # Sound is weaker below a malignant lesion, and stronger below a benign one.
        below = np.maximum.accumulate(lesion, axis=0) & ~lesion
        tissue[below] += -0.1 if rough else 0.08
    for lesion in masks:
        tissue[lesion] = 0.14
    speckle = rng.rayleigh(scale=0.75, size=size)
    picture = np.clip(np.clip(tissue, 0.02, 1) * speckle, 0, 1) ** 0.8
    return (255 * picture).astype(np.uint8), masks or [np.zeros(size, dtype=bool)]
