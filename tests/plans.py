"""A plan small enough for a test."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from deconvseg.models import create_model
from deconvseg.planning import Plan
from deconvseg.runs import Run


def tiny_plan(**changes: object) -> Plan:
    """A plan for ``discs`` that trains in a second."""
    tree = {
        "version": 1,
        "dataset": "discs",
        "spatial_dims": 2,
        "spacing": [1.0, 1.0],
        "patch_size": [32, 32],
        "batch_size": 2,
        "channels": [{"name": "grey"}],
        "labels": {"values": [0, 255], "names": ["background", "disc"]},
        "model": {
            "name": "deconver",
            "config": {
                "in_channels": 1,
                "out_channels": 2,
                "spatial_dims": 2,
                "widths": [4, 8],
                "kernel_size": 3,
            },
        },
        "recipe": {"epochs": 2, "steps_per_epoch": 3, "validate_every": 1, "learning_rate": 0.003},
    }
    return Plan.model_validate_json(json.dumps({**tree, **changes}))


UNCHANGED = {"name": "image", "normalisation": "ct", "mean": 0.0, "std": 1.0}


def plan_of(
    dims: int,
    classes: int,
    window: Sequence[int],
    spacing: Sequence[float],
    regions: bool = False,
    overlap: float = 0.5,
) -> Plan:
    """A plan that leaves intensities as they are, of so many classes (or regions)."""
    painted = [{"name": f"r{i}", "labels": [i], "paints": i} for i in range(1, classes + 1)]
    values = range(classes + 1) if regions else range(classes)
    return tiny_plan(
        spatial_dims=dims,
        spacing=list(spacing),
        patch_size=list(window),
        channels=[UNCHANGED],
        labels={"values": list(values), "names": [str(value) for value in values]},
        regions=painted if regions else None,
        recipe={"overlap": overlap},
    )


def nested_plan() -> Plan:
    """Regions as of a tumour: the whole, its core in it, and a part of that; the outputs are not in that order."""
    labels = {"values": [0, 1, 2, 3], "names": ["background", "oedema", "core", "enhancing"]}
    regions = [
        {"name": "inner", "labels": [3], "paints": 3},
        {"name": "whole", "labels": [1, 2, 3], "paints": 1},
        {"name": "middle", "labels": [2, 3], "paints": 2},
    ]
    config = {"in_channels": 1, "out_channels": 3, "spatial_dims": 2, "widths": [4, 8], "kernel_size": 3}
    return tiny_plan(labels=labels, regions=regions, model={"name": "deconver", "config": config})


def volume_run(folder: Path, **changes: object) -> Path:
    """An untrained 3D run: enough to see where voxels go."""
    config = {"in_channels": 1, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    plan = tiny_plan(
        **{
            "spatial_dims": 3,
            "spacing": [1.0, 1.0, 1.0],
            "patch_size": [8, 8, 8],
            "labels": {"values": [0, 5, 300], "names": ["background", "a", "b"]},
            "model": {"name": "deconver", "config": config},
            **changes,
        }
    )
    run = Run.create(folder, plan, {}, {"train": [], "val": [], "test": []})
    torch.manual_seed(0)
    run.save_weights(create_model("deconver", **plan.model.config).state_dict())
    return folder
