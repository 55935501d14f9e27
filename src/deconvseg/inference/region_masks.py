"""The masks of single regions, next to the mask in which they are painted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import Geometry, LabelMap, RegionFiles, Segment, read_header, write_label_map
from deconvseg.errors import InputError
from deconvseg.planning import Plan


def files_of_regions(mask: Path, plan: Plan) -> RegionFiles:
    """Return the files of the regions of a mask that a network with this plan predicts."""
    return RegionFiles(mask, {region.written_as: region.name for region in plan.structures})


def check_regions(plan: Plan) -> None:
    """Refuse files of regions for a network of exclusive classes."""
    if plan.regions is None:
        raise InputError(
            f"`save_regions=True`: the run predicts classes that exclude each other ({', '.join(plan.output_names)}), "
            "which the mask holds, and no regions; omit it"
        )


def write_regions(masks: NDArray[np.uint8], geometry: Geometry, mask: Path, plan: Plan, *, like: Path) -> None:
    """Write the masks (R, \\*S) of the plan's structures, which may be memory-mapped, one after the other."""
    paths, colours = files_of_regions(mask, plan).paths, plan.class_colours
    for region, pixels in zip(plan.structures, masks, strict=True):
        segment = Segment(1, region.name, colours[region.name] if plan.colours else None)
        # In memory one at a time.
        label_map = LabelMap(np.array(pixels), geometry)
        write_label_map(label_map, paths[region.written_as], like=like, segments=(segment,))


def hold_regions(mask: Path, plan: Plan) -> bool:
    """Whether the files of all regions of a mask exist, on a grid of its shape; only headers are read."""
    try:
        shape = read_header(mask).shape
        return all(read_header(file).shape == shape for file in files_of_regions(mask, plan).paths.values())
    except InputError:
        return False
