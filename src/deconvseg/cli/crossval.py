"""``deconvseg crossval``."""

import shlex
from typing import TYPE_CHECKING, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, error, list_errors, loading, print_json, print_table, warn
from deconvseg.options import CrossvalOptions
from deconvseg.system import keep_freed_memory
from deconvseg.text import number_of

if TYPE_CHECKING:
    from deconvseg.evaluation import Evaluation
    from deconvseg.experiments import CrossValidation
    from deconvseg.experiments.testing import ScoredFolds


@options.takes(CrossvalOptions)
def crossval(json: options.Json = False, **asked: Any) -> None:
    """Train a network per fold, score the out-of-fold predictions of all cases, and choose the post-processing.

    'deconvseg predict -m' accepts the folder and averages its folds.
    """
    with loading():
        from deconvseg import experiments

    keep_freed_memory()
    terminal = Terminal()
    result = experiments.crossval(**asked, console=terminal)
    if json:
        print_json(result.to_json())
    else:
        _print(result)
    if not result.failed:
        terminal.say(f"to predict other scans: deconvseg predict -i SCANS -o MASKS -m {shlex.quote(str(result.path))}")
    for text in result.evaluation.warnings:
        warn(text)
    list_errors(result.problems)
    if result.failed:
        error("not all folds are finished; continue with --resume")
    if result.problems:
        raise typer.Exit(1)


def _print(result: "CrossValidation") -> None:
    """Print the mean and standard deviations of each class, and the post-processing."""
    if not result.evaluation.cases:
        return
    spread = result.spread()
    rows = [row for row in spread["classes"].values() if row["counted"]]
    rows += [{"name": "mean", **spread["mean"]}] if len(rows) > 1 else []
    leading, *others = result.evaluation.shown_metrics
    drops = {metric.key for metric in others if metric.drops}
    columns = {leading.key: leading.title, "with_truth": f"{leading.title} with truth"}
    columns |= {metric.key: metric.head(result.evaluation.distance_unit) for metric in others}
    weights = " by the best weights" if result.weights.get("choice") == "best" else ""
    print_table(
        f"{number_of(len(result.evaluation.cases), 'case')}, out-of-fold predictions{weights}: mean ± SD over folds "
        "(over cases)",
        ["class", *columns.values()],
        [[row["name"], *(_cell(row[key], counted=key in drops) for key in columns)] for row in rows],
    )
    echo(result.evaluation.describe())
    for line in result.describe_postprocessing():
        echo(line)
    if result.test is not None and result.test.cases:
        _print_tests(result.test, result.evaluation)
    echo_path(result.path)


def _print_tests(test: "ScoredFolds", found: "Evaluation") -> None:
    """Print the folds' mean and deviation on the test cases, and the score of their average model."""
    spread = test.spread()
    rows = [row for row in spread["classes"].values() if row["counted"]]
    rows += [{"name": "mean", **spread["mean"]}] if len(rows) > 1 else []
    keys = {metric.key: metric.head(found.distance_unit) for metric in found.shown_metrics}
    print_table(
        f"{number_of(test.cases, 'test case')}: mean ± SD over the models of {number_of(len(test.folds), 'fold')}, and "
        "the average of their probabilities",
        ["class", *(head for name in keys.values() for head in (name, f"{name}, average"))],
        [[row["name"], *(text for key in keys for text in _test_cells(row[key]))] for row in rows],
    )


def _test_cells(statistics: dict[str, Any]) -> list[str]:
    mean, folds, average = (
        "–" if statistics[key] is None else f"{statistics[key]:.4f}" for key in ("mean", "std_folds", "average")
    )
    return [f"{mean} ± {folds}", average]


def _cell(statistics: dict[str, Any] | None, *, counted: bool = False) -> str:
    """Return the mean and deviations of a column, with the number of cases that have a value if ``counted``."""
    if statistics is None:
        return "–"
    mean, folds, cases = (
        "–" if statistics[key] is None else f"{statistics[key]:.4f}" for key in ("mean", "std_folds", "std_cases")
    )
    found = f", {statistics['cases']} of {statistics['cases'] + statistics['dropped']}" if counted else ""
    return f"{mean} ± {folds} ({cases}){found}"
