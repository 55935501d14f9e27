"""Checks that the files, data, splits and plan of a resumed run have not changed since it was started."""

from pathlib import Path

from deconvseg.data import Dataset, Splits, check_dataset_unchanged, file_sha256, read_splits
from deconvseg.errors import InputError
from deconvseg.options import TrainOptions
from deconvseg.planning import Plan, match_plan, supervise_deeply
from deconvseg.progress import Console
from deconvseg.runs import Run

# Entries of a plan that do not affect a training.
_DESCRIPTION = frozenset(
    ("dataset", "crop_to_nonzero", "predicted", "data", "warnings", "reasons", "chosen", "colours", "excluded")
)
_ADVICE = "train a new run in another folder (`output`)"


def record_own(run: Run) -> None:
    """Record the hashes of the files that define the run."""
    for name in ("plan.json", "splits.json"):
        run.record_hash(name)


def check_own(run: Run) -> None:
    """Raise :class:`InputError` if a file that defines the run has changed since its start."""
    for name in ("plan.json", "splits.json"):
        expected = run.valid_hashes(name)
        if expected and file_sha256(run.path / name) not in expected:
            raise InputError(f"{run.path / name}: has changed since the run was started; restore it, or {_ADVICE}")


def check_resumable(run: Run, data: Dataset, console: Console) -> None:
    """Raise :class:`InputError` if the files of the run, or its cases in ``data``, have changed."""
    check_own(run)
    parts = Splits(**run.splits)
    check_dataset_unchanged(run.manifest, data.select([*parts.train, *parts.val]), console)


def check_same_plan(run: Run, given: Plan | None, options: TrainOptions, data: Dataset) -> None:
    """Raise :class:`InputError` if the given plan is not that of the run."""
    if given is None:
        return
    matched, _ = match_plan(given.with_values(options.plan_changes), data)
    if changed := changed_keys(supervise_deeply(matched), run.plan):
        raise InputError(
            f"`resume=True`: the run in {run.path} was started with another plan ({', '.join(changed)} differ); omit "
            f"the plan, or {_ADVICE}"
        )


def changed_keys(plan: Plan, other: Plan) -> list[str]:
    """Return the entries in which two plans differ, among those that affect a training."""
    first, second = (entry.model_dump(mode="json", exclude=set(_DESCRIPTION)) for entry in (plan, other))
    return [key for key in first if first[key] != second[key]]


def check_same_splits(run: Run, options: TrainOptions, data: Dataset) -> None:
    """Raise :class:`InputError` if a splits file exists and differs from the splits of the run."""
    source = data.splits_file if options.splits is None else Path(options.splits)
    # A finished run has only the name of the file.
    if source is None or not source.is_absolute() or not source.is_file():
        return
    kept = {name: set(names) for name, names in run.splits.items()}
    number = None if options.fold == "all" else int(options.fold)
    now = read_splits(source, data.names, fold=number, excluded=data.excluded_names)
    found = {name: set(names) for name, names in vars(now).items()}
    if options.fold == "all" or not now.val:
        # Which of these cases validate was drawn at the start, perhaps by an earlier version.
        found, kept = ({"training": each["train"] | each["val"], "test": each["test"]} for each in (found, kept))
    if changed := [name for name, names in found.items() if names != kept[name]]:
        raise InputError(
            f"{source}: its {' and '.join(changed)} cases have changed since the run in {run.path} was "
            f"started; {_ADVICE}"
        )
