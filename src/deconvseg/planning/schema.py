"""The plan: everything that decides what a training run does, in one checked, editable JSON file."""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from deconvseg.data import (
    LabelEncoding,
    Normalisation,
    Paint,
    Region,
    check_painting,
    painting_order,
    read_json_object,
)
from deconvseg.errors import InputError
from deconvseg.models import current_arguments, list_models
from deconvseg.planning.appearance import Appearance
from deconvseg.planning.fingerprint import ChannelStatistics, ClassStatistics, Count, Fingerprint
from deconvseg.planning.recipes import Recipe

Size = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelPlan(_Part):
    """One input channel and how its intensities are brought to a common scale."""

    name: str
    normalisation: Literal["zscore", "zscore_nonzero", "ct"] = "zscore"
    clip: tuple[float, float] | None = None
    mean: float | None = None
    std: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> "ChannelPlan":
        if self.normalisation == "ct" and (self.mean is None or self.std is None):
            raise ValueError("normalisation ct needs mean and std: give them, or choose zscore")
        if self.clip is not None and self.clip[0] > self.clip[1]:
            raise ValueError(f"clip {list(self.clip)}: give the lower bound first")
        return self

    def to_normalisation(self) -> Normalisation:
        """Return the data floor's form of it."""
        return Normalisation(self.normalisation, self.clip, self.mean, self.std)


class LabelPlan(_Part):
    """The file values of the classes, in the order of their ids (background first), and of voxels to ignore."""

    values: tuple[int, ...]
    names: tuple[str, ...]
    foreground_only: bool = False
    ignore: int | None = None

    @model_validator(mode="after")
    def _check(self) -> "LabelPlan":
        if len(self.values) != len(self.names):
            raise ValueError(f"{len(self.values)} values but {len(self.names)} names")
        if len(self.values) < 2:
            raise ValueError("at least a background and one class are needed")
        self.to_encoding()
        return self

    def to_encoding(self) -> LabelEncoding:
        """Return the map between file values and consecutive ids."""
        return LabelEncoding(self.values, self.names, foreground_only=self.foreground_only, ignore=self.ignore)


class RegionPlan(_Part):
    """A union of classes (consecutive ids) that one sigmoid output predicts, and the id it paints."""

    name: str
    labels: tuple[int, ...]
    paints: int


class ModelPlan(_Part):
    """A registered network and its constructor arguments."""

    name: str
    config: dict[str, Any]

    @field_validator("config")
    @classmethod
    def _current(cls, config: dict[str, Any], found: ValidationInfo) -> dict[str, Any]:
        # Plans of older versions name some arguments otherwise. What else is wrong is told when the network is built.
        name = found.data.get("name")
        return current_arguments(name, config) if name in list_models() else config


class DataSummary(_Part):
    """What the plan was made from: shapes and spacings (mm; smallest, median, largest per axis), classes, channels.

    With its ``appearance`` a prediction tells scans that are unlike the training scans; older plans have none.
    """

    cases: Size
    shapes: tuple[tuple[Size, ...], tuple[Size, ...], tuple[Size, ...]]
    spacings: tuple[tuple[Positive, ...], tuple[Positive, ...], tuple[Positive, ...]]
    orientations: dict[str, Count]
    classes: tuple[ClassStatistics, ...]
    channels: tuple[ChannelStatistics, ...]
    appearance: Appearance | None = None

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> "DataSummary":
        """Leave out the single cases."""
        shapes, spacings = np.array(fingerprint.shapes), np.array(fingerprint.spacings)
        shape = [np.min(shapes, axis=0), np.median(shapes, axis=0), np.max(shapes, axis=0)]
        spacing = [np.min(spacings, axis=0), np.median(spacings, axis=0), np.max(spacings, axis=0)]
        small, middle, large = (tuple(int(n) for n in row) for row in shape)
        fine, usual, coarse = (tuple(round(float(n), 6) for n in row) for row in spacing)
        return cls(
            cases=len(shapes),
            shapes=(small, middle, large),
            spacings=(fine, usual, coarse),
            orientations=fingerprint.orientations,
            classes=fingerprint.classes,
            channels=fingerprint.channels,
            appearance=Appearance.of(fingerprint.looks, fingerprint.spatial_dims, len(fingerprint.channels))
            if fingerprint.looks
            else None,
        )


class Prediction(_Part):
    """What a training with the planned network, patch and batch takes on the machine that it was planned on.

    ``memory_bytes`` is the most that the process has at one time (of a GPU: the most that tensors take of its memory),
    ``inference_memory_bytes`` the same while one window is predicted, without the image's own maps.
    ``measured`` is False where it was estimated from a smaller patch or batch. Of several ``processes``, one on each
    device, each takes that memory.
    """

    device: str
    step_seconds: Positive
    training_seconds: Positive
    memory_bytes: Size
    inference_memory_bytes: Size
    memory_limit_bytes: Size
    processes: Size = 1
    measured: bool = True


class Plan(_Part):
    """A complete plan; ``regions`` set means a sigmoid output each, unset means softmax.

    A mask is painted region by region, each after those that contain it, whatever their order here. With
    ``crop_to_nonzero`` prediction takes what lies outside the box of all voxels that are not zero in some channel for
    background unseen; unset where nothing is known of the training masks.

    ``reasons`` are of keys (dotted paths; ``channel NAME``), and ``chosen`` holds the value that each of them was given
    for: a reason whose value has been changed since says so.
    """

    version: Literal[1] = 1
    dataset: str
    spatial_dims: Literal[2, 3]
    spacing: tuple[Positive, ...]
    patch_size: tuple[Size, ...]
    batch_size: Size
    channels: tuple[ChannelPlan, ...]
    labels: LabelPlan
    regions: tuple[RegionPlan, ...] | None = None
    crop_to_nonzero: bool = False
    model: ModelPlan
    recipe: Recipe
    predicted: Prediction | None = None
    data: DataSummary | None = None
    warnings: tuple[str, ...] = ()
    reasons: dict[str, str] = {}
    chosen: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> "Plan":
        for key in ("spacing", "patch_size"):
            if len(getattr(self, key)) != self.spatial_dims:
                raise ValueError(f"{key} needs {self.spatial_dims} values, one per axis")
        ids = range(1, len(self.labels.values))
        for region in self.regions or ():
            if not region.labels or any(i not in ids for i in (*region.labels, region.paints)):
                raise ValueError(f"region {region.name!r}: labels are ids from 1 to {len(self.labels.values) - 1}")
            if region.paints not in region.labels:
                raise ValueError(
                    f"region {region.name!r} paints {region.paints}, none of its labels {list(region.labels)}; choose "
                    "one of them (in a dataset: correct regions_class_order)"
                )
        painted = [region.paints for region in self.regions or ()]
        if len(set(painted)) < len(painted):
            raise ValueError(f"regions paint {painted}: give each an id of its own (regions_class_order)")
        check_painting(self._paints, "regions", "change the labels of a region or the id that it paints")
        return self

    @property
    def _paints(self) -> tuple[Paint, ...]:
        """The regions in the order of the network's outputs, with the values that masks have in files."""
        values = self.labels.values
        return tuple(
            Paint(r.name, frozenset(values[i] for i in r.labels), values[r.paints]) for r in self.regions or ()
        )

    @property
    def painting_order(self) -> tuple[int, ...]:
        """The places of the regions in the order in which a mask is painted: a region after those that contain it."""
        return painting_order(self._paints)

    @property
    def outputs(self) -> int:
        """Number of output channels of the network."""
        return len(self.labels.values) if self.regions is None else len(self.regions)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the predicted foreground structures: the regions, or the classes without background."""
        return self.labels.names[1:] if self.regions is None else tuple(r.name for r in self.regions)

    @property
    def structures(self) -> tuple[Region, ...]:
        """The predicted structures as unions of the values that masks have in files, in the order of painting."""
        values = self.labels.values
        if self.regions is None:
            return tuple(Region(n, (v,), v) for v, n in zip(values[1:], self.labels.names[1:], strict=True))
        ordered = [self.regions[place] for place in self.painting_order]
        return tuple(Region(r.name, tuple(values[i] for i in r.labels), values[r.paints]) for r in ordered)

    @property
    def normalisations(self) -> tuple[Normalisation, ...]:
        """How each channel is normalised."""
        return tuple(channel.to_normalisation() for channel in self.channels)

    def with_values(self, values: Mapping[str, Any]) -> "Plan":
        """Return a plan with dotted paths replaced, as ``{"recipe.learning_rate": 1e-4}``.

        Raises :class:`InputError` for a path that the plan does not have or a value of another type.
        """
        tree = self.model_dump(mode="json")
        for path, value in values.items():
            _replace(tree, path, value)
        return _validate(tree, "`values`")

    def with_reasons(self, reasons: Mapping[str, str]) -> "Plan":
        """Return the plan with reasons for the values that it has now; those of keys that it lacks are left out."""
        tree = self.model_dump(mode="json")
        given = {key: text for key, text in reasons.items() if _has_value(tree, key)}
        return self.model_copy(update={"reasons": given, "chosen": {key: _value(tree, key) for key in given}})

    @property
    def changed_by_hand(self) -> tuple[str, ...]:
        """The keys whose values are not those that their reasons were given for."""
        tree = self.model_dump(mode="json")
        return tuple(
            key for key, value in self.chosen.items() if not _has_value(tree, key) or _value(tree, key) != value
        )

    def _with_honest_reasons(self) -> "Plan":
        changed = self.changed_by_hand
        reasons = dict(self.reasons)
        for key, value in self.chosen.items():
            if key in reasons:
                mark = f"changed by hand; planned was {json.dumps(value)}: "
                reasons[key] = (mark if key in changed else "") + reasons[key].removeprefix(mark)
        return self.model_copy(update={"reasons": reasons})


def read_plan(path: str | PathLike[str]) -> Plan:
    """Read and check a ``plan.json``; an unknown key or a wrong type is an :class:`InputError` that names it."""
    return _validate(read_json_object(Path(path)), str(path))


def _value(tree: dict[str, Any], key: str) -> Any:
    """Return what a reason is about; `KeyError` where there is no such thing."""
    if key.startswith("channel "):
        return {f"channel {channel['name']}": channel for channel in tree["channels"]}[key]
    node: Any = tree
    for part in key.split("."):
        node = node[part]
    return node


def _has_value(tree: dict[str, Any], key: str) -> bool:
    try:
        _value(tree, key)
    except (KeyError, TypeError):
        return False
    return True


def _replace(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    node: Any = tree
    for key in parents:
        node = node.get(key) if isinstance(node, dict) else None
    # A network's configuration may leave arguments and options at their defaults, so a new key is welcome there alone.
    if not isinstance(node, dict) or (last not in node and parents[:2] != ["model", "config"]):
        known = ", ".join(node) if isinstance(node, dict) else ", ".join(tree)
        raise InputError(f"`values` {path}: the plan has no such key; known here: {known}")
    node[last] = value


def _validate(tree: Any, where: str) -> Plan:
    try:
        plan = Plan.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        # Unknown keys first: a mistyped one is the reason why another is missing.
        found = sorted(error.errors(include_url=False), key=lambda entry: entry["type"] != "extra_forbidden")
        raise InputError(f"{where}: {'; '.join(_describe(entry) for entry in found[:3])}") from error
    return plan._with_honest_reasons()


def _describe(entry: ErrorDetails) -> str:
    key = ".".join(str(part) for part in entry["loc"]) or "plan"
    message = {"extra_forbidden": "is no key of a plan", "missing": "is missing"}.get(entry["type"])
    if message is None:
        message = entry["msg"].removeprefix("Value error, ")
        if entry["type"] != "value_error":
            message += f" (found {entry['input']!r})"
    return f"{key}: {message}"
