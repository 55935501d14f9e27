"""The paths of masks: one file for each case, named after it, and never a file of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from deconvseg.data import Case, Segment, bids_mask_paths, write_bids_description
from deconvseg.errors import InputError
from deconvseg.inference.mask_formats import AS_IMAGES, MaskFormat
from deconvseg.planning import Plan, is_default_name
from deconvseg.system import make_folder


def mask_paths(
    plan: Plan, cases: Sequence[Case], output: Path, bids: bool, masks: MaskFormat = AS_IMAGES
) -> dict[str, Path]:
    """Return the path of each case's mask; create the folder, and describe it if it is a BIDS derivative."""
    labels = plan.labels
    if not bids:
        make_folder(output)
        return {case.name: masks.path(case, plan, output) for case in cases}
    paths = bids_mask_paths(cases, output, labels.values)
    write_bids_description(output, dict(zip(labels.values, labels.names, strict=True)), plan.colours)
    return paths


def segments_of(plan: Plan) -> tuple[Segment, ...]:
    """Return the predicted structures with their names, and their colours if the plan declares any.

    Empty for a plan whose classes have only default names.
    """
    if not plan.colours and all(is_default_name(structure.name) for structure in plan.structures):
        return ()
    colours = plan.class_colours if plan.colours else {}
    return tuple(Segment(part.written_as, part.name, colours.get(part.name)) for part in plan.structures)


def refuse_replacing(cases: Sequence[Case], paths: Iterable[Path]) -> None:
    """Refuse paths of masks that are those of images or true masks."""
    given = {_target(file) for case in cases for file in case.files}
    for path in paths:
        if _target(path) in given:
            raise InputError(
                f"{path}: is a file of the data, which a mask would replace; choose another folder (`output`)"
            )


def _target(path: Path) -> Path:
    """The path without links; unchanged for circular links, which are reported when it is read."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()
