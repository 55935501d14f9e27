"""``deconvseg plan``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, print_explanation, print_json, warn
from deconvseg.errors import InputError
from deconvseg.options import PLANNED, Option, TrainOptions, whole
from deconvseg.system import write_text

if TYPE_CHECKING:
    from deconvseg.planning import Plan

# What may be asked of a plan that is there; all else decides how one is made.
_OF_A_PLAN_THAT_IS_THERE = ("dataset", "output", "values", "explain", "schema")


@options.takes(
    TrainOptions,
    *(*PLANNED, "splits", "fold", "group_by", "foreground", "max_seconds", "device", "workers", "values", "seed"),
    workers=Option("Threads that read cases; 0 keeps all in one.", whole(0)),
)
def plan(
    context: typer.Context,
    dataset: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATASET", help="A dataset; or a plan.json, which is then checked (with --explain also printed)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan there instead of printing it.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the data, the choices and their reasons for a person.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of plan.json, and end.")] = False,
    *,
    splits: str | None,
    fold: int | str,
    group_by: str | None,
    foreground: bool,
    max_seconds: float | None,
    values: dict[str, Any] | None,
    seed: int,
    **asked: Any,
) -> None:
    """Look at a dataset and this machine, and write plan.json: readable, editable, with its reasons."""
    from deconvseg.data import find_leaks, is_dataset, open_dataset, report_problems, resolve_splits
    from deconvseg.planning import Plan, cache_folder, check_plan, make_plan, read_plan
    from deconvseg.system import keep_freed_memory

    if schema:
        print_json(Plan.model_json_schema())
        return
    if dataset is None:
        raise InputError("name a dataset to plan for, or a plan.json to check")
    if dataset.suffix == ".json" and dataset.is_file() and not is_dataset(dataset):
        _refuse_choices(context, dataset)
        made = read_plan(dataset)
    else:
        keep_freed_memory()
        data = open_dataset(dataset, foreground=foreground, group_by=group_by)
        parts = resolve_splits(data, splits, fold=fold, seed=seed)
        for problem in (*report_problems(data, (*parts.train, *parts.val)), *find_leaks(data, [parts])):
            warn(problem)
        loss = (values or {}).get("recipe.loss")
        made = make_plan(data, parts, loss=loss, seconds=max_seconds, cache=cache_folder(), console=Terminal(), **asked)
    made = made.with_values(values or {})
    check_plan(made)
    if output is not None:
        write_text(output, made.model_dump_json(indent=2) + "\n")
    _show(made, output, explain)


def _refuse_choices(context: typer.Context, file: Path) -> None:
    """Refuse options about a plan to be made where one is there to be checked."""
    asked = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE" and option.name not in _OF_A_PLAN_THAT_IS_THERE:
            asked.append(next(name for name in option.opts if name.startswith("--")))
    if asked:
        raise InputError(
            f"{', '.join(asked)} beside {file}: that plan is there and only checked; change it with --set, or give "
            "the dataset to plan anew"
        )


def _show(plan: "Plan", output: Path | None, explained: bool) -> None:
    """Print the explanation, the plan, or where it was written."""
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
