"""Simulated heads without skulls, shared by the trees of brain scans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deconvseg.data.demo.scenes import Field, blob, smooth_noise


def make_brain(
    rng: np.random.Generator, grid: Field, spacing: Sequence[float]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the brain, its white matter and its ventricles, each inside the one before."""
    reach = np.asarray([(grid[axis].max() - grid[axis].min()) / 2 for axis in range(3)])
    brain = blob(rng, grid, rng.uniform(-0.05, 0.05, size=3) * reach, 0.78 * reach, 0.03, spacing, turned=False)
    white = blob(rng, grid, (0, 0, 0), 0.52 * reach, 0.12, spacing, turned=False) & brain
    ventricles = blob(rng, grid, (0, 0, 0), (0.24, 0.2, 0.2) * reach, 0.1, spacing, turned=False) & white
    return brain, white, ventricles


def render(
    rng: np.random.Generator,
    parts: Sequence[tuple[npt.NDArray[np.bool_], float]],
    spacing: Sequence[float],
    texture: float = 0.04,
) -> Field:
    """Return a scan of these parts, each painted over those before it, blurred; zero outside the first."""
    from scipy import ndimage

    inside = parts[0][0]
    tissue = np.zeros(inside.shape)
    for part, value in parts:
        tissue[part] = value
    tissue += texture * smooth_noise(rng, inside.shape, 1.5 * max(spacing), spacing)
    blurred: Field = ndimage.gaussian_filter(tissue, sigma=0.6)
    return np.where(inside, np.maximum(blurred, 0.01), 0.0)
