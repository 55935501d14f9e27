"""The quantity by which folds are balanced."""

from __future__ import annotations

import numpy as np

from deconvseg.data.dataset import Dataset
from deconvseg.data.labels.encoding import count_values
from deconvseg.progress import SILENT, Console, choose_console, each, takes_console


@takes_console
def measure_foreground(dataset: Dataset, *, console: Console | bool | None = SILENT) -> dict[str, float | str]:
    """Return the foreground's volume in mm³ (area in 2D) of each case by name; every case needs a mask.

    Example:
        >>> from deconvseg.data import measure_foreground, open_dataset
        >>> volumes = measure_foreground(open_dataset("DATASET"))
        >>> len(volumes), min(volumes.values()) > 0
        (8, True)

    """
    volumes: dict[str, float | str] = {}
    console = choose_console(console)
    for case in each(dataset.cases, "measuring the foreground", console, lambda case: case.name):
        label = dataset.load_label(case)
        assert label is not None
        counts = count_values(label.pixels)
        voxels = sum(count for value, count in counts.items() if value not in (0, dataset.ignore_label))
        volumes[case.name] = voxels * float(np.prod(label.geometry.spacing))
    return volumes
