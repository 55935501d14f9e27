"""Post-processing of finished masks: components are removed and holes filled, in steps that are listed in a JSON file.

A step works on a structure, the union of some label values. Removed voxels become background, or the enclosing
structure if regions are nested. Components are connected by faces, edges and corners, holes by faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deconvseg.data import LabelMap, Region, bounding_box, read_json_object
from deconvseg.errors import InputError
from deconvseg.system import write_text

Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Box = tuple[slice, ...]
StepName = Literal["keep_largest", "remove_small", "fill_holes"]
FILE_NAME = "postprocessing.json"
# Bytes per voxel: a copy of the mask, a structure, its removed voxels, and components as int32 and, counted, as int64.
WORKING_BYTES = 1 + 1 + 4 + 8


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Part):
    """One step on one structure.

    ``keep_largest`` removes all components except the largest, ``remove_small`` those below ``minimum_volume`` (mm³, in
    2D mm²), and ``fill_holes`` fills the holes that lie entirely inside the structure. ``labels`` are the structure's
    values in the mask, ``written_as`` the value that fills holes, and ``enclosing`` maps removed values to their
    replacement; values that it does not contain become background.

    Example:
        >>> from deconvseg.inference import Step
        >>> step = Step(step="keep_largest", structure="organ", labels=(1,), written_as=1)
        >>> step.structure
        'organ'

    """

    step: StepName
    structure: str
    labels: tuple[int, ...] = Field(min_length=1)
    written_as: int
    enclosing: dict[int, int] = {}
    minimum_volume: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Step:
        if (self.step == "remove_small") != (self.minimum_volume is not None):
            raise ValueError("minimum_volume belongs to remove_small, which needs it")
        if self.written_as not in self.labels or 0 in self.labels:
            raise ValueError("labels are the structure's values, written_as one of them, and 0 is the background")
        if not set(self.enclosing) <= set(self.labels) or set(self.enclosing.values()) & set(self.labels):
            raise ValueError("enclosing maps the structure's values to values outside it")
        return self

    def describe(self) -> str:
        """Return the step as a line."""
        limit = "" if self.minimum_volume is None else f" (below {self.minimum_volume:g} mm³, in 2D mm²)"
        return f"{self.structure}: {self.step.replace('_', ' ')}{limit}"


class Trial(_Part):
    """The effect of a tried step on the Dice of the held-out cases."""

    step: StepName
    structure: str
    minimum_volume: float | None = None
    dice_before: float
    dice_after: float
    improved: int
    worsened: int
    taken: bool


class Postprocessing(_Part):
    """The steps that are applied to every finished mask, outer structures first, and the trials that selected them.

    ``weights`` are the SHA-256 of the weights that it was chosen for, one for each fold; empty if not recorded.
    ``trials`` are all tried steps. ``by_other_folds`` is each structure's mean Dice before and after the steps that
    the cases of the other folds choose, ``with_truth_by_other_folds`` the same over the cases whose true mask has it.

    Example:
        >>> from deconvseg.inference import Postprocessing, Step
        >>> largest = Step(step="keep_largest", structure="organ", labels=(1,), written_as=1)
        >>> holes = Step(step="fill_holes", structure="organ", labels=(1,), written_as=1)
        >>> len(Postprocessing(steps=(largest, holes)).steps)
        2

    """

    version: Literal[1] = 1
    steps: tuple[Step, ...] = ()
    weights: tuple[str | None, ...] = ()
    trials: tuple[Trial, ...] = ()
    by_other_folds: dict[str, tuple[float, float]] = {}
    with_truth_by_other_folds: dict[str, tuple[float, float]] = {}

    def write(self, folder: Path) -> None:
        """Write ``postprocessing.json`` into the folder of a cross-validation."""
        write_text(folder / FILE_NAME, self.model_dump_json(indent=2) + "\n")


def read_postprocessing(folder: str | PathLike[str]) -> Postprocessing:
    """Read a folder's ``postprocessing.json``; no steps without that file. :class:`InputError` names a wrong key.

    Example:
        >>> from deconvseg.inference import read_postprocessing
        >>> read_postprocessing("RUN").steps  # a single run has chosen none
        ()

    """
    path = Path(folder) / FILE_NAME
    if not path.exists():
        return Postprocessing()
    read_json_object(path)
    try:
        return Postprocessing.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {key}: {message}; correct it, or predict with `postprocess=False`") from error


def make_step(
    name: StepName, structure: Region, structures: Sequence[Region], minimum_volume: float | None = None
) -> Step:
    """Return a step on a structure of a mask that is painted with ``structures`` in this order.

    Example:
        >>> from deconvseg.data import Region
        >>> from deconvseg.inference import make_step
        >>> organ, lesion = Region("organ", (1, 2), 1), Region("lesion", (2,), 2)
        >>> step = make_step("remove_small", lesion, [organ, lesion], minimum_volume=10.0)
        >>> step.labels, step.enclosing
        ((2,), {2: 1})

    """
    enclosing = {}
    for value in structure.labels:
        around = [
            other.written_as
            for other in structures
            if value in other.labels and other.written_as not in structure.labels and other != structure
        ]
        if around:
            enclosing[value] = around[-1]
    return Step(
        step=name,
        structure=structure.name,
        labels=structure.labels,
        written_as=structure.written_as,
        enclosing=enclosing,
        minimum_volume=minimum_volume,
    )


def apply(postprocessing: Postprocessing, mask: LabelMap) -> LabelMap:
    """Return the mask after all steps: removals until nothing changes, then holes. It is idempotent.

    Only filling holes adds voxels to a structure, from the background or the enclosing structure.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Geometry, LabelMap
        >>> from deconvseg.inference import Postprocessing, Step, apply
        >>> mask = LabelMap(np.array([[1, 0, 1], [0, 0, 1]], dtype=np.uint8), Geometry.identity(2))
        >>> largest = Step(step="keep_largest", structure="organ", labels=(1,), written_as=1)
        >>> apply(Postprocessing(steps=(largest,)), mask).pixels.tolist()
        [[0, 0, 1], [0, 0, 1]]

    """
    removals = [step for step in postprocessing.steps if step.step != "fill_holes"]
    fillings = [step for step in postprocessing.steps if step.step == "fill_holes"]
    box = bounding_box(mask.pixels != 0) if postprocessing.steps else None
    if box is None:
        return mask
    # A mask from a file has the smallest type for its values, and a step may write larger ones.
    written = [value for step in postprocessing.steps for value in (step.written_as, *step.enclosing.values())]
    whole = mask.pixels.astype(np.result_type(mask.pixels.dtype, *map(np.min_scalar_type, written)))
    labels = whole[box]
    spacing = mask.geometry.spacing
    changed = bool(removals)
    while changed:
        # Repeated, because removing voxels of one structure may split another one.
        found = [_remove(labels, step, spacing) for step in removals]
        changed = any(found) and len(removals) > 1
    for step in fillings:
        _fill_holes(labels, step)
    return LabelMap(whole, mask.geometry)


def component_volumes(mask: Mask, spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the volume of each connected component of a mask (*S), in mm³ (2D: mm²).

    Example:
        >>> import numpy as np
        >>> from deconvseg.inference import component_volumes
        >>> component_volumes(np.array([[True, False, True], [False, False, True]]), spacing=(2.0, 1.0)).tolist()
        [2.0, 4.0]

    """
    box = bounding_box(mask)
    if box is None:
        return np.zeros(0)
    volumes: npt.NDArray[np.float64] = _sizes(_components(mask[box])) * np.prod(spacing)
    return volumes


def find_unwanted(structure: Mask, step: Step, spacing: Sequence[float]) -> tuple[Box, Mask] | None:
    """Return a box of a structure's mask (\\*S) and the voxels in it that a step removes; None if it removes none."""
    box = bounding_box(structure)
    if box is None:
        return None
    components = _components(structure[box])
    sizes = _sizes(components)
    if step.minimum_volume is None:
        removed = np.arange(len(sizes)) != sizes.argmax()
    else:
        removed = sizes * np.prod(spacing) < step.minimum_volume
    if not removed.any():
        return None
    gone: Mask = np.concatenate([[False], removed])[components]
    return box, gone


def find_holes(structure: Mask, foreign: Mask) -> Mask:
    """Return the holes of a structure's mask (\\*S) that contain no ``foreign`` voxel."""
    from scipy import ndimage

    holes = ndimage.binary_fill_holes(structure) & ~structure
    components, count = ndimage.label(holes)
    kept = np.zeros(count + 1, bool)
    kept[components[holes & foreign]] = True
    found: Mask = holes & ~kept[components]
    return found


def _remove(labels: Labels, step: Step, spacing: Sequence[float]) -> bool:
    """Remove components in place; return whether any were removed."""
    found = find_unwanted(np.isin(labels, step.labels), step, spacing)
    if found is None:
        return False
    box, gone = found
    part = labels[box]
    values = part[gone]
    part[gone] = 0
    for value, becomes in step.enclosing.items():
        part[gone] = np.where(values == value, becomes, part[gone])
    return True


def _fill_holes(labels: Labels, step: Step) -> None:
    """Fill in place the holes that contain no other structure."""
    structure = np.isin(labels, step.labels)
    box = bounding_box(structure)
    if box is None:
        return
    part = labels[box]
    part[find_holes(structure[box], ~np.isin(part, [0, *step.enclosing.values()]))] = step.written_as


def _components(mask: Mask) -> Labels:
    from scipy import ndimage

    components: Labels = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))[0]
    return components


def _sizes(components: Labels) -> npt.NDArray[np.intp]:
    return np.bincount(components.ravel())[1:]
