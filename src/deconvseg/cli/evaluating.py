"""``deconvseg evaluate`` and ``deconvseg report``."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, error, print_json, warn

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
        progress=lambda cases: Terminal().track(cases, "evaluating"),
    )
    if json:
        print_json(result.to_json())
    else:
        typer.echo(_table(result))
    for text in result.warnings:
        warn(str(text))
    for problem in result.problems:
        error(str(problem))
    if result.problems:
        raise typer.Exit(1)


def _table(result: "Evaluation") -> str:
    """Return one line per class, and one for the mean over classes."""
    lines = [f"{'class':16} {'Dice':22} {'HD95 ' + result.unit:>9} {'NSD':>6} {'missed':>7} {'spurious':>9}"]
    rows = [*result.summary["classes"].values(), {"name": "mean", **result.summary["mean"]}]
    for row in rows if result.cases else []:
        interval = row["dsc"]["ci95"]
        dice = f"{row['dsc']['mean']:.4f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
        counts = f"{row['missed']:7} {row['spurious']:9}" if "missed" in row else ""
        lines.append(
            f"{row['name']:16} {dice:22} {row['hd95']['mean']:9.2f} {row['nsd']['mean']:6.3f} {counts}".rstrip()
        )
    count, problems = len(result.cases), len(result.problems)
    failed = f"; {problems} failed and are NOT in these means" if problems else ""
    lines.append(f"{count} of {count + problems} cases{failed}; the brackets hold 95 % of bootstrapped means")
    return "\n".join(lines)


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

    page = write_report(run, evaluations=metrics or [], output=output)
    typer.echo(page)
    # The manifest of a run that is not finished is its training's, which may be at work.
    # What is missing or damaged is said on the page.
    with suppress(InputError):
        if output is None and (record := Run.open(run)).finished:
            record.record_hash(page.name)
