"""``deconvseg evaluate`` and ``deconvseg report``."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, error, print_json, warn
from deconvseg.text import escape_controls

# Seconds that another report of the run may take to record its page.
_PATIENCE = 10.0

if TYPE_CHECKING:
    from deconvseg.evaluation import Evaluation


def evaluate(
    truth: Annotated[Path, typer.Option("-g", "--truth", help="True masks: a folder, a dataset or a file.")],
    prediction: Annotated[Path, typer.Option("-p", "--prediction", help="Predicted masks: a folder or a file.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="metrics.json to write, with summary.json and metrics.csv beside it."),
    ] = None,
    unit: Annotated[str, typer.Option("--unit", help="Unit of distances: mm or voxel.")] = "mm",
    tolerance: Annotated[float, typer.Option("--tolerance", min=0.0, help="Tolerance of NSD, in that unit.")] = 1.0,
    foreground: options.Foreground = False,
    run: Annotated[
        Path | None, typer.Option("--run", help="Score the classes or regions that this run predicts, by its plan.")
    ] = None,
    splits: options.Splits = None,
    split: options.Split = None,
    fold: options.SplitFold = None,
    json: options.Json = False,
) -> None:
    """Compare masks: Dice, HD95, NSD and volumes for every case and class."""
    from deconvseg import evaluation

    if unit not in ("mm", "voxel"):
        raise typer.BadParameter("choose mm or voxel", param_hint="--unit")
    chosen: Literal["mm", "voxel"] = "mm" if unit == "mm" else "voxel"
    result = evaluation.evaluate(
        truth,
        prediction,
        output,
        unit=chosen,
        tolerance=tolerance,
        foreground=foreground,
        run=run,
        splits=splits,
        split=options.parse_split(split),
        fold=fold,
        console=Terminal(),
    )
    if json:
        print_json(result.to_json())
    else:
        echo(_table(result))
    for text in result.warnings:
        warn(str(text))
    for problem in result.problems:
        error(str(problem))
    if result.problems or result.unmatched:
        raise typer.Exit(1)


def _table(result: "Evaluation") -> str:
    """Return one line per class and one for the mean over classes, then what they are over."""
    from deconvseg.data import list_names

    classes = result.summary["classes"].values()
    rows = [row for row in classes if row["counted"]]
    if rows:
        rows.append({"name": "mean", **result.counts, **result.summary["mean"]})
    heads = ("class", "Dice", "with truth", f"HD95 {result.unit}", "NSD", "missed", "false alarms", "both empty")
    cells = [heads, *(_row(row) for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    lines = [
        "  ".join(
            f"{text:{'<' if place < 2 else '>'}{width}}"
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    count, problems = len(result.cases), len(result.problems)
    failed = f"; {problems} failed and are NOT in these means" if problems else ""
    lines.append(f"{count} of {count + problems} cases{failed}; the brackets hold 95 % of bootstrapped means")
    if absent := [row["name"] for row in classes if not row["counted"]]:
        lines.append(
            f"{len(absent)} classes are in no true and no predicted mask (both empty in all {count} cases) and not in "
            f"the mean: {list_names(absent)}"
        )
    if rows:
        lines.append(result.describe())
    return "\n".join(lines)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a class, or of the mean over classes, whose counts are those of all classes together."""
    interval, true = row["dsc"]["ci95"], row["with_truth"]
    dice = f"{row['dsc']['mean']:.4f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
    with_truth = row.get("with_truth_masks", row["cases_with_truth"])
    return (
        escape_controls(row["name"]),
        dice,
        "–" if true is None else f"{true['dsc']['mean']:.4f}",
        f"{row['hd95']['mean']:.2f}",
        f"{row['nsd']['mean']:.3f}",
        f"{row['missed']} of {with_truth}",
        f"{row['spurious']} of {row.get('without_truth_masks', row['cases'] - row['cases_with_truth'])}",
        str(row["both_empty"]),
    )


def report(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    metrics: Annotated[
        list[Path] | None,
        typer.Option("--metrics", help="A metrics.json of 'deconvseg evaluate' to show too (held-out cases)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page to write; RUN/report.html if not given.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from deconvseg.errors import InputError
    from deconvseg.reporting import write_report
    from deconvseg.runs import Run
    from deconvseg.system import hold

    page = write_report(run, evaluations=metrics or [], output=output)
    echo_path(page)
    # The manifest of a run that is not finished is its training's, which may be at work.
    # What is missing or damaged is said on the page; a run that is resumed now records all its files at its end.
    with suppress(InputError):
        if output is None and (record := Run.open(run)).finished:
            with hold(run, patience=_PATIENCE):
                record.record_hash(page.name)
