"""A plan small enough for a test."""

import json

from deconvseg.planning import Plan


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
