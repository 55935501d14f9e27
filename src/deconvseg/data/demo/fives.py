"""A generated tree with the names of FIVES: photographs of the fundus with branching vessels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deconvseg.data.demo.scenes import smooth_noise
from deconvseg.data.layouts.fives import name_cases

_FOLDER = "FIVES A Fundus Image Dataset for AI-based Vessel Segmentation"
_SIDE = 128
# Every fourth case is a test case, as 200 of 800 are.
_TEST = 4
_FUNDUS, _VESSEL, _DISC = (0.72, 0.33, 0.15), (0.45, 0.14, 0.08), (0.95, 0.75, 0.45)


def write_fives(folder: Path, cases: int, seed: int) -> None:
    """Write the photographs and masks of both parts, whose diseases alternate."""
    from PIL import Image

    drawn: Counter[str] = Counter()
    names = {part: _alternate(name_cases(part)) for part in ("train", "test")}
    for number in range(cases):
        part = "test" if number % _TEST == _TEST - 1 else "train"
        # Beyond the published numbers they go on.
        known = names[part]
        name = known[drawn[part]] if drawn[part] < len(known) else f"{part}_{drawn[part] + 1}_N"
        drawn[part] += 1
        picture, vessels = _make_case(np.random.default_rng([seed, number]))
        for place, pixels in (("Original", picture), ("Ground truth", np.where(vessels, 255, 0).astype(np.uint8))):
            path = folder / _FOLDER / part / place / f"{name.removeprefix(f'{part}_')}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def _alternate(names: list[str]) -> list[str]:
    """Return the names with one of each disease in turn; each disease has a quarter of them, one after the other."""
    each = len(names) // 4
    return [names[disease * each + number] for number in range(each) for disease in range(4)]


def _make_case(rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return a picture (H, W, 3) and its vessels (H, W)."""
    from scipy import ndimage

    rows, columns = np.indices((_SIDE, _SIDE))
    middle = _SIDE / 2
    inside = np.hypot(rows - middle, columns - middle) < 0.48 * _SIDE
    disc = np.array([rng.uniform(0.42, 0.58) * _SIDE, rng.choice([0.22, 0.78]) * _SIDE])
    width = np.zeros((_SIDE, _SIDE))
    for direction in np.linspace(0, 2 * np.pi, 6, endpoint=False) + rng.uniform(0, 1):
        _grow(rng, width, disc, direction, 2.6)
    vessels = (ndimage.maximum_filter(width, size=3) >= 2) | (width > 0)
    vessels &= inside
    shade = 1 + 0.06 * smooth_noise(rng, (_SIDE, _SIDE), 14.0, (1.0, 1.0))
    picture = np.broadcast_to(_FUNDUS, (_SIDE, _SIDE, 3)).copy()
    picture[np.hypot(rows - disc[0], columns - disc[1]) < 8] = _DISC
    picture[vessels] = _VESSEL
    picture = ndimage.gaussian_filter(picture, sigma=(0.5, 0.5, 0)) * shade[..., None]
    picture += rng.normal(scale=0.015, size=picture.shape)
    return (255 * np.clip(picture, 0, 1) * inside[..., None]).astype(np.uint8), vessels


def _grow(
    rng: np.random.Generator, width: npt.NDArray[np.float64], start: npt.NDArray[np.float64], turn: float, thick: float
) -> None:
    """Draw a vessel and its branches, thinner with the distance, into the map of widths."""
    place, direction = start.copy(), turn
    while thick > 0.7:
        direction += rng.normal(scale=0.12)
        place += (np.sin(direction), np.cos(direction))
        row, column = np.rint(place).astype(int)
        if not (0 <= row < _SIDE and 0 <= column < _SIDE):
            return
        width[row, column] = max(width[row, column], thick)
        thick *= 0.988
        if rng.random() < 0.04:
            _grow(rng, width, place, direction + rng.choice([-1, 1]) * rng.uniform(0.4, 0.8), 0.75 * thick)
