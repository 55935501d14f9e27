"""What a run was started with: its plan, its options in ``config.json``, and what may be asked when it goes on."""

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
from deconvseg.system import atomic_write


def given_plan(options: RunOptions) -> Plan | None:
    """Return the plan that is given, as such or as a file, or None where one is to be made.

    Raises :class:`InputError` for choices beside a plan that decides them. Entries of a plan are replaced in it.
    """
    if options.plan is None:
        return None
    asked = [f"`{name}`" for name in UNKEYED if getattr(options, name) != getattr(RunOptions, name)]
    if asked:
        raise InputError(f"{', '.join(asked)} beside a plan: it decides that; change it by `values`, or plan anew")
    return options.plan if isinstance(options.plan, Plan) else read_plan(options.plan)


def resume_options(options: TrainOptions, run: Run, *, further: bool = False) -> TrainOptions:
    """Return the options that the run was started with; :class:`InputError` where others are asked for now.

    With ``further`` its epochs and its time may be others, and are left as they are
    (:mod:`deconvseg.training.further`). An option at its default is not asked for. What is declared "free" (what a run
    is spread over) may change; so may the place of the dataset, whose contents are compared by
    :func:`~deconvseg.training.resuming.check_resumable`, as those of a plan and of splits are.
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
            f"`resume=True`: the run in {run.path} was started otherwise: {'; '.join(changed)}; leave these out to go "
            "on as it was started, or train into another folder"
        )
    free = {name for name, option, _ in declared if option.resume == "free"} | {"dataset", "splits", "pretrained"}
    return replace(saved, **{name: value for name, value in given.items() if name in free})


def _stays(option: Option, further: bool) -> bool:
    """Whether an option must be what it was; one that is an entry of the plan is compared there."""
    return option.resume == "same" or (option.resume == "further" and option.key is None and not further)


def write_places(options: TrainOptions, run: Run) -> None:
    """Keep whole paths beside the configuration, as long as the run is not finished."""
    with atomic_write(_places_file(run)) as path:
        kept = options.to_json()
        path.write_text(json.dumps({name: kept[name] for name in places(TrainOptions)}), encoding="utf-8")


def forget_places(run: Run) -> None:
    """Remove the whole paths of a run that is finished."""
    _places_file(run).unlink(missing_ok=True)


def _places_file(run: Run) -> Path:
    return run.path / "places.json"


def _read_places(run: Run) -> Mapping[str, Any]:
    """Return the whole paths; of a finished run, which has only their names, the cache is not known any more."""
    file = _places_file(run)
    if file.is_file():
        return read_json_object(file)
    kept = run.config.get("cache")
    return {"cache": None} if isinstance(kept, str) and not PurePath(kept).is_absolute() else {}


def _read(run: Run) -> TrainOptions:
    """Return the options of a run's ``config.json``; :class:`InputError` names one that cannot be."""
    names = {name for name, _, _ in declared_options(TrainOptions)}
    tree = {**run.config, **_read_places(run)}
    try:
        return TrainOptions(**{name: value for name, value in tree.items() if name in names})
    except (InputError, TypeError) as error:
        raise InputError(f"{run.path / 'config.json'}: {error}; copy the run again") from error


def _same(name: str, asked: Any, saved: Any) -> bool:
    """Compare an option; of a path of which only the name is known, that."""
    if name in places(TrainOptions) and saved is not None and not PurePath(saved).is_absolute():
        return bool(PurePath(asked).name == saved)
    return bool(asked == saved)
