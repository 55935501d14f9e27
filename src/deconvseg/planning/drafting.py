"""The draft of a plan: choices that do not depend on the network, patch and batch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deconvseg.data import Dataset, Splits, find_absent_classes, find_label_problems, is_rgb
from deconvseg.data.splits.folds import DEFAULT_FOLDS
from deconvseg.models import preset_arguments
from deconvseg.planning.choices import (
    case_bytes,
    plan_channel,
    plan_labels,
    plan_regions,
    spacing_warnings,
)
from deconvseg.planning.fingerprint import Fingerprint
from deconvseg.planning.parts import ChannelPlan, LabelPlan, ModelPlan, RegionPlan
from deconvseg.planning.patch import target_spacing
from deconvseg.planning.preset_regions import describe_outputs
from deconvseg.planning.recipes import Recipe
from deconvseg.planning.request import Request
from deconvseg.planning.schema import Plan, plan_errors


@dataclass
class Draft:
    """The choices of a plan that are made before its network, patch and batch."""

    dataset: Dataset
    fingerprint: Fingerprint
    spacing: tuple[float, ...]
    labels: LabelPlan
    regions: tuple[RegionPlan, ...] | None
    channels: tuple[ChannelPlan, ...]
    recipe: Recipe
    trained: int
    held_out: int
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    resize: tuple[int, ...] | None = None
    crop_margin: int | None = None
    normalise_first: bool = False

    @property
    def validated(self) -> int:
        """The number of validation cases; if the folds are not known yet, that of a usual validation."""
        usual = self.recipe.validation_cases if self.recipe.weights == "final" else -(-self.trained // DEFAULT_FOLDS)
        return self.held_out or usual

    @property
    def ends(self) -> dict[str, Any]:
        """The constructor arguments that are determined by the data."""
        outputs = len(self.labels.values) if self.regions is None else len(self.regions)
        dims = self.fingerprint.spatial_dims
        return {"in_channels": len(self.channels), "out_channels": outputs, "spatial_dims": dims}

    @property
    def case_bytes(self) -> int:
        """The bytes that the largest case needs in addition to the network."""
        ends = self.ends["in_channels"], self.ends["out_channels"]
        return max(case_bytes(shape, *ends) for shape in self.shapes)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of every case on the network's grid; with a crop margin, before it is cropped."""
        if self.resize is not None:
            return (self.resize,) * len(self.fingerprint.shapes)
        return self.fingerprint.shapes_at(self.spacing)

    @property
    def grid_spacing(self) -> tuple[float, ...]:
        """The spacing of the network's grid: one voxel along each axis if images are resized."""
        return self.spacing if self.resize is None else (1.0,) * len(self.spacing)

    @property
    def median_shape(self) -> tuple[int, ...]:
        """The median shape, per axis, on the network's grid."""
        return self.resize or self.fingerprint.median_shape(self.spacing)


def draft_plan(
    dataset: Dataset, fingerprint: Fingerprint, recipe: Recipe, splits: Splits, preset: str | None = None
) -> Draft:
    """Return the choices that depend only on the data, the recipe and the preset, with reasons and warnings."""
    spacing, spacing_reason = target_spacing(fingerprint)
    labels, labels_reason, warnings = plan_labels(dataset, fingerprint)
    values = dict(zip(dataset.names, fingerprint.case_values, strict=True))
    found = (*find_label_problems(dataset, values), *find_absent_classes(dataset, values, splits.train))
    warnings += [problem.message for problem in found]
    warnings += spacing_warnings(fingerprint, spacing)
    regions, regions_reason = plan_regions(dataset, labels, recipe, preset)
    structures = labels.names[1:] if regions is None else [region.name for region in regions]
    if preset is not None and (told := describe_outputs(preset, dataset, structures)):
        warnings.append(told)
    colour = is_rgb(dataset.channel_names)
    reasons = {"spacing": spacing_reason, "labels": labels_reason, "regions": regions_reason}
    if fingerprint.expanded_grey:
        warnings.append(f"{fingerprint.expanded_grey} grey images are expanded to RGB")
        reasons["channels"] = warnings[-1]
    channels = []
    for name, statistics in zip(dataset.channel_names, fingerprint.channels, strict=True):
        channel, reasons[f"channel {name}"] = plan_channel(name, statistics, fingerprint.spatial_dims, colour)
        channels.append(channel)
    numbers = len(splits.train), len(splits.val)
    return Draft(dataset, fingerprint, spacing, labels, regions, tuple(channels), recipe, *numbers, reasons, warnings)


def preset_config(name: str, variant: str | None, asked: Request, draft: Draft) -> dict[str, Any]:
    """Return the arguments of a preset's network for the data, including requested arguments."""
    arguments = {**preset_arguments(asked.model, name, variant), **draft.ends, **asked.arguments}
    # A plan is JSON, so its sequences are lists.
    config: dict[str, Any] = json.loads(json.dumps(arguments))
    if "activation" in config:
        config["activation"] = "softmax" if draft.regions is None else "sigmoid"
    return config


def assemble(
    draft: Draft, model: str, config: Mapping[str, Any], patch: Sequence[int], batch: int, recipe: Recipe
) -> Plan:
    """Return a plan without predicted time and memory."""
    with plan_errors("plan"):
        return Plan(
            dataset=draft.dataset.root.name,
            spatial_dims=3 if draft.fingerprint.spatial_dims == 3 else 2,
            spacing=draft.spacing,
            patch_size=tuple(patch),
            batch_size=batch,
            channels=draft.channels,
            labels=draft.labels,
            regions=draft.regions,
            resize=draft.resize,
            crop_margin=draft.crop_margin,
            normalise_first=draft.normalise_first,
            colours=dict(draft.dataset.label_colours),
            excluded={exclusion.case: exclusion.reason for exclusion in draft.dataset.excluded},
            model=ModelPlan(name=model, config=dict(config)),
            recipe=recipe,
        )
