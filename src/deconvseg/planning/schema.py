"""The plan: all decisions of a training run in one validated, editable JSON file."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator
from pydantic_core import ErrorDetails

from deconvseg.data import (
    Axes,
    Normalisation,
    Paint,
    Preprocessing,
    Region,
    Resampling,
    check_painting,
    class_colours,
    painting_order,
    parse_colour,
    read_json_object,
)
from deconvseg.errors import InputError
from deconvseg.losses import DeepSupervision
from deconvseg.planning.codes import SegmentCode
from deconvseg.planning.parts import (
    ChannelPlan,
    DataSummary,
    InferencePlan,
    LabelPlan,
    ModelPlan,
    Part,
    Positive,
    Prediction,
    RegionPlan,
    Size,
)
from deconvseg.planning.paths import has_value, replace_value, value_at
from deconvseg.planning.recipes import Recipe


class Plan(Part):
    """A complete plan. With ``regions`` each region has a sigmoid output; without them the classes have a softmax.

    Images are cropped to their nonzero voxels, grown by ``crop_margin`` voxels (None: not cropped), resampled to
    ``spacing`` in mm, or to the size ``resize`` in its place, and normalised, or normalised before they are resampled
    with ``normalise_first`` (:class:`~deconvseg.data.Preprocessing`, which describes ``axes`` and ``resampling`` too).
    Prediction brings its result back to the image's grid, with background around the crop, and sweeps as ``inference``
    says (:class:`InferencePlan`). Masks are written region by region, each after the regions that contain it,
    independent of their order here. With ``crop_to_nonzero`` prediction processes only the bounding box of all voxels
    that are nonzero in any channel, and sets the rest to background; it is None if the training masks are unknown.
    ``colours`` are the declared colours ``#rrggbb`` by name of the class or region; `class_colours` has one for each.
    ``codes`` say by name what classes or regions are in a terminology, for DICOM segmentations (:class:`SegmentCode`).
    ``excluded`` maps the excluded cases of the dataset to the reasons.

    ``reasons`` maps keys (dotted paths; ``channel NAME``) to reasons, and ``chosen`` maps them to the values at
    planning, so that later changes can be reported.

    Example:
        >>> from deconvseg.planning import read_plan
        >>> plan = read_plan("plan.json")
        >>> longer = plan.model_copy(update={"recipe": plan.recipe.model_copy(update={"epochs": 50})})
        >>> longer.recipe.epochs
        50

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
    resize: tuple[Size, ...] | None = None
    crop_margin: Annotated[int, Field(ge=0)] | None = None
    normalise_first: bool = False
    axes: Axes = Axes()
    resampling: Resampling = Resampling()
    inference: InferencePlan = InferencePlan()
    crop_to_nonzero: bool = False
    colours: dict[str, str] = Field(default={})
    codes: dict[str, SegmentCode] = Field(default={})
    excluded: dict[str, str] = Field(default={})
    model: ModelPlan
    recipe: Recipe
    predicted: Prediction | None = None
    data: DataSummary | None = None
    warnings: tuple[str, ...] = ()
    reasons: dict[str, str] = Field(default={})
    chosen: dict[str, Any] = Field(default={})

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Older plans have no codes, and their reasons were given for a plan without the key.
        tree: dict[str, Any] = serialize(self)
        return tree if self.codes or "codes" not in tree else {k: v for k, v in tree.items() if k != "codes"}

    @model_validator(mode="after")
    def _check(self) -> "Plan":
        for key in ("spacing", "patch_size", "resize"):
            values = getattr(self, key)
            if values is not None and len(values) != self.spatial_dims:
                raise ValueError(f"{key} needs {self.spatial_dims} values, one per axis")
        if self.axes.order is not None and len(self.axes.order) != self.spatial_dims:
            raise ValueError(f"axes.order needs {self.spatial_dims} values, one per axis")
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
        for name, colour in self.colours.items():
            try:
                parse_colour(colour)
            except InputError as error:
                raise ValueError(f"colours.{name}: {error}") from error
        self.training_loss().loss.check_outputs(self.outputs)
        check_painting(self._paints, "regions", "change the labels of a region or the id that it paints")
        return self

    @property
    def _paints(self) -> tuple[Paint, ...]:
        """The regions in the order of the network's outputs, with values as in mask files."""
        values = self.labels.values
        return tuple(
            Paint(r.name, frozenset(values[i] for i in r.labels), values[r.paints]) for r in self.regions or ()
        )

    @property
    def painting_order(self) -> tuple[int, ...]:
        """The indices of the regions in the order of writing: each region after those that contain it."""
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
        """The predicted structures as unions of values in mask files, in the order of writing."""
        values = self.labels.values
        if self.regions is None:
            return tuple(Region(n, (v,), v) for v, n in zip(values[1:], self.labels.names[1:], strict=True))
        ordered = [self.regions[place] for place in self.painting_order]
        return tuple(Region(r.name, tuple(values[i] for i in r.labels), values[r.paints]) for r in ordered)

    @property
    def scored_by_region(self) -> bool:
        """Whether each region has a file of its own: if there are several, which one mask may not hold."""
        return self.regions is not None and len(self.regions) > 1

    @property
    def class_colours(self) -> dict[str, str]:
        """The colour ``#rrggbb`` of each of `output_names`: the declared colour, else a default by its index."""
        return class_colours(self.output_names, {name: parse_colour(text) for name, text in self.colours.items()})

    @property
    def normalisations(self) -> tuple[Normalisation, ...]:
        """The normalisation of each channel."""
        return tuple(channel.to_normalisation() for channel in self.channels)

    @property
    def preprocessing(self) -> Preprocessing:
        """The way of an image to the network's grid."""
        return Preprocessing(
            self.spacing,
            self.normalisations,
            self.resize,
            self.crop_margin,
            self.normalise_first,
            self.axes,
            self.resampling,
        )

    @property
    def grid_spacing(self) -> tuple[float, ...]:
        """The spacing for turns and scalings of patches: voxels of resized images have one length along each axis."""
        return self.spacing if self.resize is None else (1.0,) * self.spatial_dims

    def steps_per_epoch(self, cases: int) -> int:
        """Return the steps of an epoch for a number of training cases."""
        return self.recipe.count_steps(cases, self.batch_size)

    def training_loss(self) -> DeepSupervision:
        """Return the training loss of the recipe."""
        regions = None if self.regions is None else [region.labels for region in self.regions]
        return self.recipe.training_loss(regions=regions, ignore_id=self.labels.to_encoding().ignore_id)

    def with_values(self, values: Mapping[str, Any]) -> "Plan":
        """Return a plan with values replaced by dotted path, such as ``{"recipe.learning_rate": 1e-4}``.

        Raises :class:`InputError` for a path that the plan does not have or a value of another type.
        """
        tree = self.model_dump(mode="json")
        for path, value in values.items():
            replace_value(tree, path, value)
        return _validate(tree, "`values`")

    def check_values(self, values: Mapping[str, Any]) -> None:
        """Raise :class:`InputError` for unknown paths, and for values of a wrong type or out of bounds.

        It does not check whether the values fit the rest of the plan, which may be that of another dataset.
        """
        tree = self.model_dump(mode="json")
        for path, value in values.items():
            replace_value(tree, path, value)
        found = [entry for entry in _problems(tree) if _is_about(entry, values)]
        if found:
            raise InputError(f"`values`: {'; '.join(_describe(entry) for entry in found[:3])}")

    def with_reasons(self, reasons: Mapping[str, str]) -> "Plan":
        """Return the plan with reasons for its current values; reasons for missing keys are ignored."""
        tree = self.model_dump(mode="json")
        given = {key: text for key, text in reasons.items() if has_value(tree, key)}
        return self.model_copy(update={"reasons": given, "chosen": {key: value_at(tree, key) for key in given}})

    @property
    def changed_by_hand(self) -> tuple[str, ...]:
        """The keys whose values were changed after their reasons were given."""
        tree = self.model_dump(mode="json")
        return tuple(
            key for key, value in self.chosen.items() if not has_value(tree, key) or value_at(tree, key) != value
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
    """Read and check a ``plan.json``; raises an :class:`InputError` that names an unknown key or a wrong type.

    Example:
        >>> from deconvseg.planning import read_plan
        >>> plan = read_plan("plan.json")
        >>> plan.patch_size, plan.recipe.epochs
        ((32, 32), 2)

    """
    return _validate(read_json_object(Path(path)), str(path))


@contextmanager
def plan_errors(where: str) -> Iterator[None]:
    """Turn the errors of a plan's values into one :class:`InputError`."""
    try:
        yield
    except ValidationError as error:
        # An error of the whole plan names no key.
        told = "; ".join(_describe(entry) for entry in _sorted(error)[:3])
        raise InputError(told if told.startswith(f"{where}: ") else f"{where}: {told}") from error


def _validate(tree: Any, where: str) -> Plan:
    with plan_errors(where):
        plan = Plan.model_validate_json(json.dumps(tree), strict=True)
    return plan._with_honest_reasons()


def _problems(tree: Any) -> list[ErrorDetails]:
    try:
        Plan.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        return _sorted(error)
    return []


def _sorted(error: ValidationError) -> list[ErrorDetails]:
    # Unknown keys first, because a misspelt key also makes the correct key missing.
    return sorted(error.errors(include_url=False), key=lambda entry: entry["type"] != "extra_forbidden")


def _is_about(entry: ErrorDetails, paths: Iterable[str]) -> bool:
    """Return whether an error concerns the value of one of the paths, and not its combination with others."""
    where = [str(part) for part in entry["loc"]]
    return any(where[: len(parts)] == parts for parts in (path.split(".") for path in paths))


def _describe(entry: ErrorDetails) -> str:
    key = ".".join(str(part) for part in entry["loc"]) or "plan"
    message = {"extra_forbidden": "is not a key of a plan", "missing": "is missing"}.get(entry["type"])
    if message is None:
        message = entry["msg"].removeprefix("Value error, ")
        if entry["type"] != "value_error":
            message += f" (found {entry['input']!r})"
    return f"{key}: {message}"
