"""Extension of a run: its new end, and the continuation of its learning rate."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from deconvseg.errors import InputError
from deconvseg.options import TrainOptions
from deconvseg.planning import Plan
from deconvseg.progress import Console
from deconvseg.runs import Run, change_run
from deconvseg.text import number_of
from deconvseg.training.checkpoint import completed_epochs
from deconvseg.training.schedule import Rise
from deconvseg.units import format_time

# The key of extensions in the manifest.
_RECORD = "extended"


@dataclass(frozen=True)
class End:
    """The end of a training: a number of epochs, seconds of training, or whichever comes first."""

    epochs: int | None
    seconds: float | None

    def __str__(self) -> str:
        epochs = None if self.epochs is None else number_of(self.epochs, "epoch")
        return " or ".join(filter(None, (epochs, None if self.seconds is None else format_time(self.seconds))))

    def progress(self, steps: int, seconds: float, steps_per_epoch: int) -> float:
        """Return the finished fraction of the training after this many steps and seconds."""
        by_steps = 0.0 if self.epochs is None else steps / (self.epochs * steps_per_epoch)
        return max(by_steps, 0.0 if self.seconds is None else seconds / self.seconds)


def planned_end(options: TrainOptions, plan: Plan) -> End:
    """Return the end of a training that was not extended."""
    return End(options.max_epochs(plan), options.max_seconds)


def end_of(run: Run, options: TrainOptions) -> tuple[End, Rise | None]:
    """Return the current end of a run, and the rise of its learning rate since its last extension."""
    last = _last(run)
    if last is None:
        return planned_end(options, run.plan), None
    return End(last["epochs"], last["seconds"]), Rise(last["from_progress"], last["from_factor"])


def asks_for_more(run: Run, saved: TrainOptions, asked: TrainOptions) -> End | None:
    """Return the requested end if it differs from the end of the run, else None.

    The request replaces the former end: with ``epochs`` alone, the former time limit no longer applies. Raises
    :class:`InputError` if the run is already past the requested end.
    """
    if asked.epochs is None and asked.max_seconds is None:
        return None
    now, _ = end_of(run, saved)
    same = all(
        wanted is None or wanted == known
        for wanted, known in ((asked.epochs, now.epochs), (asked.max_seconds, now.seconds))
    )
    rows = _completed(run)
    # The epochs of a run that its time limit ended early are still to be trained if they are requested alone.
    by_the_clock = run.finished and asked.max_seconds is None and len(rows) < (asked.epochs or 0)
    if same and not by_the_clock:
        return None
    if not rows:
        raise InputError(
            f"`resume=True`: {run.path} has no completed epoch yet and continues as it was started ({now}); omit "
            "`epochs` and `max_seconds`, or start a new run"
        )
    done, seconds = len(rows), float(rows[-1]["seconds"])
    if asked.epochs is not None and asked.epochs < done:
        raise InputError(
            f"`epochs={asked.epochs}`: {run.path} has already completed {number_of(done, 'epoch')}; give more"
        )
    if asked.max_seconds is not None and asked.max_seconds <= seconds:
        raise InputError(
            f"`max_seconds={asked.max_seconds:g}`: {run.path} has already trained for {format_time(seconds)}; give "
            "more time"
        )
    return End(asked.epochs, asked.max_seconds)


def go_further(run: Run, saved: TrainOptions, end: End, console: Console) -> TrainOptions:
    """Set another end in the plan, the ``config.json`` and the manifest of a run; return its options.

    The learning rate follows the schedule of the new length. It moves there from its current value in a short rise
    (:class:`~deconvseg.training.schedule.Rise`).
    """
    plan, rows = run.plan, _completed(run)
    before, _ = end_of(run, saved)
    options = replace(saved, epochs=end.epochs, max_seconds=end.seconds)
    changed = plan if end.epochs is None else plan.with_values({"recipe.epochs": end.epochs})
    steps, seconds, rate = (rows[-1][key] for key in ("step", "seconds", "learning_rate"))
    entry = {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "after_epochs": len(rows),
        "before": asdict(before),
        **asdict(end),
        "from_progress": min(1.0, end.progress(steps, seconds, plan.steps_per_epoch(len(run.splits["train"])))),
        "from_factor": rate / plan.recipe.learning_rate,
    }
    # An extension that was interrupted while it was being written is written again.
    earlier = [kept for kept in _entries(run) if kept["after_epochs"] < len(rows)]
    config = {**run.config, "epochs": end.epochs, "max_seconds": end.seconds}
    change_run(run, changed, config, finished=False, **{_RECORD: [*earlier, entry]})
    console.say(
        f"the run is extended: {number_of(len(rows), 'epoch')} are done, and it now ends after {end} (before: "
        f"{before}); the learning rate rises from {rate:.2g} to the schedule of the new length"
    )
    return options


def _completed(run: Run) -> list[Mapping[str, Any]]:
    """Return the rows of the completed epochs of a resumed run."""
    done = completed_epochs(run.resume_file) if run.resume_file.is_file() else 0
    return list(run.metrics[:done])


def _entries(run: Run) -> list[Mapping[str, Any]]:
    found = run.manifest.get(_RECORD, [])
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _last(run: Run) -> Mapping[str, Any] | None:
    entries = _entries(run)
    return entries[-1] if entries else None
