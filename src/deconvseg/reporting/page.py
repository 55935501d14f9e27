"""A run as one HTML page that needs no other file."""

from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg._version import __version__
from deconvseg.data import WHITE, list_names
from deconvseg.errors import InputError
from deconvseg.reporting.curves import draw_curves
from deconvseg.reporting.facts import describe_origin, describe_plan, describe_training, flatten, is_hash
from deconvseg.reporting.records import CROSSVAL, EvaluationRecord, RunRecord, read_evaluation, read_run
from deconvseg.reporting.sections import describe_evaluation
from deconvseg.reporting.style import figure_uri
from deconvseg.system import write_text
from deconvseg.text import escape_controls

Location = str | PathLike[str]


def write_report(run: Location, *, evaluations: Sequence[Location] = (), output: Location | None = None) -> Path:
    """Write a run as one self-contained HTML page and return its path (default: ``report.html`` in the run).

    ``evaluations`` are further ``metrics.json`` files, as of the held-out test; the run's own ``validation``, or a
    cross-validation's ``crossval.json``, is found. Every section names its source, and says so where the masks are
    another run's. Whatever is missing is said on the page. Raises
    :class:`InputError` where ``run`` is no folder, holds neither a plan nor metrics, or an evaluation that was given
    cannot be read.
    """
    record = read_run(Path(run))
    given = [read_evaluation(Path(path), record.path) for path in evaluations]
    for evaluation in given:
        _check_labels(record, evaluation)
    gaps = list(record.gaps)
    validation = record.path / "validation" / "metrics.json"
    crossval = record.path / CROSSVAL
    own, title = (crossval, "Cross-validation") if crossval.is_file() else (validation, "Validation")
    if own.is_file():
        try:
            given.append(read_evaluation(own, record.path, title))
        except InputError as error:
            gaps.append(f"{error}.")
    else:
        gaps.append("validation/metrics.json (the validation metrics) is not in the run folder.")
    if not (record.plan or record.metrics or given):
        raise InputError(f"{record.path}: holds neither a plan nor metrics; give the folder that training made")
    target = record.path / "report.html" if output is None else Path(output)
    page = _render(record, given, gaps)
    write_text(target, page)
    return target


def _check_labels(run: RunRecord, evaluation: EvaluationRecord) -> None:
    """Refuse metrics of labels that the run does not know: they are of another dataset."""
    if evaluation.tree.get("foreground"):
        return
    known = {str(value) for value in run.plan.get("labels", {}).get("values", [])}
    found = set(evaluation.tree["labels"])
    # Masks of one class are that class, however they store it.
    white = {str(value) for value in WHITE}
    if len(known) == 2 and len(found) == 1 and known - {"0"} <= white and found <= white:
        return
    if known and (others := sorted(found - known, key=int)):
        raise InputError(
            f"{evaluation.path}: has metrics of the labels {list_names(others)}, which {run.path} was not trained on; "
            f"evaluate the masks with that run's classes (run={run.path}), or give the metrics of that run's masks"
        )


def _show(value: Any) -> Any:
    """Return what a page shows of a value: of a text from outside, characters that hide or reorder it as escapes."""
    # What the template itself has put together is markup already.
    return escape_controls(value) if type(value) is str else value


def _render(run: RunRecord, evaluations: Sequence[EvaluationRecord], gaps: Sequence[str]) -> str:
    from jinja2 import Environment, StrictUndefined

    source = resources.files("deconvseg.reporting").joinpath("report.html.jinja").read_text(encoding="utf-8")
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_show
    ).from_string(source)
    described = [describe_evaluation(record) for record in evaluations]
    return template.render(
        title=run.plan.get("dataset") or run.path.absolute().name,
        folder=run.path.absolute().name,
        model=run.plan.get("model", {}).get("name"),
        version=__version__,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        gaps=gaps,
        evaluations=described,
        meanings=dict.fromkeys(text for each in described for text in each["meanings"]),
        empty_masks=list({str(each["empty_masks"]): each["empty_masks"] for each in described}.values()),
        curves=figure_uri(draw_curves(run.metrics)) if run.metrics else None,
        training=describe_training(run.metrics),
        plan=describe_plan(run.plan),
        doubts=run.plan.get("warnings") or [],
        details=list(flatten({key: run.plan[key] for key in ("model", "recipe") if key in run.plan})),
        command=run.manifest.get("command"),
        origin=describe_origin(run.manifest),
        config=list(flatten(run.config)),
        hashes=[pair for pair in flatten(run.manifest) if is_hash(pair[1])],
    )
