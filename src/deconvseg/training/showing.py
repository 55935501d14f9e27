"""Pictures of validation cases, for trackers."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from deconvseg.errors import DeconvsegError
from deconvseg.progress import Console
from deconvseg.reporting import case_panel
from deconvseg.reporting.gallery import choose_cases, read_case_image, read_masks
from deconvseg.reporting.records import read_evaluation
from deconvseg.runs import Run
from deconvseg.system import FOREIGN_ERRORS, first_line
from deconvseg.training.tracking import Guests


def show_validation(run: Run, guests: Guests, console: Console) -> None:
    """Give the trackers the worst, the median and the best validation case; an error is printed in one line.

    The pictures are named by rank and not by case, because some trackers send them to other computers.
    """
    if not guests.trackers or not (run.validation / "metrics.json").is_file():
        return
    try:
        for name, png in _pictures(run):
            guests.picture(name, png)
    except (DeconvsegError, OSError, MemoryError, *FOREIGN_ERRORS) as error:
        console.say(f"warning: no pictures for the trackers ({type(error).__name__}: {first_line(error)})")


def _pictures(run: Run) -> Iterator[tuple[str, bytes]]:
    record = read_evaluation(run.validation / "metrics.json", run.path)
    labels = {int(value): name for value, name in record.tree["labels"].items()}
    for place, case in choose_cases(record.tree["cases"], worst=1):
        truth, prediction = read_masks(record, case)
        image, _ = read_case_image(record, case, truth)
        mean = case.get("mean_with_truth") or case["mean"]
        dice = "" if mean["dsc"] is None else f", Dice {mean['dsc']:.3f}"
        figure = case_panel(
            image,
            truth.pixels,
            prediction.pixels,
            spacing=truth.geometry.spacing,
            title=f"{place} validation case{dice}",
            labels=labels,
        )
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        yield f"validation_{place.lower().replace(' ', '_')}", buffer.getvalue()
