"""HD95, ASSD and NSD of the same masks by the packages of the field, whose conventions differ.

``python benchmarks/metric_conventions.py`` prints a Markdown table of made masks. panoptica is optional and shows a
dash where it is not installed (``pip install panoptica``); medpy, surface-distance and MONAI are in the extra ``dev``.
MetricsReloaded is not on PyPI; its NSD counts boundary voxels as MONAI's does.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.evaluation import evaluate_masks
from deconvseg.evaluation.registry import find_metric

Mask = npt.NDArray[np.bool_]
Pair = tuple[Mask, Mask, tuple[float, ...]]
TOLERANCE = 1.0  # mm


def make_pairs() -> Iterator[tuple[str, Pair]]:
    """Pairs of a truth and a prediction with the spacing in mm, from agreement to disagreement."""
    shape, even = (64, 64, 40), (1.0, 1.0, 1.0)
    organ = ball(shape, (30, 30, 20), 14)
    yield "a ball of 14 mm, moved by 2 mm", (organ, np.roll(organ, 2, 0), even)
    yield (
        "the same, and a false island of 5 mm, 24 mm away",
        (organ, organ | ball(shape, (56, 56, 20), 5), even),
    )
    yield "a ball of 14 mm of which a small part is found", (organ, organ & ball(shape, (21, 21, 20), 12), even)
    thick = (0.5, 0.5, 5.0)
    flat = (80, 80, 12)
    yield (
        "slices of 5 mm, pixels of 0.5 mm: one slice too few",
        (cylinder(flat, 20, range(3, 9)), cylinder(flat, 20, range(3, 8)), thick),
    )
    yield (
        "slices of 5 mm: a thin column on top",
        (
            cylinder(flat, 20, range(3, 7)),
            cylinder(flat, 20, range(3, 7)) | cylinder(flat, 4, range(7, 11)),
            thick,
        ),
    )
    lesion = cylinder(flat, 3, range(5, 6))
    yield "slices of 5 mm: a lesion in one slice, found in two", (lesion, cylinder(flat, 3, range(5, 7)), thick)
    vessel = np.zeros((60, 60), bool)
    vessel[5:55, 30] = True
    wide = vessel | np.roll(vessel, 1, 1) | np.roll(vessel, -1, 1)
    yield "a vessel one pixel wide, found three pixels wide", (vessel, wide, (1.0, 1.0))


def ball(shape: tuple[int, ...], centre: tuple[int, ...], radius: float) -> Mask:
    grid = np.indices(shape) - np.reshape(centre, (-1, *(1,) * len(shape)))
    found: Mask = (grid**2).sum(axis=0) < radius**2
    return found


def cylinder(shape: tuple[int, ...], radius: float, slices: range) -> Mask:
    rows, columns, planes = np.indices(shape)
    inside = (rows - shape[0] // 2) ** 2 + (columns - shape[1] // 2) ** 2 < radius**2
    found: Mask = inside & (planes >= slices.start) & (planes < slices.stop)
    return found


def ours(key: str) -> tuple[int, Callable[..., float]]:
    """A metric of the table: its digits, and its value."""
    metric = find_metric(key)
    if metric is None:
        raise SystemExit(f"{key} is no metric")

    def measure(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
        return float(evaluate_masks(truth, prediction, {1: key}, spacing=spacing, metrics=[key])[1][key])

    return metric.digits, measure


def monai_nsd(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
    import torch
    from monai.metrics import compute_surface_dice

    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    found = compute_surface_dice(*masks, [TOLERANCE], include_background=True, spacing=list(spacing))
    return float(found)


def monai_hd95(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
    import torch
    from monai.metrics import compute_hausdorff_distance

    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    found = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=list(spacing))
    return float(found)


def monai_assd(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
    import torch
    from monai.metrics import compute_average_surface_distance

    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    found = compute_average_surface_distance(*masks, include_background=True, symmetric=True, spacing=list(spacing))
    return float(found)


def medpy_hd95(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
    return float(importlib.import_module("medpy.metric.binary").hd95(prediction, truth, voxelspacing=spacing))


def panoptica_hd95(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
    measure = importlib.import_module("panoptica.metrics")._compute_hausdorff_distance95
    return float(measure(truth, prediction, voxelspacing=spacing))


def deepmind(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> Any:
    surfaces = importlib.import_module("surface_distance")
    return surfaces, surfaces.compute_surface_distances(truth, prediction, spacing)


def deepmind_hd95(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
    surfaces, distances = deepmind(truth, prediction, spacing)
    return float(surfaces.compute_robust_hausdorff(distances, 95))


def deepmind_assd(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
    surfaces, distances = deepmind(truth, prediction, spacing)
    return float(np.mean(surfaces.compute_average_surface_distance(distances)))


def deepmind_nsd(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> float:
    surfaces, distances = deepmind(truth, prediction, spacing)
    return float(surfaces.compute_surface_dice_at_tolerance(distances, TOLERANCE))


COLUMNS: dict[str, tuple[int, Callable[..., float]]] = {
    "HD95": ours("hd95"),
    "MONAI": (2, monai_hd95),
    "medpy": (2, medpy_hd95),
    "panoptica": (2, panoptica_hd95),
    "surface-distance": (2, deepmind_hd95),
    "ASSD": ours("assd"),
    "MONAI ASSD": (2, monai_assd),
    "surface-distance ASSD": (2, deepmind_assd),
    "NSD": ours("nsd"),
    "surface-distance NSD": (3, deepmind_nsd),
    "MONAI NSD": (3, monai_nsd),
}


def measure(column: str, pair: Pair) -> str:
    digits, function = COLUMNS[column]
    try:
        return f"{function(*pair):.{digits}f}"
    except ImportError:
        return "–"


def main() -> None:
    warnings.simplefilter("ignore")
    print("|", " | ".join(("masks", *COLUMNS)), "|")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for name, pair in make_pairs():
        print("|", " | ".join((name, *(measure(column, pair) for column in COLUMNS))), "|")


if __name__ == "__main__":
    main()
