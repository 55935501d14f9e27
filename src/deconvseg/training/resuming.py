"""Whether a run that goes on is still the one that was started: its own files, its data, its splits and its plan."""

from pathlib import Path

from deconvseg.data import Dataset, Splits, check_dataset_unchanged, file_sha256, resolve_splits
from deconvseg.errors import InputError
from deconvseg.options import TrainOptions
from deconvseg.planning import Plan, match_plan, supervise_deeply
from deconvseg.progress import Console
from deconvseg.runs import Run

# What decides nothing about a training.
_DESCRIPTION = frozenset(
    ("dataset", "crop_to_nonzero", "predicted", "data", "warnings", "reasons", "chosen", "colours", "excluded")
)
_ADVICE = "train a new run in another folder (`output`)"


def record_own(run: Run) -> None:
    """Note the hashes of the files that say what the run does."""
    for name in ("plan.json", "splits.json"):
        run.record_hash(name)


def check_own(run: Run) -> None:
    """Raise :class:`InputError` where a file that says what the run does was changed since it was started."""
    for name in ("plan.json", "splits.json"):
        expected = run.valid_hashes(name)
        if expected and file_sha256(run.path / name) not in expected:
            raise InputError(f"{run.path / name}: has changed since the run was started; put it back, or {_ADVICE}")


def check_resumable(run: Run, data: Dataset, console: Console) -> None:
    """Raise :class:`InputError` where the run's own files, or its cases in ``data``, have changed."""
    check_own(run)
    parts = Splits(**run.splits)
    check_dataset_unchanged(run.manifest, data.select([*parts.train, *parts.val]), console)


def check_same_plan(run: Run, given: Plan | None, options: TrainOptions, data: Dataset) -> None:
    """Raise :class:`InputError` where a plan is given that is not the one of the run."""
    if given is None:
        return
    matched, _ = match_plan(given.with_values(options.plan_changes), data)
    if changed := changed_keys(supervise_deeply(matched), run.plan):
        raise InputError(
            f"`resume=True`: the run in {run.path} was started with another plan ({', '.join(changed)} differ); leave "
            f"the plan out, or {_ADVICE}"
        )


def changed_keys(plan: Plan, other: Plan) -> list[str]:
    """Return the entries in which two plans differ, of those that decide anything about a training."""
    first, second = (entry.model_dump(mode="json", exclude=set(_DESCRIPTION)) for entry in (plan, other))
    return [key for key in first if first[key] != second[key]]


def check_same_splits(run: Run, options: TrainOptions, data: Dataset) -> None:
    """Raise :class:`InputError` where there is a splits file that says something else than the run's splits."""
    source = data.splits_file if options.splits is None else Path(options.splits)
    # Of a finished run only the name is known.
    if source is None or not source.is_absolute() or not source.is_file():
        return
    now = resolve_splits(data, source, fold=options.fold, seed=options.seed)
    kept = {name: set(names) for name, names in run.splits.items()}
    if changed := [name for name, names in vars(now).items() if set(names) != kept.get(name, set())]:
        raise InputError(
            f"{source}: has other {' and '.join(changed)} cases than when the run in {run.path} was started; {_ADVICE}"
        )
