"""Prediction of many cases with an executor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.experiments.executor import Serial
from deconvseg.experiments.tasks import Executor, Outcome, Task
from deconvseg.inference import ExpectedMasks, MaskFormat, Prediction, choose_cases, fetched, plan_and_runs, predict
from deconvseg.options import MODELS, OBJECT, PLACE, Option, PredictOptions, declared_options, takes
from deconvseg.progress import Console, choose_console

_Path = str | PathLike[str]
_Part = tuple[str, ...]
# The options that select cases.
_PART = ("splits", "split", "fold", "image", "mask", "exclude", "series", "channel")


@dataclass(frozen=True)
class _Arguments(PredictOptions):
    images: Annotated[_Path, Option("A file, a folder of files, or a dataset.", PLACE)]
    models: Annotated[_Path | Sequence[_Path], Option("Runs or cross-validations: one, or several to average.", MODELS)]
    output: Annotated[_Path, Option("Folder for the masks.", PLACE)]
    _: KW_ONLY
    executor: Annotated[Executor | None, Option("What predicts the parts; this process if not given.", OBJECT)] = None


@takes(_Arguments)
def predict_many(asked: _Arguments) -> Prediction:
    """Write the masks of a file, a folder or a dataset as :func:`deconvseg.predict` does, by tasks of an executor.

    The ``executor`` is this process if not given. Each of its slots takes a part of the cases; ``memory`` applies to
    each case, so several cases take it at the same time. The other arguments are those of :func:`deconvseg.predict`.

    If a task ends early, the masks that it has written are kept, and the rest is predicted by other tasks: the
    case in progress and the next one each alone. A case whose own task fails as well is one of the ``problems``.
    Raises :class:`~deconvseg.errors.InputError` if no part can be predicted, for example because a run is missing.

    Example:
        >>> from deconvseg.experiments import Serial, predict_many
        >>> done = predict_many("SCANS", "RUN", "NEW_MASKS", device="cpu", executor=Serial())
        >>> len(done.written), done.problems
        (8, [])

    """
    executor = asked.executor or Serial()
    models = [asked.models] if isinstance(asked.models, str | PathLike) else asked.models
    arguments = {
        **{
            name: getattr(asked, name)
            for name, option, _ in declared_options(PredictOptions)
            if not option.kind.python_only
        },
        "images": asked.images,
        "models": [str(model) for model in models],
        "output": asked.output,
    }
    spreading = _Spreading(arguments, executor, choose_console(asked.console))
    if executor.slots == 1:
        return spreading.whole()
    with fetched(asked.images, choose_console(asked.console)) as images:
        return _predict_parts(asked, models, spreading, images)


def _predict_parts(asked: _Arguments, models: Sequence[_Path], spreading: _Spreading, images: _Path) -> Prediction:
    """Predict the images in parts, unless there is only one case."""
    arguments = spreading.arguments = {**spreading.arguments, "images": images}
    plan, runs = plan_and_runs(models)
    # The tasks give the same warnings.
    part = {name: arguments[name] for name in _PART}
    cases, _, _ = choose_cases(Path(images), plan, runs, **part, told=Prediction())
    if len(cases) < 2:
        return spreading.whole()
    expected = ExpectedMasks(plan, cases, Path(asked.output), asked.bids, MaskFormat(asked.to, asked.anonymise))
    return spreading.parts([case.name for case in cases], expected)


def predict_part(*, console: Console, **arguments: Any) -> dict[str, Any]:
    """Predict some cases, and return the result as plain types."""
    return predict(**arguments, console=console).to_json()


class _Spreading:
    """One prediction, by one or several tasks."""

    def __init__(self, arguments: Mapping[str, Any], executor: Executor, console: Console) -> None:
        self.arguments = arguments
        self.executor = executor
        self.console = console

    def whole(self) -> Prediction:
        """Predict everything with one task, whose error is raised."""
        (outcome,) = self._run({"": None})
        if outcome.error is not None:
            raise outcome.error
        return Prediction.from_json(outcome.value)

    def parts(self, names: Sequence[str], expected: ExpectedMasks) -> Prediction:
        """Predict the cases in one part per slot, then the cases that ended tasks have left."""
        slots = min(self.executor.slots, len(names))
        result = Prediction()
        alone: list[str] = []
        parts: list[_Part] = [tuple(names[first::slots]) for first in range(slots)]
        while parts:
            outcomes = self._run({f"part {n} of {len(parts)}": part for n, part in enumerate(parts, 1)})
            if all(isinstance(outcome.error, InputError) for outcome in outcomes) and not result.models:
                raise outcomes[0].error  # type: ignore[misc]
            parts = []
            for outcome in outcomes:
                left = self._take(outcome, result, expected)
                alone += left[:2]
                parts += [left[2:]] if left[2:] else []
        for name in alone:
            # One at a time: memory may have run out because several ran together.
            (outcome,) = self._run({name: (name,)})
            if self._take(outcome, result, expected):
                result.add(expected.fail(name, outcome.problem or "has no mask"))
        order = {path: number for number, path in enumerate(expected.paths.values())}
        for paths in (result.written, result.skipped, result.empty):
            paths.sort(key=order.__getitem__)
        return result

    def _run(self, parts: Mapping[str, _Part | None]) -> list[Outcome]:
        tasks = [
            Task(key, f"{__name__}:predict_part", {**self.arguments, "cases": None if part is None else list(part)})
            for key, part in parts.items()
        ]
        ended: dict[str, Outcome] = {}
        with closing(self.executor.run(tasks, self.console)) as outcomes:
            for outcome in outcomes:
                ended.setdefault(outcome.task.key, outcome)
        lost = DeconvsegError(f"{type(self.executor).__name__} gave no outcome of it")
        return [ended.get(task.key, Outcome(task, error=lost)) for task in tasks]

    def _take(self, outcome: Outcome, result: Prediction, expected: ExpectedMasks) -> _Part:
        """Add a task's result, and return the cases that it has left."""
        if outcome.error is None:
            result.add(Prediction.from_json(outcome.value))
            return ()
        names: Sequence[str] = outcome.task.arguments["cases"]
        made = expected.made(names)
        result.add(made)
        left = tuple(name for name in names if expected.paths[name] not in made.written)
        self.console.say(f"{outcome.task.key}: failed: {outcome.problem}; {len(left)} of {len(names)} cases are left")
        return left
