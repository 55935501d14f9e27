"""Plans, networks and images that together use every choice of a plan that decides a mask."""

from typing import Any

import numpy as np
import torch
from torch import nn

from deconvseg.inference import Predictor
from deconvseg.integrations import Contract
from deconvseg.integrations.exporting.contract import ExportedModel
from deconvseg.integrations.exporting.describing import make_contract
from deconvseg.planning import Plan
from plans import tiny_plan

# Oblique, with the axes in another order than RAS and turned, and 3 mm between slices.
OBLIQUE = np.array([[0.1, -0.9, 0.2, 5.0], [0.1, 0.1, -3.0, 40.0], [1.1, 0.1, 0.3, -7.0], [0, 0, 0, 1]])
LABELS = {"values": [0, 3, 7, 300], "names": ["background", "shell", "core", "seed"]}
NESTED = [
    {"name": "inner", "labels": [3], "paints": 3},
    {"name": "whole", "labels": [1, 2, 3], "paints": 1},
    {"name": "middle", "labels": [2, 3], "paints": 2},
]


def plan_of(dims: int, **changes: Any) -> Plan:
    tree = {
        "spatial_dims": dims,
        "spacing": [1.3, 1.0, 2.1][:dims],
        "patch_size": [8, 12, 6][:dims],
        "labels": LABELS,
        "channels": [{"name": "T1"}, {"name": "CT", "normalisation": "ct", "clip": [-1, 2.5], "mean": 0.3, "std": 1.7}],
        "recipe": {"overlap": 0.4, "augmentation": {"flip_axes": [0]}},
    }
    return tiny_plan(**{**tree, **changes})


def networks_of(plan: Plan, count: int) -> list[nn.Module]:
    torch.manual_seed(1)
    conv = nn.Conv3d if plan.spatial_dims == 3 else nn.Conv2d
    networks = [conv(len(plan.channels), plan.outputs, 3, padding=1).eval() for _ in range(count)]
    for network in networks:
        nn.init.normal_(network.weight)
    return networks


def scan(shape: tuple[int, ...], channels: int = 2) -> np.ndarray:
    """Noise that varies slowly, with zeros around it."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(channels, *shape)).astype(np.float32)
    for axis in range(1, pixels.ndim):
        pixels = (pixels + np.roll(pixels, 1, axis)) * np.float32(0.8)
        pixels[(slice(None),) * axis + (slice(0, 3),)] = 0
    return np.ascontiguousarray(pixels)


def contract_of(predictor: Predictor, networks: int) -> Contract:
    model = ExportedModel(
        format="onnx",
        file="model.onnx",
        sha256="0" * 64,
        networks=networks,
        maps=predictor.plan.outputs,
        any_batch=True,
        any_size=True,
        size_multiple=(1,) * predictor.plan.spatial_dims,
        sampling="gather",
    )
    return make_contract(predictor, model)


VARIANTS: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "usual": ({}, 1, {}),
    "crop to nonzero": ({"crop_to_nonzero": True}, 1, {}),
    "not cropped": ({"crop_to_nonzero": True}, 1, {"crop": False}),
    "crop margin": ({"crop_margin": 2, "channels": [{"name": "a", "normalisation": "zscore_nonzero"}] * 2}, 1, {}),
    "normalised first": ({"normalise_first": True}, 1, {}),
    "resized": ({"resize": [9, 16, 11]}, 1, {}),
    "fine grid": ({"spacing": [0.6, 0.7, 0.9]}, 1, {}),
    "large windows": ({"patch_size": [32, 32, 24]}, 1, {}),
    "mirrored": ({"recipe": {"overlap": 0.0, "augmentation": {"flip_axes": [0, 1]}}}, 1, {"tta": True}),
    "mean of three": ({}, 3, {}),
    "foreground": ({}, 1, {"threshold": 0.8}),
    "foreground of two": ({}, 2, {"threshold": 0.8}),
    "classes": ({}, 1, {"threshold": {"core": 0.3, "shell": 0.35}}),
    "regions": ({"regions": NESTED}, 1, {}),
    "regions of two": ({"regions": NESTED}, 2, {"threshold": {"whole": 0.45, "inner": 0.6}}),
}
