"""Runs made of checkpoints of the authors' code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvseg.catalog import PRESETS
from deconvseg.data import file_sha256
from deconvseg.errors import InputError
from deconvseg.integrations.importing.checkpoints import read_checkpoint, tensors_of
from deconvseg.integrations.importing.runs import Trained, write_run
from deconvseg.integrations.official.networks import config_of
from deconvseg.models import Deconver, load_official
from deconvseg.options import takes
from deconvseg.options.importing import OfficialImportOptions
from deconvseg.planning import RECIPES, Plan
from deconvseg.planning.schema import plan_errors
from deconvseg.progress import choose_console
from deconvseg.runs import Run

# Where checkpoints keep the state dict: the authors' MONAI bundles under "model".
_PLACES = ("model", "state_dict", "network", "net", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "net.", "network.", "model.")
_KNOWN = ("stem.weight", "encoder.blocks.")


class _Task(NamedTuple):
    """The channels of a dataset, its labels by name, and its regions in the order of the network's outputs.

    A region is the labels that it unites, the first of which it is written as.
    """

    channels: tuple[str, ...]
    labels: tuple[str, ...]
    regions: Mapping[str, tuple[str, ...]]


_RGB = ("red", "green", "blue")
# By the authors' public configurations: BraTS'23 has the outputs ET, TC and WT.
_TASKS = {
    "isles22": _Task(("DWI", "ADC"), ("lesion",), {"lesion": ("lesion",)}),
    "isles26": _Task(("T1w",), ("lesion",), {"lesion": ("lesion",)}),
    "brats23": _Task(
        ("t1n", "t1c", "t2w", "t2f"),
        ("NCR", "ED", "ET"),
        {"ET": ("ET",), "TC": ("NCR", "ET"), "WT": ("ED", "NCR", "ET")},
    ),
    "glas": _Task(_RGB, ("gland",), {"gland": ("gland",)}),
    "fives": _Task(_RGB, ("vessel",), {"vessel": ("vessel",)}),
}


@takes(OfficialImportOptions)
def import_official(asked: OfficialImportOptions) -> Run:
    """Make a run of a checkpoint that the authors' code of Deconver wrote.

    The checkpoint holds a state dict of ``deconver.Deconver`` (or ``factorizer.Deconver``), directly or under "model",
    as those of the authors' MONAI bundles, "state_dict", "network" or "net". The shapes of its tensors give the
    network, the ``preset`` the preprocessing, channels and structures. It is read without objects that run code.

    Raises :class:`~deconvseg.errors.InputError` for a damaged checkpoint, one of another network, and one whose numbers
    of channels, outputs or axes are not those of the preset.

    Example:
        >>> import torch
        >>> from deconvseg.integrations import import_official
        >>> from deconvseg.models import Deconver
        >>> from deconvseg.models.official import official_name
        >>> trained = Deconver(3, 1, spatial_dims=2, widths=(8, 16))
        >>> state = {official_name(name): tensor for name, tensor in trained.state_dict().items()}
        >>> torch.save({"model": state}, "model.pt")
        >>> import_official("model.pt", "IMPORTED", preset="fives").plan.model.config["widths"]
        [8, 16]

    """
    path = Path(asked.checkpoint)
    weights = _state_dict(read_checkpoint(path), str(path))
    config = config_of(weights, str(path))
    _check_ends(config, asked.preset, str(path))
    with torch.device("meta"):
        shapes = Deconver(**config)
    # On the CPU, and not drawn: every tensor is replaced.
    network = shapes.to_empty(device="cpu")
    try:
        load_official(network, weights)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    plan = _plan_of(asked.preset, config)
    origin = {
        "fold": None,
        "imported": {
            "from": "the authors' code of Deconver",
            "preset": asked.preset,
            "checkpoint": path.name,
            "checkpoint_sha256": file_sha256(path),
        },
    }
    run = write_run(Path(asked.output), plan, Trained(network.state_dict(), origin=origin))
    for line in _notes(config, asked.preset):
        choose_console(asked.console).say(line)
    return run


def _state_dict(tree: Any, where: str) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint under the authors' names, without prefixes of wrappers."""
    found = tree
    if isinstance(tree, Mapping) and not any(isinstance(value, Tensor) for value in tree.values()):
        place = next((name for name in _PLACES if isinstance(tree.get(name), Mapping)), None)
        if place is None:
            listed = ", ".join(map(str, list(tree)[:8])) or "nothing"
            raise InputError(f"{where}: holds {listed}, and no state dict under {', '.join(_PLACES)}")
        found, where = tree[place], f"{where}: {place}"
    weights = tensors_of(found, where)
    while not any(name.startswith(_KNOWN) for name in weights):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in weights)), None)
        if prefix is None:
            break
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _check_ends(config: Mapping[str, Any], preset: str, where: str) -> None:
    wanted = PRESETS[preset].ends
    names = {"in_channels": "input channels", "out_channels": "outputs", "spatial_dims": "axes"}
    for key, name in names.items():
        if config[key] != wanted[key]:
            raise InputError(f"{where}: has {config[key]} {name}, but preset {preset} has {wanted[key]}; give its own")


def _plan_of(name: str, config: Mapping[str, Any]) -> Plan:
    """Return the plan of a preset for a network, without a dataset."""
    preset, task, dims = PRESETS[name], _TASKS[name], config["spatial_dims"]
    ids = {label: number for number, label in enumerate(task.labels, 1)}
    tree = {
        "dataset": name,
        "spatial_dims": dims,
        "spacing": preset.spacing or (1.0,) * dims,
        "patch_size": preset.patch_size,
        "batch_size": preset.batch_size or 1,
        "channels": [{"name": channel, "normalisation": preset.normalisation} for channel in task.channels],
        "labels": {"values": [0, *ids.values()], "names": ["background", *task.labels]},
        "regions": [
            {"name": region, "labels": sorted(ids[label] for label in labels), "paints": ids[labels[0]]}
            for region, labels in task.regions.items()
        ],
        "crop_margin": preset.crop_margin,
        "normalise_first": preset.normalise_first,
        "model": {"name": "deconver", "config": dict(config)},
        "recipe": {**RECIPES["paper"].model_dump(mode="json"), "epochs": preset.epochs or 1},
    }
    with plan_errors(f"preset {name}"):
        return Plan.model_validate_json(json.dumps(tree), strict=True)


def _notes(config: Mapping[str, Any], preset: str) -> list[str]:
    """Return what a reader should know: the network, if it is not the one of the preset."""
    own = {**PRESETS[preset].arguments("deconver")}
    widths = ", ".join(map(str, config["widths"]))
    lines = [f"Deconver with widths {widths}; preprocessing of preset {preset}; its training is not recorded"]
    if list(own["widths"]) != config["widths"]:
        lines.append(f"the paper's network of preset {preset} has widths {', '.join(map(str, own['widths']))}")
    return lines
