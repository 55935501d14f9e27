"""``deconvseg plan``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, loading, print_explanation, print_json, warn
from deconvseg.errors import InputError
from deconvseg.options import PLANNED, READING, UNKEYED, Option, TrainOptions, whole
from deconvseg.system import refuse_blocked, write_text

if TYPE_CHECKING:
    from deconvseg.planning import Plan

# The options that apply to an existing plan; all others only affect how a plan is made.
_FOR_EXISTING_PLANS = ("dataset", "output", "values", "explain", "schema", *set(PLANNED).difference(UNKEYED))


@options.takes(
    TrainOptions,
    *(*PLANNED, "splits", "fold", *READING, "max_seconds", "device", "workers", "values", "seed"),
    workers=Option("Threads that read cases; 0: only the main thread.", whole(0)),
)
def plan(
    context: typer.Context,
    dataset: Annotated[
        Path | None,
        typer.Argument(metavar="DATASET", help="A dataset, or a plan.json to check (and print with --explain)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan to this file instead of printing it.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the data, the choices and their reasons as text.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of plan.json and exit.")] = False,
    **asked: Any,
) -> None:
    """Measure a dataset and this machine, and write plan.json: readable, editable, with reasons."""
    with loading():
        from deconvseg.data import is_dataset
        from deconvseg.planning import Plan, check_plan, read_plan

    if schema:
        print_json(Plan.model_json_schema())
        return
    if dataset is None:
        raise InputError("give a dataset to plan for, or a plan.json to check")
    if output is not None:
        refuse_blocked(output)
    if dataset.suffix == ".json" and dataset.is_file() and not is_dataset(dataset):
        _refuse_choices(context, dataset)
        chosen = TrainOptions(dataset, **asked)
        chosen.check_given()
        made = read_plan(dataset).with_values(chosen.plan_changes)
    else:
        made = _make(TrainOptions(dataset, **asked))
    check_plan(made)
    if output is not None:
        write_text(output, made.model_dump_json(indent=2) + "\n")
    _show(made, output, explain)


def _make(asked: TrainOptions) -> "Plan":
    """Make a plan for a dataset; the options are checked before any case is read."""
    from deconvseg.data import describe_excluded, find_leaks, measure_foreground, report_problems, resolve_splits
    from deconvseg.planning import cache_folder, make_plan
    from deconvseg.system import keep_freed_memory
    from deconvseg.training import check_dataset, open_data

    asked.check_given()
    keep_freed_memory()
    data = open_data(asked)
    # Before the folds, which are balanced by the masks.
    check_dataset(data, asked, None)
    strata = partial(measure_foreground, console=Terminal())
    parts = resolve_splits(data, asked.splits, fold=asked.fold, seed=asked.seed, strata=strata)
    if excluded := describe_excluded(data):
        Terminal().say(excluded)
    for problem in (*report_problems(data, (*parts.train, *parts.val)), *find_leaks(data, [parts])):
        warn(problem)
    return make_plan(
        data,
        parts,
        loss=asked.plan_changes.get("recipe.loss"),
        seconds=asked.max_seconds,
        values=asked.plan_changes,
        device=asked.device,
        workers=asked.workers,
        cache=cache_folder(),
        console=Terminal(),
        **{name: getattr(asked, name) for name in PLANNED},
    )


def _refuse_choices(context: typer.Context, file: Path) -> None:
    """Refuse options for making a plan if an existing plan is to be checked."""
    asked = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE" and option.name not in _FOR_EXISTING_PLANS:
            asked.append(next(name for name in option.opts if name.startswith("--")))
    if asked:
        raise InputError(
            f"{', '.join(asked)} together with {file}: an existing plan is only checked; change it with --set, or "
            "give the dataset to make a new plan"
        )


def _show(plan: "Plan", output: Path | None, explained: bool) -> None:
    """Print the explanation, the plan, or the path of its file."""
    from deconvseg.planning import explain

    if explained:
        print_explanation(explain(plan))
    elif output is None:
        typer.echo(plan.model_dump_json(indent=2))
    if not explained:
        for warning in plan.warnings:
            warn(warning)
    if output is not None:
        typer.echo(output)
