"""The steps from a dataset to a finished run folder."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from deconvseg.errors import InterruptionError
from deconvseg.options import Kind, Option, TrainArguments, TrainOptions, takes
from deconvseg.progress import Console, Timings, choose_console, takes_console
from deconvseg.runs import Run
from deconvseg.system import choose_device
from deconvseg.training.finishing import finish_run
from deconvseg.training.fitting import fit_run
from deconvseg.training.folders import cache_of, using_cache
from deconvseg.training.foreseeing import foresee
from deconvseg.training.launch import kept_epochs, launch, processes
from deconvseg.training.options import resume_options
from deconvseg.training.ranks import Ranks
from deconvseg.training.starting import prepare_run
from deconvseg.training.trackers import create_trackers
from deconvseg.training.tracking import Guests, Tracker


def _check_trackers(values: Any) -> tuple[Tracker, ...]:
    methods = ("start", "log", "picture", "finish")
    for value in values:
        if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in methods):
            raise TypeError
    return tuple(values)


_TRACKERS = Kind(_check_trackers, "a sequence of trackers: objects with start, log, picture and finish")


_DOING = {
    "planning": "planning",
    "preparing": "preparing the cases",
    "training": "training",
    "validation": "predicting the validation cases",
    "report": "writing the report",
}


@dataclass(frozen=True, kw_only=True)
class _Arguments(TrainArguments):
    trackers: Annotated[
        Sequence[Tracker], Option("Receive the values of every epoch; see Tracker.", _TRACKERS, resume="call")
    ] = ()


@takes_console
@takes(_Arguments)
def train(asked: _Arguments) -> Run:
    """Train a network on a dataset and return the finished run.

    Plans (unless ``plan`` is given), prepares, trains, predicts the validation cases, evaluates them and writes the
    report, all in the folder ``output``. The training with its validations ends after ``epochs`` or ``max_seconds``,
    whichever comes first. Preprocessed cases are stored in the folder of the run until it is finished, or permanently
    in ``cache``.

    The batch of the plan is divided among all ``devices``. If torchrun or SLURM has started several processes, each
    calls this function with the same arguments: the first one plans, prepares and writes, and all return the run.

    After every epoch each of the ``trackers`` receives the values that are written to ``metrics.jsonl``; if a tracker
    fails, the error is reported and the tracker is dropped. With several processes, trackers run in the calling one.
    ``track`` names those of this package ("tensorboard", "mlflow", "wandb"), which continue with a resumed run.

    With ``resume`` the run in ``output`` continues after its last completed epoch, with its own options. Without
    ``max_seconds``, and on a CPU with the same number of threads, its weights are then bit for bit those of an
    uninterrupted run.

    Example:
        >>> import deconvseg
        >>> run = deconvseg.train("DATASET", "NEW_RUN", plan="plan.json", device="cpu")
        >>> run.finished, len(run.metrics)
        (True, 2)

    """
    ranks = Ranks.find()
    console = choose_console(asked.console if ranks.leads else None)
    guests = Guests(asked.trackers if ranks.leads else (), console)
    timings = Timings()
    with _explaining_interruption(Path(asked.output), timings):
        run = _train(asked, ranks, console, guests, timings)
    console.say(f"took {timings}")
    return run


def _train(asked: _Arguments, ranks: Ranks, console: Console, guests: Guests, timings: Timings) -> Run:
    """Plan, prepare, train and finish."""
    options, output, resume = TrainOptions.of(asked), Path(asked.output), asked.resume
    with ExitStack() as held:
        with ranks.connected(choose_device(options.device)), ExitStack() as cached:
            ranks.lead(partial(prepare_run, output, options, resume, console, held, timings))
            run = Run.open(output)
            options = resume_options(options, run, further=True) if resume else options
            if ranks.leads:
                cached.enter_context(using_cache(cache_of(run, options)))
            # A run that was stopped before the end of its first epoch starts again.
            resume = resume and run.resume_file.is_file()
            if ranks.leads:
                guests.join(create_trackers(options.track or ()))
            held.enter_context(guests.following(run))
            outlook = foresee(
                run.plan, options, len(run.splits["train"]), len(run.splits["val"]), rows=run.metrics if resume else ()
            )
            if told := outlook.describe(timings.total):
                console.say(told)
            if ranks.size == 1 and processes(options) > 1:
                with timings.part("training"):
                    launch(run, options, resume, console, guests)
            else:
                fit_run(run, options, ranks, resume, console, guests, timings)
        if ranks.leads:
            with run.advising():
                finish_run(run, options, console, guests, timings)
    return run


@contextmanager
def _explaining_interruption(output: Path, timings: Timings) -> Iterator[None]:
    """Say at Ctrl-C what is kept and how to continue."""
    try:
        yield
    except (KeyboardInterrupt, InterruptionError) as interruption:
        stage, run = timings.at_work, Run(output)
        if stage == "training" and isinstance(interruption, InterruptionError):
            raise
        if stage in ("validation", "report"):
            kept = f"the trained weights are kept in {output}; `resume=True` adds the validation and the report"
        elif (output / "plan.json").is_file():
            kept = kept_epochs(run)
        else:
            kept = "nothing was written; start it again in the same way"
        text = f"interrupted while {_DOING[stage]}; {kept}" if stage in _DOING else f"interrupted; {kept}"
        raise InterruptionError(text) from interruption
