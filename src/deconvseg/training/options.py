"""What a user may ask of a training, kept in ``config.json`` and held against what is asked when a run is resumed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from deconvseg.data import read_json_object
from deconvseg.errors import InputError
from deconvseg.planning import Plan, check_request, read_plan
from deconvseg.runs import Run
from deconvseg.system import atomic_write

# What decides where and by how many a run is computed, not what comes out of it.
_SPREAD = ("workers", "cache", "devices", "nodes", "strategy")
# Where something lies on this machine; the contents are compared, and the run's description keeps the names alone.
_PLACES = ("dataset", "plan", "splits", "cache", "pretrained")


@dataclass(frozen=True)
class TrainOptions:
    """The arguments of :func:`~deconvseg.training.train`, JSON-able; what they decide about the plan is in the plan."""

    dataset: str
    model: str = "deconver"
    preset: str | None = None
    variant: str | None = None
    plan: str | None = None
    recipe: str = "default"
    splits: str | None = None
    fold: int | str = 0
    foreground: bool = False
    epochs: int | None = None
    max_seconds: float | None = None
    memory: int | None = None
    dims: int | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    cache: str | None = None
    pretrained: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    devices: int | None = None
    nodes: int | None = None
    strategy: str | None = None

    @property
    def plan_changes(self) -> dict[str, Any]:
        """Dotted paths of the plan that are asked to be replaced."""
        return {**self.values, **({} if self.epochs is None else {"recipe.epochs": self.epochs})}

    def max_epochs(self, plan: Plan) -> int | None:
        """Return the number of epochs that end the training, or None where the clock alone does.

        Beside a time limit the epochs of a plan are what was thought to fit; those that somebody asked for, by an
        option, by hand or by a paper's recipe, are kept to.
        """
        asked = "recipe.epochs" in (*self.plan_changes, *plan.changed_by_hand) or plan.recipe.name != "default"
        return plan.recipe.epochs if asked or self.max_seconds is None else None

    def given_plan(self, plan: Plan | None = None) -> Plan | None:
        """Return the plan that is given, as such or as a file, or None where one is to be made.

        Raises :class:`InputError`, before any case is read, for choices beside a plan that decides them, and for
        a network or a recipe that no plan can be made of.
        """
        if plan is None and self.plan is None:
            check_request(self.model, self.preset, self.variant, self.recipe)
            return None
        keys = ("model", "preset", "variant", "recipe", "memory", "dims")
        asked = [f"--{key}" for key in keys if getattr(self, key) != getattr(TrainOptions, key)]
        if asked:
            raise InputError(
                f"{', '.join(asked)} beside a plan: the plan decides that; change it with --set, or plan anew"
            )
        return plan if self.plan is None else read_plan(self.plan)

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    def to_config(self) -> dict[str, Any]:
        """Return plain types for ``config.json``, which is shared with the run: of paths the last name alone."""
        named = {key: None if (path := getattr(self, key)) is None else PurePath(path).name for key in _PLACES}
        return {**self.to_json(), **named}

    def write_places(self, run: Run) -> None:
        """Keep whole paths beside the configuration, as long as the run is not finished."""
        with atomic_write(_places_file(run)) as path:
            path.write_text(json.dumps({key: getattr(self, key) for key in _PLACES}), encoding="utf-8")

    def resumed(self, run: Run) -> "TrainOptions":
        """Return the options that the run was started with; :class:`InputError` where others are asked for now.

        An option at its default is not asked for. What a run is spread over (workers, cache, devices, nodes, strategy)
        does not decide what it does, and may change; so may the place of the dataset, whose contents are compared by
        :func:`~deconvseg.training.resuming.check_resumable`, as those of a plan and of splits are.
        """
        saved = _saved(run)
        changed = [
            f"{f.name} {getattr(saved, f.name)!r} → {getattr(self, f.name)!r}"
            for f in fields(self)
            if f.name not in (*_SPREAD, "dataset", "plan", "splits", "values", "epochs")
            and getattr(self, f.name) != f.default
            and not _same(f.name, getattr(self, f.name), getattr(saved, f.name))
        ]
        plan = run.plan
        if plan.with_values(self.plan_changes) != plan:
            changed += [f"{key} → {value!r}" for key, value in self.plan_changes.items()]
        if changed:
            raise InputError(
                f"--resume: the run in {run.path} was started otherwise: {'; '.join(changed)}; leave these out to go "
                "on as it was started, or train into another folder"
            )
        asked = {name: getattr(self, name) for name in _SPREAD if getattr(self, name) != getattr(TrainOptions, name)}
        asked |= {key: getattr(self, key) for key in ("splits", "pretrained") if getattr(self, key) is not None}
        return replace(saved, **asked, dataset=self.dataset)


def forget_places(run: Run) -> None:
    """Remove the whole paths of a run that is finished."""
    _places_file(run).unlink(missing_ok=True)


def _places_file(run: Run) -> Path:
    return run.path / "places.json"


def _read_places(run: Run) -> dict[str, Any]:
    """Return the whole paths; of a finished run, which has only their names, the cache is not known any more."""
    file = _places_file(run)
    if file.is_file():
        return read_json_object(file)
    kept = run.config.get("cache")
    return {"cache": None} if isinstance(kept, str) and not PurePath(kept).is_absolute() else {}


def _saved(run: Run) -> TrainOptions:
    """Return the options of a run's ``config.json``; :class:`InputError` names one of another type."""
    try:
        # As JSON: strictly, a mapping is no instance of the class.
        text = json.dumps({**_known(run.config), **_known(_read_places(run))})
        saved: TrainOptions = TypeAdapter(TrainOptions).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{run.path / 'config.json'}: {key}: {first['msg']}; copy the run again") from error
    return saved


def _known(tree: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(TrainOptions)}
    return {key: value for key, value in tree.items() if key in names}


def _same(name: str, asked: Any, saved: Any) -> bool:
    """Compare an option; of a path of which only the name is known, that."""
    if name in _PLACES and saved is not None and not PurePath(saved).is_absolute():
        return bool(PurePath(asked).name == saved)
    return bool(asked == saved)
