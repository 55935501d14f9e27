"""Network, patch and batch of a paper, with their cost on this machine."""

import math
from typing import Any

import torch

from deconvseg.catalog import PRESETS
from deconvseg.errors import InputError
from deconvseg.models import Grid, create_model
from deconvseg.planning.candidates import USUAL_BATCH, for_patch, halve
from deconvseg.planning.patch import PATCH_VOXELS
from deconvseg.planning.request import ASKED, Request
from deconvseg.planning.search import Budget, Found
from deconvseg.units import format_bytes


def measure_preset(name: str, request: Request, config: dict[str, Any], budget: Budget) -> Found:
    """Take a paper's network, patch and batch, except for requested values, and measure their cost on this machine.

    On a CPU a smaller patch is measured if the paper's would take minutes, and the cost is scaled by voxels.
    """
    preset, model = PRESETS[name], request.model
    patch = preset.patch_size
    if (asked := request.patch(config["spatial_dims"], None)) is not None:
        patch, config = asked, _with_patch(model, config, asked)
    batch = request.batch_size or preset.batch_size or USUAL_BATCH["gpu", config["spatial_dims"]]
    share = budget.share(batch)
    tried, tried_batch, tried_config = patch, share, config
    if budget.kind == "cpu":
        tried, tried_config = _smaller(model, config, patch)
        tried_batch = 1
    cost = budget.measure(model, tried_config, tried, tried_batch, regions=budget.regions)
    if cost is None:
        raise InputError(
            f"preset {name}: {model} does not fit into {format_bytes(budget.memory)} of memory, even for one patch of "
            f"{list(tried)}; choose another preset, or omit it to plan a network for this machine"
        )
    voxels = math.prod(patch) / math.prod(tried)
    same = (tried, tried_batch) == (patch, share)
    if not same:
        cost = cost.scaled(voxels * share / tried_batch, inference=voxels)
    reason = f"preset {name}: the paper's, independent of this machine and of the time limit"
    reasons = dict.fromkeys(("model", "patch_size", "batch_size"), reason)
    if preset.batch_size is None:
        reasons["batch_size"] = f"preset {name}: the paper does not state it; {batch} is a choice of this package"
    if request.batch_size is not None:
        reasons["batch_size"] = f"{ASKED}, in place of the paper's"
    if request.patch_size is not None:
        reasons["patch_size"] = f"{ASKED}, in place of the paper's"
    return Found(config, patch, batch, cost, False, reasons, preset=name, measured=same)


def _smaller(model: str, config: dict[str, Any], patch: tuple[int, ...]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Halve a patch along all axes until it has the size for a CPU, as far as the network allows."""
    limit = PATCH_VOXELS["cpu", len(patch)]
    while math.prod(patch) > limit and (halved := halve(model, config, patch)) is not None:
        patch, config = halved
    return patch, config


def _with_patch(model: str, config: dict[str, Any], patch: tuple[int, ...]) -> dict[str, Any]:
    """Return a network's arguments for a patch; :class:`InputError` if the network does not accept that size."""
    config = for_patch(config, patch)
    with torch.device("meta"):
        multiple = create_model(model, **config).size_multiple
    Grid("cpu", patch, False, (), (), exact=True).patch(multiple)
    return config
