"""A run as one HTML page that needs no other file."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from deconvseg.data import WHITE, list_names
from deconvseg.errors import InputError
from deconvseg.reporting.contents import SECTIONS, Report
from deconvseg.reporting.gallery import WORST
from deconvseg.reporting.records import CROSSVAL, EvaluationRecord, RunRecord, read_evaluation, read_run
from deconvseg.reporting.rendering import render_page
from deconvseg.system import write_text

Location = str | PathLike[str]


def write_report(
    run: Location, *, evaluations: Sequence[Location] = (), output: Location | None = None, cases: int = WORST
) -> Path:
    """Write a run as one self-contained HTML page and return its path (default: ``report.html`` in the run).

    ``evaluations`` are additional ``metrics.json`` files, such as that of the held-out test; the ``validation`` of the
    run, or the ``crossval.json`` of a cross-validation, is found without it. Every section names its source and says if
    the masks are from another run. Pictures show the ``cases`` worst cases of each evaluation, its median case and its
    best case. The page lists everything that is missing. Raises :class:`InputError` if ``run`` is not a folder or holds
    neither a plan nor metrics, or if a given evaluation cannot be read.

    Example:
        >>> import deconvseg
        >>> from deconvseg.reporting import write_report
        >>> scores = deconvseg.evaluate("TRUTH", "MASKS", "metrics.json")
        >>> write_report("RUN", evaluations=["metrics.json"], output="report.html").name
        'report.html'

    """
    report = read_report(Path(run), [Path(path) for path in evaluations], cases)
    record = report.run
    target = record.path / "report.html" if output is None else Path(output)
    folder = record.path.absolute().name
    model = record.plan.get("model", {}).get("name")
    page = render_page(
        title=record.plan.get("dataset") or folder,
        subtitle=(f"Segmentation with {model} · " if model else "") + f"run {folder}",
        sections=[section for build in SECTIONS for section in build(report)],
        gaps=report.gaps,
    )
    write_text(target, page)
    return target


def read_report(run: Path, evaluations: Sequence[Path] = (), worst: int = WORST) -> Report:
    """Read the content of a run's page; raises the errors of :func:`write_report`."""
    record = read_run(run)
    given = [read_evaluation(path, record.path) for path in evaluations]
    for evaluation in given:
        check_labels(record, evaluation)
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
        raise InputError(
            f"{record.path}: contains no plan, no metrics and no masks; give the folder that train or predict wrote"
        )
    return Report(record, given, gaps, worst)


def shows_other_metrics(page: Path) -> bool:
    """Return whether a written report has sections of metrics beside those of the run itself."""
    return page.is_file() and '<section id="evaluation-2">' in page.read_text(encoding="utf-8", errors="replace")


def check_labels(run: RunRecord, evaluation: EvaluationRecord) -> None:
    """Refuse metrics of labels that the run does not have: they belong to another dataset."""
    if evaluation.tree.get("foreground"):
        return
    known = {str(value) for value in run.plan.get("labels", {}).get("values", [])}
    found = set(evaluation.tree["labels"])
    # With one class, any label value means that class.
    white = {str(value) for value in WHITE}
    if len(known) == 2 and len(found) == 1 and known - {"0"} <= white and found <= white:
        return
    if known and (others := sorted(found - known, key=int)):
        raise InputError(
            f"{evaluation.path}: has metrics of the labels {list_names(others)}, which {run.path} was not trained on; "
            f"evaluate the masks with that run's classes (run={run.path}), or give the metrics of that run's masks"
        )
