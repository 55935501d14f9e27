"""DSC, HD95 and NSD of a volume with many classes beside MONAI's HD95 alone: equality, then time and peak memory.

``python benchmarks/metrics.py --size 512 --classes 15 --json OUT``. MONAI takes the classes one after the other, as a
one-hot volume of all of them does not fit into the memory of a small machine; making a class's two masks is part of its
time. Ours takes both label maps and gives everything that ``deconvseg evaluate`` writes about a case.
"""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from common import asked, machine, make_parser, peak_megabytes, ratios, report, spread, time_in_turn

from deconvseg.evaluation import evaluate_masks

Labels = npt.NDArray[np.uint8]
SPACING = (0.8, 0.8, 1.5)


def make_masks(size: int, classes: int) -> tuple[Labels, Labels]:
    """Rough ellipsoids of many sizes, and a prediction of them with another surface and other places."""
    rng = np.random.default_rng(0)
    truth, prediction = (np.zeros((size,) * 3, np.uint8) for _ in range(2))
    for value in range(1, classes + 1):
        radii = rng.uniform(0.04, 0.15, 3) * size
        centre = rng.uniform(radii + 4, size - radii - 4)
        bumps = rng.normal(0, 0.04, (2, 6))
        _paint(truth, value, centre, radii, bumps[0])
        _paint(prediction, value, centre + rng.normal(0, 0.004 * size, 3), radii, bumps[0] + 0.2 * bumps[1])
    return truth, prediction


def _paint(mask: Labels, value: int, centre: np.ndarray, radii: np.ndarray, bumps: np.ndarray) -> None:
    box = tuple(slice(max(0, int(c - 1.4 * r)), int(c + 1.4 * r) + 2) for c, r in zip(centre, radii, strict=True))
    axes = [(np.arange(n)[part] - c) / r for n, part, c, r in zip(mask.shape, box, centre, radii, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    waves = [np.sin((k + 2) * x + k) * np.cos((k + 1) * y) * np.cos(k * z) for k in range(len(bumps))]
    surface = 1 + sum(bump * wave for bump, wave in zip(bumps, waves, strict=True))
    mask[box][np.sqrt(x**2 + y**2 + z**2) < surface] = value


def ours(size: int, classes: int, threads: int) -> Callable[[], list[float]]:
    torch.set_num_threads(threads)
    masks = make_masks(size, classes)
    labels = {value: str(value) for value in range(1, classes + 1)}
    return lambda: [float(row["hd95"]) for row in evaluate_masks(*masks, labels, spacing=SPACING).values()]


def monais(size: int, classes: int, threads: int) -> Callable[[], list[float]]:
    from monai.metrics import compute_hausdorff_distance

    torch.set_num_threads(threads)
    truth, prediction = (torch.from_numpy(mask)[None, None] for mask in make_masks(size, classes))

    def step() -> list[float]:
        return [
            float(
                compute_hausdorff_distance(
                    prediction == value, truth == value, include_background=True, percentile=95, spacing=SPACING
                )
            )
            for value in range(1, classes + 1)
        ]

    return step


SIDES = {"deconvseg": ours, "monai": monais}


def main() -> None:
    options = parse()
    arguments = options.size, options.classes, options.threads
    steps = {name: make(*arguments) for name, make in SIDES.items()}
    found, expected = (step() for step in steps.values())
    difference = max(abs(one - two) for one, two in zip(found, expected, strict=True))
    if difference > 1e-6 * max(1.0, *expected):
        raise SystemExit(f"HD95 differs from MONAI's by {difference}: nothing is timed")
    seconds = time_in_turn(steps, options.rounds, torch.device("cpu"))
    report(
        {
            **asked(options),
            "machine": machine(torch.device("cpu")),
            "hd95_mm": found,
            "largest_difference_mm": difference,
            "sides": {
                name: {
                    "seconds": spread(values),
                    "peak_megabytes": peak_megabytes(SIDES[name], *arguments, device=torch.device("cpu")),
                }
                for name, values in seconds.items()
            },
            "ratios": ratios(seconds, "deconvseg"),
        },
        options.json,
    )


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--size", type=int, default=512, help="voxels along each axis")
    parser.add_argument("--classes", type=int, default=15)
    return parser.parse_args()


if __name__ == "__main__":
    main()
