"""Pictures of the cases that differ most between runs: the masks of all runs next to the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import Geometry
from deconvseg.errors import DeconvsegError
from deconvseg.reporting.comparison.pairing import Comparison
from deconvseg.reporting.gallery import Album, name_channel, picture_of, read_case_image, read_masks
from deconvseg.reporting.overlay import LONGEST_SIDE, Scene, choose_channel, classify_errors, error_legend
from deconvseg.reporting.picking import wrongest_slice


def choose_changed(comparison: Comparison, most: int) -> list[int]:
    """Return the indices of the cases whose Dice differs most between any two runs, the largest difference first."""
    dice = comparison.scores[:, :, -1, 0]
    spread = np.nan_to_num(np.nanmax(dice, axis=0) - np.nanmin(dice, axis=0))
    order = np.argsort(-spread, kind="stable")
    return [int(place) for place in order[:most] if spread[place] > 0]


def draw_changed(comparison: Comparison, place: int, colours: dict[str, str], album: Album) -> dict[str, Any]:
    """Return the pictures of a case with a note: the image, the truth, and each run's mask with its errors below."""
    empty: dict[str, Any] = {"rows": [], "classes": {}, "errors": {}}
    if album.full:
        return empty | {"note": f"No picture: the pictures on this page already take {album.most / 1e6:g} MB."}
    try:
        return _draw(comparison, comparison.cases[place], colours, album)
    except DeconvsegError as error:
        return empty | {"note": f"No picture: {error}."}


@dataclass(frozen=True, eq=False)
class CasePixels:
    """A case of a comparison: image (C, *S) or None, with notes on it, truth and the masks of all runs (*S).

    Masks hold the numbers of the common classes, from 1.
    """

    image: npt.NDArray[Any] | None
    truth: npt.NDArray[np.int64]
    masks: list[npt.NDArray[np.int64]]
    geometry: Geometry
    notes: list[str]

    @property
    def spacing(self) -> tuple[float, ...]:
        """One value per axis."""
        return tuple(self.geometry.spacing)


def read_pixels(comparison: Comparison, name: str) -> CasePixels:
    """Read the image and all masks of a common case."""
    masks: list[npt.NDArray[Any]] = []
    for entry, cases in zip(comparison.entries, comparison.by_case, strict=True):
        first, second = read_masks(entry.evaluation, cases[name])
        values = {int(value): text for value, text in entry.evaluation.tree["labels"].items()}
        if not masks:
            masks.append(_rename(first.pixels, values, comparison.classes))
            truth_map = first
        masks.append(_rename(second.pixels, values, comparison.classes))
    image, notes = read_case_image(comparison.entries[0].evaluation, comparison.by_case[0][name], truth_map)
    return CasePixels(image, masks[0], masks[1:], truth_map.geometry, notes)


def _draw(comparison: Comparison, name: str, colours: dict[str, str], album: Album) -> dict[str, Any]:
    pixels = read_pixels(comparison, name)
    image, truth, found, notes = pixels.image, pixels.truth, pixels.masks, [*pixels.notes]
    masks, record = [truth, *found], comparison.entries[0].evaluation
    channel = None if image is None else choose_channel(image, truth, found[0])
    if image is not None and channel is not None and len(image) > 1:
        channels = [each.get("name", "") for each in comparison.entries[0].run.plan.get("channels") or ()]
        notes.append(name_channel(channel, len(image), channels))
    slice = _most_changed(found) if truth.ndim == 3 else 0
    scene = Scene.of(image, masks, pixels.spacing, slice=slice, channel=channel, longest=LONGEST_SIDE)
    shown = {place: colours[text] for place, text in enumerate(comparison.classes, 1)}
    unit = record.tree["unit"] if record.tree["unit"] == "mm" or truth.ndim == 2 else "mm"
    unit = "pixels" if unit == "voxel" else unit
    placed = pixels.geometry.placed and truth.ndim == 3

    def show(title: str, picture: npt.NDArray[np.uint8], *, whole: bool = False) -> dict[str, Any]:
        return picture_of(title, picture, scene.whole_width if whole else scene.width, unit, album, placed=placed)

    names = [entry.name for entry in comparison.entries]
    parts = [scene.cut(mask) for mask in masks]
    above = [] if image is None else [show("Image", scene.draw_image(), whole=True)]
    above.append(show("Truth", scene.draw(parts[0], shown)))
    above += [show(text, scene.draw(part, shown)) for text, part in zip(names, parts[1:], strict=True)]
    # Errors are below each run's mask; below image and truth is a blank.
    below: list[dict[str, Any]] = [{} for _ in above[: len(above) - len(names)]]
    for text, part in zip(names, parts[1:], strict=True):
        errors, tints = classify_errors(parts[0], part)
        below.append(show(f"{text}: errors", scene.draw(errors, tints, opacity=0.65)))
    if scene.slice is not None:
        notes.insert(0, f"axial slice {scene.slice + 1} of {truth.shape[2]}, in which the masks differ most")
    if scene.zoomed and image is not None:
        notes.append("the frame in the image marks what the other views show")
    occurring = {int(value) for mask in masks for value in np.unique(mask)} - {0}
    return {
        "rows": [above, below],
        "classes": {comparison.classes[value - 1]: shown[value] for value in sorted(occurring)},
        "errors": error_legend(several=len(comparison.classes) > 1),
        "note": "; ".join(notes),
    }


def _rename(pixels: npt.NDArray[Any], values: dict[int, str], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return a mask with the label values of a run replaced by the numbers of the common classes, from 1."""
    renamed = np.zeros(pixels.shape, np.int64)
    for value, name in values.items():
        if name in classes:
            renamed[pixels == value] = classes.index(name) + 1
    return renamed


def _most_changed(masks: Sequence[npt.NDArray[Any]]) -> int:
    """Return the axial slice with the most voxels in which the runs disagree."""
    changed = np.any([mask != masks[0] for mask in masks[1:]], axis=0)
    return wrongest_slice(masks[0], np.where(changed, -1, masks[0]))
