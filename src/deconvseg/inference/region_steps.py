"""Post-processing of regions that have a mask each, by the same steps as of a painted mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import Region, bounding_box
from deconvseg.inference.postprocessing import Mask, Postprocessing, Step, find_holes, find_unwanted

Masks = npt.NDArray[Any]


def apply_to_regions(
    postprocessing: Postprocessing, masks: Masks, structures: Sequence[Region], spacing: Sequence[float]
) -> None:
    """Apply all steps to the masks (R, \\*S) of the ``structures``, in place; the array may be memory-mapped.

    The structures are in the order of painting, as ``Plan.structures``.

    Voxels that are removed from a structure are removed from the regions inside it too, and holes are filled in the
    regions around it too. For regions of which each lies inside those that contain it, the masks are therefore those of
    :func:`~deconvseg.inference.postprocessing.apply` on the painted mask.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Region
        >>> from deconvseg.inference import Postprocessing, apply_to_regions, make_step
        >>> regions = [Region("whole", (1, 2), 1), Region("core", (2,), 2)]
        >>> masks = np.array([[[1, 0, 1, 1]], [[1, 0, 0, 1]]], dtype=np.uint8)
        >>> steps = Postprocessing(steps=(make_step("keep_largest", regions[0], regions),))
        >>> apply_to_regions(steps, masks, regions, spacing=(1.0, 1.0))
        >>> masks.tolist()
        [[[0, 0, 1, 1]], [[0, 0, 0, 1]]]

    """
    removals = [step for step in postprocessing.steps if step.step != "fill_holes"]
    fillings = [step for step in postprocessing.steps if step.step == "fill_holes"]
    changed = bool(removals)
    while changed:
        # Repeated, because removing voxels of one structure may split another one.
        found = [_remove(masks, step, structures, spacing) for step in removals]
        changed = any(found) and len(removals) > 1
    for step in fillings:
        _fill_holes(masks, step, structures)


def _remove(masks: Masks, step: Step, structures: Sequence[Region], spacing: Sequence[float]) -> bool:
    """Remove components in place; return whether any were removed."""
    found = find_unwanted(_mask_of(masks, step, structures), step, spacing)
    if found is None:
        return False
    box, gone = found
    for place in _inside(step, structures):
        masks[place][box][gone] = 0
    return True


def _fill_holes(masks: Masks, step: Step, structures: Sequence[Region]) -> None:
    """Fill in place the holes that contain no other structure."""
    structure = _mask_of(masks, step, structures)
    box = bounding_box(structure)
    if box is None:
        return
    values = [region.written_as for region in structures]
    painted = np.zeros(structure[box].shape, np.result_type(*map(np.min_scalar_type, values)))
    for mask, value in zip(masks, values, strict=True):
        painted[mask[box] != 0] = value
    holes = find_holes(structure[box], ~np.isin(painted, [0, *step.labels, *step.enclosing.values()]))
    for place, region in enumerate(structures):
        if step.written_as in region.labels:
            masks[place][box][holes] = 1


def _mask_of(masks: Masks, step: Step, structures: Sequence[Region]) -> Mask:
    """Return the mask of the step's structure: that of its region, or the union of the regions inside it."""
    own = [place for place, region in enumerate(structures) if set(region.labels) == set(step.labels)]
    return _union(masks, own or _inside(step, structures), masks.shape[1:])


def _inside(step: Step, structures: Sequence[Region]) -> list[int]:
    return [place for place, region in enumerate(structures) if set(region.labels) <= set(step.labels)]


def _union(masks: Masks, places: Sequence[int], shape: tuple[int, ...]) -> Mask:
    found = np.zeros(shape, bool)
    for place in places:
        found |= masks[place] != 0
    return found
