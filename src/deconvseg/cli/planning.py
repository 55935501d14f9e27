"""``deconvseg plan``."""

from pathlib import Path
from typing import Annotated

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal


def plan(
    dataset: options.Dataset,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan there instead of printing it.")
    ] = None,
    model: options.Model = "deconver",
    preset: options.Preset = None,
    recipe: options.Recipe = "default",
    splits: options.Splits = None,
    fold: options.Fold = "0",
    foreground: options.Foreground = False,
    max_time: options.MaxTime = None,
    device: options.Device = "auto",
    values: options.Set = None,
    seed: options.Seed = 0,
) -> None:
    """Look at a dataset and this machine, and write plan.json: readable, editable, with its reasons."""
    from deconvseg.data import atomic_write, open_dataset, resolve_splits
    from deconvseg.planning import check_plan, keep_freed_memory, make_plan

    keep_freed_memory()
    data = open_dataset(dataset, foreground=foreground)
    parts = resolve_splits(data, splits, fold=options.parse_fold(fold), seed=seed)
    made = make_plan(
        data,
        parts,
        model=model,
        preset=preset,
        recipe=recipe,
        device=device,
        seconds=options.parse_seconds(max_time),
        progress=lambda cases: Terminal().track(cases, "fingerprint"),
    ).with_values(options.parse_values(values))
    check_plan(made)
    text = made.model_dump_json(indent=2)
    if output is None:
        typer.echo(text)
        return
    with atomic_write(output) as path:
        path.write_text(text + "\n", encoding="utf-8")
    typer.echo(output)
