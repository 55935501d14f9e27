"""``deconvseg evaluate`` and ``deconvseg report``."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, list_errors, print_json, table_width, warn
from deconvseg.cli.tables import lay_out
from deconvseg.errors import InputError, check_choice
from deconvseg.options import EvaluateOptions
from deconvseg.text import escape_controls, number_of

# Seconds to wait for another report of the run to record its page.
_PATIENCE = 10.0

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deconvseg.evaluation import Evaluation
    from deconvseg.evaluation.definition import MetricInfo


@options.takes(EvaluateOptions)
def evaluate(json: options.Json = False, **asked: Any) -> None:
    """Compare masks: Dice, HD95, NSD and volumes for every case and class, or the chosen metrics."""
    from deconvseg import evaluation

    result = evaluation.evaluate(**asked, console=Terminal())
    if json:
        print_json(result.to_json())
    else:
        echo(_table(result))
    for text in result.warnings:
        warn(str(text))
    list_errors(result.problems)
    if result.problems or result.unmatched:
        raise typer.Exit(1)


def _table(result: "Evaluation") -> str:
    """Return one line per class and one for the mean over classes, then the number of cases."""
    from deconvseg.data import list_names
    from deconvseg.evaluation.counting import tabulate_counts

    classes = result.summary["classes"].values()
    rows = [row for row in classes if row["counted"]]
    if rows:
        rows.append({"name": "mean", **result.counts, **result.summary["mean"]})
    metrics = result.shown_metrics
    leading, *others = metrics
    heads = (
        *("class", leading.head(result.distance_unit), "with truth"),
        *(metric.head(result.distance_unit) for metric in others),
        *("missed", "false alarms", "both empty"),
    )
    width = table_width()
    lines = lay_out(heads, [_row(row, metrics) for row in rows], width, left=2, rule=False)
    count = len(result.cases)
    lines.append(f"{_describe_cases(result)}; brackets: 95 % confidence interval (bootstrap)")
    lines += [text for text in (result.describe_grid(), result.describe_region_files()) if text]
    for table in tabulate_counts(result.metrics, result.summary):
        cells = [(escape_controls(row[0]), *row[1:]) for row in table.rows]
        lines += [table.title, *lay_out(table.heads, cells, width, rule=False)]
    if absent := [row["name"] for row in classes if not row["counted"]]:
        lines.append(
            f"{'1 class is' if len(absent) == 1 else f'{len(absent)} classes are'} in no true and no predicted mask "
            f"(both empty in all {number_of(count, 'case')}) and not in the mean: {list_names(absent)}"
        )
    if rows:
        lines.append(result.describe())
    if rows and (dropped := result.describe_dropped()):
        lines.append(dropped)
    return "\n".join(lines)


def _describe_cases(result: "Evaluation") -> str:
    """Return the numbers of evaluated, missing and failed cases, and what to do about missing predictions."""
    count, problems, missing = len(result.cases), len(result.problems), len(result.missing)
    text = f"{count} of {number_of(count + problems, 'case')}"
    if not problems:
        return text
    parts = [f"{missing} not predicted"] if missing else []
    parts += [f"{problems - missing} failed"] if problems > missing else []
    text += f"; {' and '.join(parts)}, NOT in these means"
    return f"{text} (predict the others too, or choose cases with --split or --exclude)" if missing else text


def _row(row: dict[str, Any], metrics: "Sequence[MetricInfo]") -> tuple[str, ...]:
    """Return the cells of a class, or of the mean over classes with the counts of all classes."""
    leading, *others = metrics
    interval, true = row[leading.key]["ci95"], row["with_truth"]
    mean = _number(row[leading.key], leading.digits + 1)
    with_truth = row.get("with_truth_masks", row["cases_with_truth"])
    return (
        escape_controls(row["name"]),
        mean + (f" [{interval[0]:.{leading.digits}f}, {interval[1]:.{leading.digits}f}]" if interval else ""),
        "–" if true is None else _number(true[leading.key], leading.digits + 1),
        *(_number(row[metric.key], metric.digits) + _of_cases(metric, row[metric.key]) for metric in others),
        f"{row['missed']} of {with_truth}",
        f"{row['spurious']} of {row.get('without_truth_masks', row['cases'] - row['cases_with_truth'])}",
        str(row["both_empty"]),
    )


def _of_cases(metric: "MetricInfo", statistics: dict[str, Any]) -> str:
    """Return the number of cases with a value, for a metric that has none in some."""
    found, dropped = statistics["cases"], statistics["dropped"]
    return f" ({found} of {found + dropped})" if metric.drops else ""


def _number(statistics: dict[str, Any], digits: int) -> str:
    return "–" if statistics["mean"] is None else f"{statistics['mean']:.{digits}f}"


Runs = Annotated[
    list[Path],
    typer.Argument(
        help="A run; two or more runs, or their metrics.json, to compare; or a folder of masks.", metavar="RUN..."
    ),
]
Metrics = Annotated[
    list[Path] | None,
    typer.Option(
        "--metrics",
        help="A metrics.json of 'deconvseg evaluate' to show as well (held-out cases); for several runs, one for each "
        "in the same order.",
    ),
]
Page = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Page to write; by default RUN/report.html, or compare.html for several runs."),
]
Cases = Annotated[
    int | None,
    typer.Option(
        "--cases",
        min=0,
        max=1000,
        help="Number of worst (or most different) cases with pictures (6), or of masks (200).",
    ),
]
Scans = Annotated[
    Path | None, typer.Option("--images", help="Scans of a folder of masks, over which the masks are shown.")
]
Figure = Annotated[
    Path | None,
    typer.Option("--figure", help="Picture (.png, .pdf, .svg) of two or more runs on the same cases, not a page."),
]
Look = Annotated[
    str | None,
    typer.Option(
        "--look",
        help="How --figure shows masks: errors (blue right, green false positive, red missed; default), masks "
        "(white on black), or classes (colours).",
    ),
]
Crops = Annotated[
    int | None, typer.Option("--crops", min=0, max=4, help="Number of enlarged regions for each case of --figure.")
]
Names = Annotated[list[str] | None, typer.Option("--case", help="A case to show in --figure; give it again for more.")]


def report(
    runs: Runs,
    metrics: Metrics = None,
    output: Page = None,
    cases: Cases = None,
    images: Scans = None,
    figure: Figure = None,
    look: Look = None,
    crops: Crops = None,
    names: Names = None,
    json: options.Json = False,
) -> None:
    """Write one self-contained HTML page about a run, about several runs side by side, or about predicted masks.

    For several runs, the numbers are also written next to the page, to a .json file of its name.
    """
    from deconvseg.reporting.masks import is_mask_folder

    if figure is not None:
        _draw(runs, metrics or [], figure, cases, look or "errors", crops or 0, names or [])
        return
    if look is not None or crops is not None or names:
        raise InputError("--look, --crops and --case are for --figure; give a picture to write, such as cases.png")
    masks = len(runs) == 1 and is_mask_folder(runs[0])
    if images is not None and not masks:
        raise InputError("--images is for one folder of predicted masks; the report of a run finds its own images")
    if len(runs) > 1:
        _compare(runs, metrics or [], Path("compare.html") if output is None else output, cases, json=json)
        return
    if json:
        raise InputError("--json is for two or more runs; the numbers of one run are in its validation/metrics.json")
    if masks:
        if metrics:
            raise InputError(f"--metrics: {runs[0]} contains masks, not a run; give the run's folder to show metrics")
        _report_masks(runs[0], images, output, cases)
        return
    _report_run(runs[0], metrics or [], output, cases)


def _draw(
    runs: list[Path], metrics: list[Path], figure: Path, cases: int | None, look: str, crops: int, names: list[str]
) -> None:
    from deconvseg.reporting import write_network_figure
    from deconvseg.reporting.side_by_side import LOOKS

    check_choice(look, LOOKS, "--look")
    chosen = next(each for each in LOOKS if each == look)
    most = 2 if cases is None else cases
    echo_path(
        write_network_figure(runs, figure, evaluations=metrics, cases=most, chosen=names, look=chosen, crops=crops)
    )


def _compare(runs: list[Path], metrics: list[Path], output: Path, cases: int | None, *, json: bool) -> None:
    from deconvseg.reporting.comparison import write_comparison
    from deconvseg.reporting.gallery import WORST

    comparison = write_comparison(runs, output, evaluations=metrics, cases=WORST if cases is None else cases)
    if json:
        print_json(comparison.to_json())
        return
    for note in comparison.notes:
        warn(note)
    echo_path(output)


def _report_masks(masks: Path, images: Path | None, output: Path | None, cases: int | None) -> None:
    from deconvseg.reporting.masks_page import MOST_PICTURES, write_mask_report

    echo_path(write_mask_report(masks, images=images, output=output, most=MOST_PICTURES if cases is None else cases))


def _report_run(run: Path, metrics: list[Path], output: Path | None, cases: int | None) -> None:
    from deconvseg.reporting import write_report
    from deconvseg.reporting.gallery import WORST
    from deconvseg.runs import Run
    from deconvseg.system import hold

    with Terminal().track(f"writing the report of {run}"):
        page = write_report(run, evaluations=metrics, output=output, cases=WORST if cases is None else cases)
    echo_path(page)
    # The manifest of an unfinished run belongs to its training, which may be running.
    # The page lists missing and damaged files; a resumed run records all its files at its end.
    with suppress(InputError):
        if output is None and (record := Run.open(run)).finished:
            with hold(run, patience=_PATIENCE):
                record.record_hash(page.name)
