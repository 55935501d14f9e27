"""``deconvseg crossval``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, error, print_json, print_table, warn
from deconvseg.system import keep_freed_memory

if TYPE_CHECKING:
    from deconvseg.experiments import CrossValidation


def crossval(
    dataset: options.Dataset,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The folder to make: a run for each fold, and metrics.")
    ],
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, help="Number of folds; 5, or those of splits_final.json.")
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option("--stratify", metavar="COLUMN", help="Make folds alike in this column, not in foreground volume."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="CSV or TSV file with case names and that column; a CSV dataset itself."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Folds to train at once; 1, or one on each of several GPUs.")
    ] = None,
    model: options.Model = "deconver",
    preset: options.Preset = None,
    variant: options.Variant = None,
    plan: options.Plan = None,
    recipe: options.Recipe = "default",
    splits: options.Splits = None,
    foreground: options.Foreground = False,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Number of epochs of each fold.")] = None,
    max_time: options.MaxTime = None,
    memory: options.Memory = None,
    dims: options.Dims = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Processes that load data, for each fold.")
    ] = None,
    cache: options.Cache = None,
    pretrained: Annotated[
        Path | None, typer.Option("--pretrained", help="Start every fold from the weights of this run.")
    ] = None,
    values: options.Set = None,
    seed: options.Seed = 0,
    devices: options.Devices = None,
    strategy: options.Strategy = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the finished folds, go on with the others.")] = False,
    json: options.Json = False,
) -> None:
    """Train on every fold, score each case by the fold that did not see it, and choose the post-processing by that.

    'deconvseg predict -m' takes the folder as the mean of its folds.
    """
    from deconvseg import experiments

    keep_freed_memory()
    result = experiments.crossval(
        dataset,
        output,
        folds=folds,
        stratify=stratify,
        table=table,
        jobs=jobs,
        model=model,
        preset=preset,
        variant=variant,
        plan=plan,
        recipe=recipe,
        splits=splits,
        foreground=foreground,
        epochs=epochs,
        max_seconds=options.parse_seconds(max_time),
        memory=options.parse_bytes(memory),
        dims=dims,
        device=device,
        precision=precision,
        workers=workers,
        cache=cache,
        pretrained=pretrained,
        values=options.parse_values(values),
        seed=seed,
        devices=devices,
        strategy=strategy,
        resume=resume,
        console=Terminal(),
    )
    if json:
        print_json(result.to_json())
    else:
        _print(result)
    for text in result.evaluation.warnings:
        warn(text)
    for problem in result.problems:
        error(problem)
    if result.failed:
        error("not all folds are there; go on with --resume")
    if result.problems:
        raise typer.Exit(1)


def _print(result: "CrossValidation") -> None:
    """Print the mean and its spread for each class, and the post-processing."""
    if not result.evaluation.cases:
        return
    spread = result.spread()
    rows = [row for row in spread["classes"].values() if row["counted"]]
    rows += [{"name": "mean", **spread["mean"]}] if len(rows) > 1 else []
    leading, *others = result.evaluation.metrics
    columns = {leading.key: leading.title, "with_truth": f"{leading.title} with truth"}
    columns |= {metric.key: metric.head(result.evaluation.unit) for metric in others}
    print_table(
        f"{len(result.evaluation.cases)} cases, each by the fold that did not see it: mean ± SD of folds (of cases)",
        ["class", *columns.values()],
        [[row["name"], *(_cell(row[key]) for key in columns)] for row in rows],
    )
    echo(result.evaluation.describe())
    for line in result.describe_postprocessing():
        echo(line)
    echo_path(result.path)


def _cell(statistics: dict[str, Any] | None) -> str:
    if statistics is None:
        return "–"
    mean, folds, cases = (
        "–" if statistics[key] is None else f"{statistics[key]:.4f}" for key in ("mean", "std_folds", "std_cases")
    )
    return f"{mean} ± {folds} ({cases})"
