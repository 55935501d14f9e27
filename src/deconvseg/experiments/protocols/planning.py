"""The plan of a cell: that of the paper at the scale of the table, without measurements on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deconvseg.catalog import Preset
from deconvseg.data import Dataset, Splits
from deconvseg.experiments.protocols.reading import find_network, preset_name, preset_of
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.schema import Protocol, ProtocolDataset, ProtocolRow
from deconvseg.planning import ModelPlan, Plan, Recipe, StepCost, cache_folder, check_plan, make_plan
from deconvseg.progress import Console

# A paper's plan depends on no measurement, and the forecasts that are made from one are left out.
_UNMEASURED = StepCost(seconds=1.0, base=1, memory=1, inference=1, parameters=1)
_OF_MEASUREMENTS = ("recipe.validate_every", "recipe.epochs")
# A training of a fixed number of steps has these epochs of at least so many steps, and so many validations.
_EPOCHS, _STEPS_OF_EPOCH, _VALIDATIONS = 20, 25, 4


def plan_cell(
    protocol: Protocol,
    row: ProtocolRow,
    dataset: ProtocolDataset,
    data: Dataset,
    parts: Sequence[Splits],
    *,
    scale: Scale,
    values: Mapping[str, Any],
    device: str,
    workers: int | None,
    console: Console,
) -> Plan:
    """Return the plan of a row on a dataset."""
    preset, own = preset_of(dataset), dataset.setting
    model, arguments = find_network(row, preset, f"row {row.key!r}")
    names = tuple(dict.fromkeys(name for part in parts for name in (*part.train, *part.val)))
    everything = Splits(names, (), ())
    values_of_row = {**({} if own is None else own.plan), **protocol.plan, **row.plan}
    plan = make_plan(
        data.select(names),
        everything,
        **_planned_by(dataset, preset, model, scale),
        recipe=protocol.recipe or preset.recipe,
        device=device,
        workers=workers,
        cache=Path(cache_folder()),
        measure=lambda *candidate, **options: _UNMEASURED,
        console=console,
    )
    of_data = {key: plan.model.config[key] for key in ("in_channels", "out_channels", "spatial_dims")}
    config = scale.network(model, {**arguments, **of_data})
    plan = plan.model_copy(update={"model": ModelPlan(name=model, config=_json(config))})
    plan = plan.with_values(values_of_row)
    cases = min(len(part.train) for part in parts)
    update: dict[str, Any] = {
        "patch_size": scale.size(plan.patch_size),
        "recipe": scale.recipe(_fix_steps(plan.recipe, protocol.steps_of(row, dataset)), cases, plan.batch_size),
        "predicted": None,
        "warnings": (),
        "reasons": {key: text for key, text in plan.reasons.items() if key not in _OF_MEASUREMENTS},
    }
    if (resize := getattr(plan, "resize", None)) is not None:
        update["resize"] = scale.size(resize)
    plan = plan.model_copy(update=update).with_values(values)
    plan = plan.with_reasons(plan.reasons)
    check_plan(plan)
    return plan


def _planned_by(dataset: ProtocolDataset, preset: Preset, model: str, scale: Scale) -> dict[str, Any]:
    """Return the arguments of the planner that choose network, patch and batch."""
    if dataset.setting is not None:
        # The planner fits only some networks; that of the row replaces the one that it finds.
        return {"patch_size": preset.patch_size, "batch_size": scale.batch or preset.batch_size}
    known = model in preset.networks
    chosen = model if known else next(iter(preset.networks))
    return {"model": chosen, "preset": preset_name(dataset), "batch_size": scale.batch}


def _fix_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """Return the recipe with a number of steps, in epochs of which the last may be missing a few."""
    if steps is None:
        return recipe
    epochs = max(1, min(_EPOCHS, steps // _STEPS_OF_EPOCH))
    update = {"epochs": epochs, "steps_per_epoch": steps // epochs, "validate_every": max(1, epochs // _VALIDATIONS)}
    return recipe.model_copy(update=update)


def _json(config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(config))
    return found
