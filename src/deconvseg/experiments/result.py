"""The result of a cross-validation: the metrics of the out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg.evaluation import CaseMetrics, Evaluation
from deconvseg.experiments.testing import ScoredFolds
from deconvseg.inference import Postprocessing
from deconvseg.reporting.facts import describe_gain
from deconvseg.text import number_of

FILE_NAME = "crossval.json"
_ScoresOf = Callable[[CaseMetrics], Mapping[str, Any] | None]


@dataclass(frozen=True)
class CrossValidation:
    """The held-out metrics of a cross-validation in ``path``, and the post-processing chosen by them.

    ``folds`` has the evaluated cases of each finished fold; ``failed`` the reasons of failures. Post-processing is
    chosen only if all folds are finished. ``weights`` records the choice of the weights, "final" or "best", and their
    SHA-256 by fold. ``test`` has the metrics of the test cases, if they were asked for.
    """

    path: Path
    evaluation: Evaluation
    folds: Mapping[int, tuple[str, ...]]
    failed: Mapping[int, str]
    postprocessing: Postprocessing | None = None
    weights: Mapping[str, Any] = field(default_factory=dict)
    test: ScoredFolds | None = None

    @property
    def mean_dice(self) -> float:
        """The mean over cases of the mean Dice over classes."""
        return self.evaluation.mean_dice

    @property
    def problems(self) -> tuple[str, ...]:
        """Folds that failed, cases that could not be evaluated, and both for the test cases."""
        failed = [f"fold {fold}: {text}" for fold, text in self.failed.items()]
        return (*failed, *self.evaluation.problems, *(self.test.problems if self.test else ()))

    def spread(self) -> dict[str, Any]:
        """Return mean, deviation over cases, the folds' means and their deviation, of each class and their mean.

        ``with_truth`` has the same of the Dice over the ``cases_with_truth``, None without such cases. The mean
        is over the classes that occur in a mask of any fold, which ``counted`` lists.
        """
        evaluation = self.evaluation
        counts = evaluation.summary
        return {
            "classes": {
                str(value): {
                    "name": name,
                    "counted": counts["classes"][str(value)]["counted"],
                    **self._describe(partial(_class_scores, value=value), partial(_true_scores, value=value)),
                }
                for value, name in evaluation.labels.items()
            },
            "mean": {
                **{key: counts["mean"][key] for key in ("classes", "absent_classes")},
                **self._describe(lambda case: case.mean, lambda case: case.mean_with_truth),
            },
        }

    def describe_postprocessing(self) -> list[str]:
        """Return lines about the chosen steps and their effect on cases that were not used to choose them."""
        if self.postprocessing is None:
            return []
        true = self.postprocessing.with_truth_by_other_folds
        gains = ", ".join(
            describe_gain(name, pair, true.get(name)) for name, pair in self.postprocessing.by_other_folds.items()
        )
        steps = [f"post-processing: {step.describe()}" for step in self.postprocessing.steps]
        if not steps and any(trial.taken for trial in self.postprocessing.trials):
            steps = ["post-processing: none, because steps that help these cases do not help those of other folds"]
        none = [f"post-processing: none, because none of {number_of(len(self.postprocessing.trials), 'step')} helped"]
        return [*(steps or none), f"mean Dice with the steps chosen on the other folds: {gains}"]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as plain types, with the folds, the spread and the post-processing."""
        return {**self.evaluation.to_json(self.path.absolute()), **self._further()}

    def write(self) -> Path:
        """Write ``crossval.json``, ``crossval_summary.json`` (nnU-Net's format), ``crossval.csv``; return the first."""
        self.evaluation.write(self.path / FILE_NAME, self._further(), shared=True)
        return self.path / FILE_NAME

    def _further(self) -> dict[str, Any]:
        chosen = self.postprocessing
        return {
            "folds": [{"fold": fold, "cases": list(names)} for fold, names in self.folds.items()],
            "failed_folds": {str(fold): text for fold, text in self.failed.items()},
            "weights": dict(self.weights),
            "test": None if self.test is None else self.test.to_json(),
            "spread": self.spread() if self.evaluation.cases else None,
            "postprocessing": None
            if chosen is None
            else {
                "steps": [step.describe() for step in chosen.steps],
                "dice_by_other_folds": {n: _gain(pair) for n, pair in chosen.by_other_folds.items()},
                "with_truth_by_other_folds": {n: _gain(pair) for n, pair in chosen.with_truth_by_other_folds.items()},
            },
        }

    def _describe(self, scores_of: _ScoresOf, true_scores_of: _ScoresOf) -> dict[str, Any]:
        by_fold = [[case for case in self.evaluation.cases if case.name in set(names)] for names in self.folds.values()]
        scores = [[found for case in cases if (found := scores_of(case))] for cases in by_fold]
        true = [[found for case in cases if (found := true_scores_of(case))] for cases in by_fold]
        return {
            **{metric.key: _statistics(metric.key, scores) for metric in self.evaluation.metrics},
            "cases_with_truth": sum(map(len, true)),
            "with_truth": _statistics("dsc", true) if any(true) else None,
        }


def _gain(pair: tuple[float, float]) -> dict[str, float]:
    return dict(zip(("before", "after"), pair, strict=True))


def _class_scores(case: CaseMetrics, value: int) -> Mapping[str, Any]:
    return case.metrics[value]


def _true_scores(case: CaseMetrics, value: int) -> Mapping[str, Any] | None:
    return case.metrics[value] if case.has_truth(value) else None


def _statistics(key: str, by_fold: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Describe a metric over the rows of each fold; rows without a value, and folds of such rows, are excluded."""
    folds = [[float(row[key]) for row in fold if row[key] is not None] for fold in by_fold]
    values = np.concatenate([np.asarray(fold, float) for fold in folds])
    means = [float(np.mean(found)) if found else None for found, rows in zip(folds, by_fold, strict=True) if rows]
    known = [mean for mean in means if mean is not None]
    return {
        "mean": float(values.mean()) if len(values) else None,
        "cases": len(values),
        "dropped": sum(map(len, by_fold)) - len(values),
        "std_cases": float(values.std(ddof=1)) if len(values) > 1 else None,
        "fold_means": means,
        "std_folds": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }
