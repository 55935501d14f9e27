"""The pictures and the report of a run; their errors do not fail the run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deconvseg.errors import DeconvsegError
from deconvseg.progress import Console
from deconvseg.reporting import render_curves, write_report
from deconvseg.reporting.page import shows_other_metrics
from deconvseg.runs import Run
from deconvseg.system import FOREIGN_ERRORS, first_line
from deconvseg.training.tracking import RunFiles, Tracker


def describe_run(run: Run, console: Console, tracker: Tracker | None = None) -> None:
    """Draw the curves of a run or of a cross-validation, and write its report; an error is printed in one line.

    The ``tracker`` receives the curves as well.
    """
    if rows := run.metrics:
        png = _try("progress.png", lambda: _draw(rows, run), run, console)
        if tracker is not None and png is not None:
            tracker.picture("progress", png)
    fuller = shows_other_metrics(run.path / "report.html")
    with console.track("writing the report"):
        page = _try("report.html", lambda: write_report(run.path), run, console)
    if page is not None:
        console.say(f"report: {page}")
        if fuller:
            console.say(
                "the report is written anew, without the sections of other metrics that it had; add them again with "
                f"'deconvseg report {run.path}' and their files"
            )


def _draw(rows: Sequence[Mapping[str, Any]], run: Run) -> bytes:
    png = render_curves(rows, run.plan.class_colours)
    RunFiles(run).picture("progress", png)
    return png


def _try(name: str, make: Callable[[], Any], run: Run, console: Console) -> Any:
    # Errors of drawing a figure or filling a page must not fail a finished training.
    try:
        return make()
    except (DeconvsegError, OSError, MemoryError, *FOREIGN_ERRORS) as error:
        console.say(
            f"warning: {name} could not be made ({type(error).__name__}: {first_line(error)}); the run is finished "
            f"without it: try 'deconvseg report {run.path}'"
        )
        return None
