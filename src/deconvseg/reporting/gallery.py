"""The gallery of an evaluation: the choice of cases, and their pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import LabelMap, MaskSource, align_white, read_image, read_mask_pair
from deconvseg.errors import DeconvsegError
from deconvseg.reporting.overlay import LONGEST_SIDE, CaseViews, case_views, choose_channel
from deconvseg.reporting.picking import Plane, wrongest_slice
from deconvseg.reporting.records import EvaluationRecord
from deconvseg.reporting.style import pixels_uri

WORST = 6
# The most bytes that the pictures of a page may take.
_MOST_BYTES = 16_000_000
# If more of the worst cases than this are shown, pictures are smaller.
_MANY, _SMALLER_SIDE = 16, 360
# Only the axial plane is shown of volumes whose voxels are more anisotropic than this.
_FLATTEST = 4.0
_SIDES: Mapping[Plane, tuple[str, str]] = {"axial": ("R", "A"), "coronal": ("R", "S"), "sagittal": ("A", "S")}


@dataclass
class Album:
    """Encodes the pictures of a page until they take ``most`` bytes in total."""

    most: int = _MOST_BYTES
    used: int = field(default=0, init=False)

    @property
    def full(self) -> bool:
        """Whether the limit of bytes is reached."""
        return self.used >= self.most

    def add(self, pixels: npt.NDArray[np.uint8]) -> str:
        """Return a picture (H, W, 3) as a data URI."""
        uri = pixels_uri(pixels)
        self.used += len(uri)
        return uri


@dataclass(frozen=True)
class Showing:
    """How the cases of an evaluation are shown.

    ``anchor`` is the prefix of all anchors, ``colours`` maps class names to colours, ``channels`` names the channels of
    the image if they are known, and ``worst`` is the number of worst cases shown.
    """

    anchor: str = "evaluation"
    colours: Mapping[str, str] = field(default_factory=dict)
    channels: Sequence[str] = ()
    worst: int = WORST
    album: Album = field(default_factory=Album)


def choose_cases(cases: Sequence[Mapping[str, Any]], worst: int = WORST) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the worst, median and best cases by their Dice over the classes in their true masks, without repeats.

    They are chosen among the cases with a true mask that is not empty, because an empty prediction of an empty mask has
    a Dice of 1; if every true mask is empty, among all cases. The largest false alarm in an empty mask comes last.
    """
    true = [(mean, case) for case in cases if (mean := case.get("mean_with_truth", case["mean"]))]
    others = [case for case in cases if not case.get("mean_with_truth", case["mean"])]
    if not true:
        true, others = [(case["mean"], case) for case in cases], []
    best_first = [case for mean, case in sorted(true, key=_rank) if mean["dsc"] is not None]
    ordered, size = best_first[::-1], len(best_first)
    places = {place: _worst_name(place) for place in range(min(worst, size))}
    if size > 2:
        places.setdefault((size - 1) // 2, "Median")
    if size > 1:
        places[size - 1] = "Best"
    elif size:
        places[0] = "Only case with truth" if others else "Only case"
    chosen = [(places[place], ordered[place]) for place in sorted(places)]
    alarms = [case for case in others if _predicted_volume(case) > 0]
    return [*chosen, *(("Largest false alarm", case) for case in sorted(alarms, key=_predicted_volume)[-1:])]


def _worst_name(place: int) -> str:
    number = place + 1
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return "Worst" if place == 0 else f"{number}{ending} worst"


def _rank(pair: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[float, str]:
    mean, case = pair
    return -(mean["dsc"] or 0.0), case["name"]


def _predicted_volume(case: Mapping[str, Any]) -> float:
    return sum(float(row["volume_prediction"]) for row in case["classes"].values())


def draw_panel(record: EvaluationRecord, case: Mapping[str, Any], showing: Showing) -> dict[str, Any]:
    """Return the pictures of a case with their legends and a note; if there are no pictures, the note says why."""
    empty: dict[str, Any] = {"rows": [], "classes": {}, "errors": {}}
    if showing.album.full:
        return empty | {"note": f"No picture: the pictures on this page already take {showing.album.most / 1e6:g} MB."}
    try:
        return _draw(record, case, showing)
    except DeconvsegError as error:
        return empty | {"note": f"No picture: {error}."}


def _draw(record: EvaluationRecord, case: Mapping[str, Any], showing: Showing) -> dict[str, Any]:
    truth, prediction = read_masks(record, case)
    image, notes = read_case_image(record, case, truth)
    labels = {int(value): name for value, name in record.tree["labels"].items()}
    colours = {value: showing.colours[name] for value, name in labels.items() if name in showing.colours}
    channel = None if image is None else choose_channel(image, truth.pixels, prediction.pixels)
    if image is not None and channel is not None and len(image) > 1:
        notes.append(f"{name_channel(channel, len(image), showing.channels)}, in which the truth stands out most")

    def views(plane: Plane, *titles: str) -> CaseViews:
        return case_views(
            image,
            truth.pixels,
            prediction.pixels,
            spacing=truth.geometry.spacing,
            labels=labels,
            colours=colours,
            channel=channel,
            plane=plane,
            slice=wrongest_slice(truth.pixels, prediction.pixels, plane) if truth.pixels.ndim == 3 else None,
            longest=_SMALLER_SIDE if showing.worst > _MANY else LONGEST_SIDE,
            titles=titles,
        )

    drawn = views("axial", "Image", "Truth", "Prediction", "Errors")
    unit = record.tree["unit"] if record.tree["unit"] == "mm" else "pixels" if truth.pixels.ndim == 2 else "mm"
    placed = truth.geometry.placed and truth.pixels.ndim == 3
    rows = [_show(drawn, showing.album, unit, placed=placed)]
    if drawn.slice is not None:
        what = "the most wrong voxels" if (truth.pixels != prediction.pixels).any() else "the most foreground"
        notes.insert(0, f"axial slice {drawn.slice + 1} of {truth.shape[2]}, the one with {what}")
        if image is not None and _cubic(truth.geometry.spacing, truth.shape):
            others = [views(plane, "Image", "Errors") for plane in ("coronal", "sagittal")]
            rows.append([part for each in others for part in _show(each, showing.album, unit, placed=placed)])
        if not placed:
            notes.append("the file does not record the patient's orientation")
    if drawn.zoomed:
        notes.append("the frame in the image marks what the other views show")
    return {"rows": rows, "classes": drawn.classes, "errors": drawn.errors, "note": "; ".join(notes)}


def _cubic(spacing: Sequence[float], shape: Sequence[int]) -> bool:
    """Whether planes other than the axial one are worth showing."""
    return max(spacing) <= _FLATTEST * min(spacing) and min(shape) >= 8


def _show(drawn: CaseViews, album: Album, unit: str, *, placed: bool) -> list[dict[str, Any]]:
    """Return the pictures of a slice; titles name the plane if it is not axial."""
    volume = drawn.slice is not None
    where = (
        f"{drawn.plane.capitalize()} {drawn.slice + 1}: " if drawn.slice is not None and drawn.plane != "axial" else ""
    )
    return [
        picture_of(
            f"{where}{name.lower()}" if where else name,
            pixels,
            drawn.whole_width if name == "Image" else drawn.width,
            unit,
            album,
            placed=placed and volume,
            plane=drawn.plane,
        )
        for name, pixels in drawn.views.items()
    ]


def picture_of(
    title: str,
    pixels: npt.NDArray[np.uint8],
    width: float,
    unit: str,
    album: Album,
    *,
    placed: bool,
    plane: Plane = "axial",
) -> dict[str, Any]:
    """Return a picture with its title and scale, and the sides of the patient if they are known (``placed``)."""
    left, top = _SIDES[plane] if placed else ("", "")
    height, across = pixels.shape[:2]
    return {
        "name": title,
        "uri": album.add(pixels),
        "width": across,
        "height": height,
        "left": left,
        "top": top,
        "bar": scale_bar(width, unit),
    }


def scale_bar(width: float, unit: str) -> dict[str, Any]:
    """Return the scale bar of a picture of that ``width``: 1, 2 or 5 times a power of ten, at most a third of it.

    >>> scale_bar(100.0, "mm")
    {'text': '20 mm', 'percent': 20.0}
    """
    power = 10.0 ** np.floor(np.log10(width / 3))
    length = next(factor * power for factor in (5, 2, 1) if factor * power <= width / 3 or factor == 1)
    return {"text": f"{length:g} {unit}", "percent": round(100 * float(length) / width, 2)}


def name_channel(channel: int, channels: int, names: Sequence[str]) -> str:
    """Return the name of a channel, or its number if the ``names`` do not fit the image."""
    number = f"channel {channel + 1} of {channels}"
    return f"{number} ({names[channel]})" if len(names) == channels else number


def read_case_image(
    record: EvaluationRecord, case: Mapping[str, Any], truth: LabelMap
) -> tuple[npt.NDArray[np.float32] | None, list[str]]:
    """Return the image (C, *S) of a case on the grid of its truth, or None and the reason."""
    if not case["image_files"]:
        return None, ["masks only: the evaluation was not given the images"]
    try:
        files = [record.resolve(file) for file in case["image_files"]]
        found = read_image(files, channels_last=True).canonical()
    except DeconvsegError as error:
        return None, [f"without its image: {error}"]
    if found.shape != truth.shape:
        return None, [f"without its image: its shape is {found.shape}, but that of the masks is {truth.shape}"]
    return found.pixels, []


def read_masks(record: EvaluationRecord, case: Mapping[str, Any]) -> tuple[LabelMap, LabelMap]:
    """Return truth and prediction without ignored voxels, regions painted in order as in the mask that was written."""
    source = case.get("truth_source")
    true = record.resolve(case["truth_file"]) if source is None else MaskSource.from_json(source, record.resolve)
    pair = read_mask_pair(true, record.resolve(case["prediction_file"]), foreground=bool(record.tree.get("foreground")))
    truth, prediction = (mask.canonical() for mask in pair)
    pixels = [mask.pixels for mask in (truth, prediction)]
    ignore = record.tree.get("ignore_label")
    if ignore is not None and pixels[0].shape == pixels[1].shape:
        pixels = [np.where(truth.pixels == ignore, 0, part) for part in pixels]
    paint = _painter(record)
    first, second = (paint(part, mask.white) for part, mask in zip(pixels, (truth, prediction), strict=True))
    return LabelMap(first, truth.geometry), LabelMap(second, prediction.geometry)


def _painter(record: EvaluationRecord) -> Callable[[npt.NDArray[Any], int | None], npt.NDArray[Any]]:
    labels, regions = record.tree["labels"], record.tree.get("regions")

    def paint(pixels: npt.NDArray[Any], white: int | None) -> npt.NDArray[Any]:
        if record.tree.get("foreground"):
            return (pixels > 0).astype(np.uint8)
        if not regions and len(labels) == 1:
            pixels = align_white(pixels, int(next(iter(labels))), white=white)
        if not regions:
            return np.where(np.isin(pixels, [int(value) for value in labels]), pixels, 0)
        painted = np.zeros(pixels.shape, np.int64)
        for value in labels:
            painted[np.isin(pixels, regions.get(value, [int(value)]))] = int(value)
        return painted

    return paint
