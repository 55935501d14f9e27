"""The plan and the options of a run (``config.json``), and the options that may change when it is resumed."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from deconvseg.data import read_json_object
from deconvseg.errors import InputError
from deconvseg.options import UNKEYED, Option, RunOptions, TrainOptions, declared_options, places
from deconvseg.planning import Plan, read_plan
from deconvseg.runs import Run
from deconvseg.system import atomic_write, reference_of


def given_plan(options: RunOptions) -> Plan | None:
    """Return the given plan, from an object or a file, or None if a plan is to be made.

    Options that are entries of the plan are replaced in it. Raises :class:`InputError` for other options about
    planning.
    """
    if options.plan is None:
        return None
    asked = [f"`{name}`" for name in UNKEYED if getattr(options, name) != getattr(RunOptions, name)]
    if asked:
        raise InputError(f"{', '.join(asked)} together with a plan, which decides this; change it by `values`")
    return options.plan if isinstance(options.plan, Plan) else read_plan(options.plan)


def resume_options(options: TrainOptions, run: Run, *, further: bool = False) -> TrainOptions:
    """Return the options that the run was started with; :class:`InputError` if other options are given now.

    Options at their defaults count as not given. Options declared "free" (about devices and processes) may change, and
    so may the path of the dataset; its contents, and those of a plan and of splits, are compared by
    :func:`~deconvseg.training.resuming.check_resumable`. With ``further`` the epochs and the time may differ, and are
    returned unchanged (:mod:`deconvseg.training.further` applies them).
    """
    saved = _read(run)
    declared = declared_options(TrainOptions)
    given = {name: value for name, _, default in declared if (value := getattr(options, name)) != default}
    changed = [
        f"{name} {getattr(saved, name)!r} → {given[name]!r}"
        for name, option, _ in declared
        if _stays(option, further) and name in given and not _same(name, given[name], getattr(saved, name))
    ]
    values = (replace(options, epochs=None) if further else options).plan_changes
    if run.plan.with_values(values) != run.plan:
        changed += [f"{key} → {value!r}" for key, value in values.items()]
    if changed:
        raise InputError(
            f"`resume=True`: the run in {run.path} was started with other options: {'; '.join(changed)}; omit these to "
            "continue it, or train into another folder"
        )
    free = {name for name, option, _ in declared if option.resume == "free"} | {"dataset", "splits", "pretrained"}
    return replace(saved, **{name: value for name, value in given.items() if name in free})


def _stays(option: Option, further: bool) -> bool:
    """Whether an option must not change; entries of the plan are compared with the plan."""
    return option.resume == "same" or (option.resume == "further" and option.key is None and not further)


def write_places(options: TrainOptions, run: Run) -> None:
    """Store absolute paths next to the configuration until the run is finished."""
    with atomic_write(_places_file(run)) as path:
        kept = options.to_json()
        path.write_text(json.dumps({name: kept[name] for name in places(TrainOptions)}), encoding="utf-8")


def forget_places(run: Run) -> None:
    """Remove the absolute paths of a finished run."""
    _places_file(run).unlink(missing_ok=True)


def _places_file(run: Run) -> Path:
    return run.path / "places.json"


def _read_places(run: Run) -> Mapping[str, Any]:
    """Return the absolute paths; a finished run has only their last parts, and no cache."""
    file = _places_file(run)
    if file.is_file():
        return read_json_object(file)
    kept = run.config.get("cache")
    return {"cache": None} if isinstance(kept, str) and not PurePath(kept).is_absolute() else {}


def _read(run: Run) -> TrainOptions:
    """Return the options in a run's ``config.json``; :class:`InputError` names an invalid one."""
    names = {name for name, _, _ in declared_options(TrainOptions)}
    tree = {**run.config, **_read_places(run)}
    try:
        return TrainOptions(**{name: value for name, value in tree.items() if name in names})
    except (InputError, TypeError) as error:
        raise InputError(f"{run.path / 'config.json'}: {error}; copy the run again") from error


def _same(name: str, asked: Any, saved: Any) -> bool:
    """Compare an option; a path that is known only by its last part is compared by that."""
    if (reference := reference_of(asked)) is not None:
        return bool(str(reference) == saved)
    if name in places(TrainOptions) and saved is not None and not PurePath(saved).is_absolute():
        return bool(PurePath(asked).name == saved)
    return bool(asked == saved)
