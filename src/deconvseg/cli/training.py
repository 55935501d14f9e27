"""``deconvseg train``."""

from pathlib import Path
from typing import Annotated

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo_path
from deconvseg.system import keep_freed_memory


def train(
    dataset: options.Dataset,
    output: Annotated[Path, typer.Option("-o", "--output", help="The run folder to make.")],
    model: options.Model = "deconver",
    preset: options.Preset = None,
    variant: options.Variant = None,
    plan: options.Plan = None,
    recipe: options.Recipe = "default",
    splits: options.Splits = None,
    fold: options.Fold = "0",
    foreground: options.Foreground = False,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Number of epochs.")] = None,
    max_time: options.MaxTime = None,
    memory: options.Memory = None,
    dims: options.Dims = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, help="Processes that prepare and load data; 0 keeps all in one process."),
    ] = None,
    cache: options.Cache = None,
    devices: options.Devices = None,
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, help="Number of machines, each started by torchrun or srun.")
    ] = None,
    strategy: options.Strategy = None,
    pretrained: Annotated[Path | None, typer.Option("--pretrained", help="Start from the weights of this run.")] = None,
    values: options.Set = None,
    seed: options.Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run after its last completed epoch.")] = False,
) -> None:
    """Train on a dataset: plan, train, predict and evaluate the validation cases, write the report."""
    from deconvseg import training

    keep_freed_memory()
    run = training.train(
        dataset,
        output,
        model=model,
        preset=preset,
        variant=variant,
        plan=plan,
        recipe=recipe,
        splits=splits,
        fold=options.parse_fold(fold),
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
        nodes=nodes,
        strategy=strategy,
        resume=resume,
        console=Terminal(),
    )
    if training.Ranks.find().leads:
        echo_path(run.path)
