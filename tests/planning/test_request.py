"""Choices that are asked for are kept to, the others are made for them, and the plan is measured with all."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from deconvseg.data import open_dataset, resolve_splits
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.models import create_model, list_models
from deconvseg.planning import Plan, StepCost, check_plan, explain, make_plan

MIB = 2**20
# What was measured: (configuration, patch, batch).
Trials = list[tuple[dict[str, Any], tuple[int, ...], int]]


def meter(trials: Trials, limit: int | None = None):  # type: ignore[no-untyped-def]
    """Make up what a step takes: more with every parameter and voxel; nothing beyond a limit of bytes."""

    def measure(
        name: str, config: Mapping[str, Any], patch: Sequence[int], batch: int, *, regions: bool
    ) -> StepCost | None:
        trials.append((dict(config), tuple(patch), batch))
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in create_model(name, **config).parameters())
        voxels = batch * math.prod(patch)
        memory = 500 * MIB + 16 * parameters + 4000 * voxels
        if limit is not None and memory > limit:
            return None
        return StepCost(1e-9 * voxels * parameters**0.5, 500 * MIB, memory, 500 * MIB, parameters)

    return measure


def plan_of(folder: Path, trials: Trials | None = None, limit: int | None = None, **asked: Any) -> Plan:
    data = open_dataset(folder)
    parts = resolve_splits(data, None, fold=0)
    measured = meter([] if trials is None else trials, limit)
    usual = {"memory": limit or 8 << 30, "device": "cpu", "seconds": 60.0}
    return make_plan(data, parts, measure=measured, **{**usual, **asked})


def test_all_that_is_asked_for_is_measured_and_has_its_reason(balls: Path) -> None:
    trials: Trials = []
    upsampling = {"kind": "dtc+transposed", "receptive_field": 2}
    asked = {"upsampling": upsampling, "width": 24, "patch_size": [16, 32, 8], "batch_size": 3, "learning_rate": 2e-4}
    plan = plan_of(balls, trials, **asked)
    assert (plan.patch_size, plan.batch_size, plan.recipe.learning_rate) == ((16, 32, 8), 3, 2e-4)
    assert plan.model.config["widths"][0] == 24
    assert plan.model.config["upsampling"] == upsampling
    assert {(patch, batch) for _, patch, batch in trials} == {((16, 32, 8), 3)}
    assert all(config == plan.model.config for config, *_ in trials)
    keys = ("patch_size", "batch_size", "model.config.upsampling", "recipe.learning_rate")
    assert all(plan.reasons[key] == "as requested" for key in keys)
    assert plan.reasons["model"].startswith("of width 24, as requested; ")
    assert plan.reasons["model.config.widths"].startswith("the first as requested; ")
    assert plan.changed_by_hand == ()
    check_plan(plan)
    rows = {row[0].strip(): row for section in explain(plan) for row in section.rows}
    assert rows["learning rate"] == ("  learning rate", "0.0002", "as requested")


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        ({"batch_size": 4}, {"batch_size": 4}),
        ({"learning_rate": 1e-4}, {"recipe.learning_rate": 1e-4}),
        ({"patch_size": 16}, {"patch_size": [16, 16, 16]}),
        ({"patch_size": (16, 16, 8)}, {"patch_size": [16, 16, 8]}),
        ({"upsampling": "linear"}, {"model.config.upsampling": "linear"}),
    ],
)
def test_an_option_sets_what_a_dotted_path_sets(balls: Path, asked: dict[str, Any], values: dict[str, Any]) -> None:
    """What it sets is the same; only the option is measured, and the path says that it was changed afterwards."""
    option, path = plan_of(balls, **asked), plan_of(balls, values=values)
    for key in ("batch_size", "patch_size"):
        assert getattr(option, key) == getattr(path, key) or key not in {*asked, *values}
    assert option.recipe.learning_rate == path.recipe.learning_rate
    assert option.model.config.get("upsampling") == path.model.config.get("upsampling")
    assert option.changed_by_hand == ()
    assert set(values) & {*path.changed_by_hand, "recipe.learning_rate", "model.config.upsampling"}
    assert plan_of(balls).with_values(values) == path


def test_a_larger_patch_leaves_room_for_a_smaller_batch_and_a_wider_network_for_fewer_steps(balls: Path) -> None:
    small, large = (plan_of(balls, patch_size=size, seconds=50.0) for size in (16, 64))
    assert small.batch_size > large.batch_size
    narrow, wide = (plan_of(balls, width=width, batch_size=2, patch_size=16) for width in (8, 64))
    steps = [plan.recipe.epochs * plan.recipe.steps_per_epoch for plan in (narrow, wide)]
    assert steps[0] > steps[1]
    predicted = [plan.predicted for plan in (narrow, wide)]
    assert predicted[0] is not None
    assert predicted[1] is not None
    assert predicted[0].step_seconds < predicted[1].step_seconds
    assert predicted[0].memory_bytes < predicted[1].memory_bytes


@pytest.mark.parametrize("model", sorted({*list_models()} - {"ensemble", "slicewise", "nnunet_architecture"}))
def test_every_network_has_a_width(balls: Path, model: str) -> None:
    try:
        plan = plan_of(balls, model=model, width=24)
    except MissingPackageError as missing:
        pytest.skip(str(missing))
    numbers = [value[0] if isinstance(value, list) else value for value in plan.model.config.values()]
    assert 24 in numbers
    check_plan(plan)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"patch_size": 30}, r"`patch_size=\[30, 30, 30\]`: this network needs a multiple of .*; the nearest patch is"),
        ({"patch_size": [32, 30, 16]}, r"multiple of \d+x\d+x\d+; the nearest patch is 32x(24|32)x16"),
        ({"preset": "isles22", "patch_size": 60}, "multiple of 8x8x8; the nearest patch is 64x64x64"),
        ({"preset": "isles22", "patch_size": [64, 64]}, "the images are 3D: give 3 numbers"),
        ({"values": {"model.config.widths": [8, 16, 32, 64, 128, 256, 512]}}, "widths|strides|stages"),
        ({"values": {"model.config.depths": [1]}}, "depths"),
        ({"preset": "isles22", "values": {"model.config.depths": [1]}}, "depths"),
        ({"model": "swin_unetr", "dims": 2, "patch_size": [16, 16]}, "cannot work on 2D slices"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(balls: Path, asked: dict[str, Any], message: str) -> None:
    trials: Trials = []
    with pytest.raises(InputError, match=message) as refused:
        plan_of(balls, trials, **asked)
    assert not trials
    assert "\n" not in str(refused.value)


def test_images_of_two_axes_take_no_patch_of_three(discs: Path) -> None:
    with pytest.raises(InputError, match="the images are 2D: give 2 numbers, or one for all axes"):
        plan_of(discs, patch_size=(16, 16, 16))
    assert plan_of(discs, patch_size=(16, 32)).patch_size == (16, 32)


def test_memory_that_does_not_suffice_for_what_is_asked_says_how_much_would(balls: Path) -> None:
    limit = 700 * MIB
    message = r"a batch of 8 with patches of 64x64x64 needs about 8\.\d GiB of memory .* 700 MiB may be taken"
    with pytest.raises(InputError, match=message):
        plan_of(balls, limit=limit, patch_size=64, batch_size=8)
    # With the batch left open, one patch is tried at last.
    with pytest.raises(InputError, match=r"a batch of 1 with patches of 64x64x64 needs about 1\.\d GiB"):
        plan_of(balls, limit=limit, patch_size=64)
    assert plan_of(balls, limit=limit, batch_size=2).batch_size == 2


@pytest.mark.parametrize(
    ("asked", "patch"),
    [
        ({"patch_size": [16, 16]}, (16, 16, 1)),
        ({"patch_size": 16, "dims": 2}, (16, 16, 1)),
        ({"patch_size": [1, 16, 8]}, (1, 16, 8)),
        ({"patch_size": [16, 16, 8]}, (16, 16, 8)),
    ],
)
def test_a_patch_says_whether_volumes_are_cut_into_slices(balls: Path, asked: dict[str, Any], patch: tuple) -> None:  # type: ignore[type-arg]
    plan = plan_of(balls, **asked)
    assert plan.patch_size == patch
    # The command line and `train` give what is asked for as entries of the plan, too.
    entries = {"patch_size": asked["patch_size"]}
    assert plan_of(balls, **asked, values=entries).patch_size == plan.with_values(entries).patch_size == patch
    if 1 in patch:
        axis = patch.index(1)
        assert {stage[axis] for stage in plan.model.config["strides"]} == {1}
    check_plan(plan)


def test_a_preset_keeps_what_is_not_asked_for(balls: Path) -> None:
    plan = plan_of(balls, preset="isles22", batch_size=1, upsampling="dtc+transposed", memory=64 << 30)
    assert (plan.patch_size, plan.batch_size) == ((64, 64, 64), 1)
    assert plan.model.config["upsampling"] == "dtc+transposed"
    assert plan.reasons["batch_size"] == "as requested, in place of the paper's"
    assert plan.reasons["patch_size"].startswith("preset isles22: the paper's")


def test_one_size_is_taken_for_all_axes_that_are_seen(plan: Plan) -> None:
    assert plan.with_values({"patch_size": 16}).patch_size == (16, 16)
    volume = {
        "spatial_dims": 3,
        "spacing": [1.0] * 3,
        "patch_size": [16, 16, 1],
    }
    slices = Plan.model_validate({**plan.model_dump(), **volume})
    assert slices.with_values({"patch_size": 8}).patch_size == (8, 8, 1)
