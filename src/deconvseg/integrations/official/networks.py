"""The arguments of a Deconver from the shapes of the authors' state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from deconvseg.errors import InputError

# The constant of the update in the authors' code, which no shape tells.
_EPS = 1e-16
_BLOCK = "{part}.blocks.{stage}.block.blocks.{block}.dcm."


def config_of(weights: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Return the constructor arguments of the Deconver that has the authors' weights.

    Everything but the constant of the update, 1e-16 in the authors' code, follows from the shapes. Raises
    :class:`~deconvseg.errors.InputError` if a tensor is missing that every Deconver has.
    """
    stem = _get(weights, "stem.weight", where)
    depths = _depths(weights, "encoder", where)
    first = [_BLOCK.format(part="encoder", stage=stage, block=0) for stage in range(len(depths))]
    filters = [_get(weights, f"{block}deconv.init.h0", where) for block in first]
    widths = [len(each) for each in filters]
    mixed = _get(weights, f"{first[0]}deconv.init.linear.linear.weight", where)
    expanded = _get(weights, "encoder.blocks.0.block.blocks.0.mlp.block.0.linear.weight", where)
    steps = [
        list(_get(weights, f"encoder.blocks.{stage}.downsample.weight", where).shape[2:])
        for stage in range(1, len(depths))
    ]
    supervised = "heads.0.weight" in weights
    heads = len({name.split(".")[1] for name in weights if name.startswith("heads.")})
    head = _get(weights, "heads.0.weight" if supervised else "head.weight", where)
    ratio = len(mixed) / widths[0]
    dims = stem.ndim - 2
    return {
        "in_channels": stem.shape[1],
        "out_channels": len(head),
        "spatial_dims": dims,
        "widths": widths,
        "depths": depths,
        "decoder_depths": _depths(weights, "decoder", where),
        "strides": [[1] * dims, *steps],
        "kernel_size": [list(each.shape[2:]) for each in filters],
        "ratio": int(ratio) if ratio.is_integer() else ratio,
        "groups": _groups(filters, ratio),
        "mlp_ratio": len(expanded) / widths[0],
        "eps": _EPS,
        "deep_supervision_heads": heads - 1 if supervised else 0,
    }


def _depths(weights: Mapping[str, Tensor], part: str, where: str) -> list[int]:
    """Return the number of blocks of each stage of the encoder or the decoder."""
    found = [re.match(rf"{part}\.blocks\.(\d+)\.block\.blocks\.(\d+)\.", name) for name in weights]
    places = {(int(match[1]), int(match[2])) for match in found if match is not None}
    if not places:
        raise InputError(
            f"{where}: has no {part}.blocks, as the authors' Deconver has; checkpoints of other networks, and of other "
            "code, are not imported"
        )
    stages = 1 + max(stage for stage, _ in places)
    return [sum(stage == number for stage, _ in places) for number in range(stages)]


def _groups(filters: Sequence[Tensor], ratio: float) -> int | None:
    """Return the groups of the filters (C, C · R / G, \\*K) of each stage; None for as many as channels."""
    groups = [round(len(each) * ratio / each.shape[1]) for each in filters]
    return None if groups == [len(each) for each in filters] else groups[0]


def _get(weights: Mapping[str, Tensor], name: str, where: str) -> Tensor:
    if name not in weights:
        raise InputError(f"{where}: has no {name}, as the authors' Deconver has; it is of another network or code")
    return weights[name]
