"""The test cases of a cross-validation, by the model of each fold and by the mean of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg.data import Dataset, Splits, list_names
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import Evaluation, evaluate, read_evaluation
from deconvseg.evaluation.definition import MetricInfo
from deconvseg.experiments.folds import fold_run
from deconvseg.experiments.tasks import Executor, Task
from deconvseg.inference import predict
from deconvseg.options import TrainOptions
from deconvseg.progress import Console, Quiet
from deconvseg.runs import Run
from deconvseg.system import write_text
from deconvseg.text import dump_json

TEST, AVERAGE = "test", "average"
_Row = Mapping[str, Any]
_METRICS = "metrics.json"
# The options of a training that say how the files of its dataset are read.
_READING = ("image", "mask", "labels", "exclude")


@dataclass(frozen=True)
class ScoredFolds:
    """The metrics of the test cases: of each fold's model, and of their ``average``, the mean of their probabilities.

    ``average`` is None of a single fold, and until all folds are finished. ``failed`` has the reasons of failures by
    the name of the folder, ``fold_0`` … or ``average``.

    Example:
        >>> from deconvseg.experiments import crossval
        >>> result = crossval("DATASET", "TESTED", plan="plan.json", folds=2, test=True, device="cpu", jobs=1, epochs=1)
        >>> result.test.cases, sorted(result.test.folds), result.test.problems
        (2, [0, 1], ())
        >>> sorted(result.test.spread()["mean"]["dsc"])
        ['average', 'fold_means', 'mean', 'std_folds']

    """

    folds: Mapping[int, Evaluation]
    average: Evaluation | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """The metrics of every evaluation."""
        return next((found.metrics for found in self._evaluations), ())

    @property
    def cases(self) -> int:
        """The number of evaluated test cases."""
        return max((len(found.cases) for found in self._evaluations), default=0)

    @property
    def problems(self) -> tuple[str, ...]:
        """Models that failed, then cases that could not be evaluated."""
        failed = [f"test cases by {name}: {text}" for name, text in self.failed.items()]
        return (*failed, *dict.fromkeys(text for found in self._evaluations for text in found.problems))

    @property
    def _evaluations(self) -> list[Evaluation]:
        return [*self.folds.values(), *([] if self.average is None else [self.average])]

    def spread(self) -> dict[str, Any]:
        """Return the folds' means, their mean and deviation, and the average model's mean, of each class and overall.

        Each mean is over the test cases; ``std_folds`` is the deviation of the folds' means (None of a single one).
        """
        folds = [found.summary for found in self.folds.values()]
        average = None if self.average is None else self.average.summary
        every = [*folds, *([] if average is None else [average])]
        labels = {str(value): name for found in self._evaluations for value, name in found.labels.items()}
        classes = {}
        for value, name in labels.items():
            rows = [summary["classes"][value] for summary in folds]
            own = None if average is None else average["classes"][value]
            counted = any(summary["classes"][value]["counted"] for summary in every)
            classes[value] = {"name": name, "counted": counted, **self._describe(rows, own)}
        own = None if average is None else average["mean"]
        return {"classes": classes, "mean": self._describe([summary["mean"] for summary in folds], own)}

    def to_json(self) -> dict[str, Any]:
        """Return the names of the files with the metrics, relative to the cross-validation, and the spread."""
        return {
            "cases": self.cases,
            "folds": [{"fold": fold, "metrics": f"{TEST}/fold_{fold}/{_METRICS}"} for fold in self.folds],
            "average": None if self.average is None else f"{TEST}/{AVERAGE}/{_METRICS}",
            "failed": dict(self.failed),
            "spread": self.spread() if self.cases else None,
        }

    def _describe(self, folds: Sequence[_Row], average: _Row | None) -> dict[str, Any]:
        return {metric.key: _describe_metric(metric.key, folds, average) for metric in self.metrics}


def _describe_metric(key: str, folds: Sequence[_Row], average: _Row | None) -> dict[str, Any]:
    means = [row[key]["mean"] for row in folds]
    known = [mean for mean in means if mean is not None]
    return {
        "fold_means": means,
        "mean": float(np.mean(known)) if known else None,
        "std_folds": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "average": None if average is None else average[key]["mean"],
    }


def find_test_cases(data: Dataset, parts: Sequence[Splits]) -> tuple[str, ...]:
    """Return the test cases of the folds, or else those that the layout declares and that are in no fold.

    Raises :class:`~deconvseg.errors.InputError` if there are none, the folds have different ones, or one has no mask.
    """
    if len({frozenset(part.test) for part in parts}) > 1:
        raise InputError(
            f"`test=True`: the folds of {data.root} have different test cases, but their models are compared on the "
            'same ones; list the same under "test" in each fold'
        )
    held = {name for part in parts for name in (*part.train, *part.val)}
    declared = tuple(name for name in data.labelled_names if name in data.declared_test and name not in held)
    names = parts[0].test or declared
    if not names:
        raise InputError(
            f'`test=True`: {data.root} has no test cases; list them in a file of splits ({{"test": […]}}, or under '
            '"test" in each fold of splits_final.json), or in the column split of a CSV'
        )
    if unlabelled := sorted(set(names) - set(data.labelled_names)):
        raise InputError(f"`test=True`: test cases without a mask cannot be scored: {list_names(unlabelled)}")
    return names


def prepare_tests(run: Run, names: Sequence[str]) -> None:
    """Write the names of the test cases into the folder of a cross-validation."""
    (run.path / TEST).mkdir(exist_ok=True)
    write_text(_splits_of(run), dump_json({"test": list(names)}) + "\n")


def has_tests(run: Run) -> bool:
    """Return whether the test cases of a cross-validation are predicted too."""
    return _splits_of(run).is_file()


def score_tests(
    run: Run, done: Sequence[int], folds: int, options: TrainOptions, executor: Executor, console: Console
) -> ScoredFolds:
    """Predict and evaluate the test cases with the finished folds, and with their average if no fold is missing.

    Masks of the same weights are kept. A model that fails does not stop the others.
    """
    members = {f"fold_{fold}": [fold] for fold in done}
    # The mean of a single model is that model.
    if len(done) == folds > 1:
        members[AVERAGE] = list(done)
    tasks = {_key(name): name for name in members}
    failed: dict[str, str] = {}
    asked = [_task(run, name, [fold_run(run, fold) for fold in used], options) for name, used in members.items()]
    with (
        console.track("models on the test cases", len(asked)) as progress,
        closing(executor.run(asked, console)) as outcomes,
    ):
        for count, outcome in enumerate(outcomes, 1):
            progress(count)
            if outcome.problem is not None:
                failed[tasks[outcome.task.key]] = outcome.problem
                console.say(f"{outcome.task.key}: failed: {outcome.problem}")
    found = {name: read_evaluation(run.path / TEST / name / _METRICS) for name in members if name not in failed}
    own = {fold: found[f"fold_{fold}"] for fold in done if f"fold_{fold}" in found}
    return ScoredFolds(own, found.get(AVERAGE), failed)


def _key(name: str) -> str:
    return f"test cases, {name.replace('_', ' ')}"


def _task(run: Run, name: str, members: Sequence[Run], options: TrainOptions) -> Task:
    arguments = {
        "dataset": options.dataset,
        "models": [str(member.path) for member in members],
        "output": str(run.path / TEST / name),
        "splits": str(_splits_of(run)),
        "device": options.device,
        "reading": {key: getattr(options, key) for key in _READING},
    }
    return Task(_key(name), f"{__name__}:score_masks", arguments)


def score_masks(
    *,
    console: Console,
    dataset: str,
    models: Sequence[str],
    output: str,
    splits: str,
    device: str,
    reading: Mapping[str, Any],
) -> None:
    """Write the masks of the test cases, and their metrics, by one run or by the mean of several.

    They are those of the default rule in float32 without post-processing, as the held-out masks of a fold are.
    """
    part = {key: value for key, value in reading.items() if key != "labels"}
    masks = predict(
        dataset,
        list(models),
        output,
        splits=splits,
        split="test",
        device=device,
        precision="32",
        postprocess=False,
        threshold="default",
        skip_existing=True,
        save_regions=Run.open(models[0]).plan.scored_by_region,
        console=Quiet(console),
        **part,
    )
    if not (masks.written or masks.skipped):
        raise DeconvsegError(f"no test case could be predicted, first: {masks.problems[0]}")
    result = evaluate(
        *(dataset, output, Path(output) / _METRICS),
        run=models[0],
        splits=splits,
        split="test",
        console=Quiet(console),
        **reading,
    )
    console.say(result.describe())


def _splits_of(run: Run) -> Path:
    return run.path / TEST / "splits.json"
