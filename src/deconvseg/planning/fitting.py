"""How each registered network is fitted to the data and the machine: its constructor arguments, from narrow to wide."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from deconvseg.errors import InputError, check_choice
from deconvseg.models import create_model, list_arguments, list_models
from deconvseg.planning.patch import Grid

# A name of the size for people, and the arguments that make it.
Size = tuple[str, dict[str, Any]]
Fitting = Callable[[Grid, Sequence[int]], Iterator[Size]]

# Multiples of the lanes of a vector: the native kernels leave other widths to PyTorch. The papers' are the last.
_WIDTHS = {"cpu": (8, 16, 32, 48, 64), "gpu": (16, 32, 64)}
# Widths double with each stage up to here, as in the papers.
_MOST_CHANNELS = 512
# The stages that a network must have, where it says so.
_FEWEST_STAGES = {"nnunet": 3, "nnunet_resenc": 2}
# Filters of the NDC: on a CPU a larger one costs more than it has been seen to bring (Deconver, Tables I-III).
_CPU_FILTER, _FILTERS = 3, {2: 5, 3: 3}
_KERNEL = 3
# Blocks of SegResNet's stages (Myronenko, BrainLes 2018), and how often a size must be halved for the last of them.
_SEGRESNET_DEPTHS = (1, 2, 2, 4)
# Vision transformers by their usual names: hidden channels and heads, beside the channels of UNETR's decoder.
_TRANSFORMERS = {"tiny": (8, 192, 3), "small": (16, 384, 6), "base": (32, 768, 12)}
# Every network takes an image of this many voxels along each axis.
_PROBE = 64

_FITTINGS: dict[str, Fitting] = {}


def register_fitting(name: str) -> Callable[[Fitting], Fitting]:
    """Register how the network of that name is fitted.

    The function takes the plan's :class:`Grid` and a patch, and gives (label, constructor arguments without channels
    and axes), narrowest first. A network with ``widths`` and ``strides`` needs none.
    """

    def register(fitting: Fitting) -> Fitting:
        _FITTINGS[name] = fitting
        return fitting

    return register


def check_fittable(model: str) -> None:
    """Refuse a network that cannot be fitted, and say why."""
    _fitting(model)


def fit_network(model: str, ends: Mapping[str, Any], grid: Grid) -> tuple[tuple[int, ...], list[Size]]:
    """Return the patch that the network takes, and its sizes with all constructor arguments, narrowest first.

    ``ends`` are the channels and axes. Raises :class:`InputError` where slices are wanted of a network that downsamples
    along every axis.
    """
    fitting = _fitting(model)
    _, arguments = next(fitting(grid, [1 if axis == grid.slices else _PROBE for axis in range(len(grid.sizes))]))
    with torch.device("meta"):
        multiple = create_model(model, **ends, **arguments).size_multiple
    if grid.slices is not None and multiple[grid.slices] > 1:
        fitted = ", ".join(name for name in list_models() if {"widths", "strides"} <= set(list_arguments(name)))
        raise InputError(
            f"model {model!r} downsamples along every axis, so it cannot work on 2D slices of a volume: "
            f"use --dims 3, or one of {fitted}"
        )
    patch = grid.patch(multiple)
    return patch, [(label, {**ends, **arguments}) for label, arguments in fitting(grid, patch)]


def _fitting(model: str) -> Fitting:
    check_choice(model, list_models(), "model")
    if model in _FITTINGS:
        return _FITTINGS[model]
    if model == "ensemble":
        raise InputError(
            "model 'ensemble' is made of other networks, so there is nothing of its own to fit: train each of them and "
            "give all runs to predict (-m RUN -m RUN), or name a preset that has one"
        )
    missing = {"widths", "strides"} - set(list_arguments(model))
    if missing:
        raise InputError(
            f"model {model!r} has no {' and '.join(sorted(missing))} to be fitted to the data and this machine: name a "
            "preset that has it, or say how by deconvseg.planning.register_fitting"
        )
    return lambda grid, patch: _staged(model, grid, patch)


def _staged(model: str, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    """Fit a network of stages: widths that double, the grid's strides and, where it takes them, the grid's kernels."""
    known = list_arguments(model)
    flat = (2,) * len(grid.sizes)
    lacking = max(0, _FEWEST_STAGES.get(model, 1) - len(grid.strides))
    strides = [*grid.strides, *[tuple(1 if axis == grid.slices else n for axis, n in enumerate(flat))] * lacking]
    reaches = [*grid.reaches, *[grid.reaches[-1]] * lacking]
    arguments: dict[str, Any] = {"strides": [list(step) for step in strides]}
    if "kernel_size" in known:
        arguments |= _kernels(model, grid, reaches)
    if "window" in known and grid.slices is not None:
        arguments["window"] = [1 if axis == grid.slices else 4 for axis in range(len(grid.sizes))]
    if "image_size" in known:
        arguments["image_size"] = list(patch)
    for base in _WIDTHS[grid.kind]:
        widths = [min(base * 2**stage, max(base, _MOST_CHANNELS)) for stage in range(len(strides))]
        yield f"width {base}", {"widths": widths, **arguments}


def _kernels(model: str, grid: Grid, reaches: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """Return the kernels of every stage, flat ones along far axes; nothing where the network's own default is meant."""
    size = _KERNEL
    if model == "deconver":
        size = _CPU_FILTER if grid.kind == "cpu" else _FILTERS[grid.seen_dims]
    if grid.anisotropic:
        return {"kernel_size": [[size if reach else 1 for reach in stage] for stage in reaches]}
    return {"kernel_size": size} if model == "deconver" and grid.kind == "cpu" else {}


@register_fitting("unet_plus_plus")
def _unet_plus_plus(grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    for base in _WIDTHS[grid.kind]:
        yield f"width {base}", {"widths": [base, base, 2 * base, 4 * base, 8 * base], "last_width": base}


@register_fitting("segresnet")
def _segresnet(grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    # As many stages as the longest axis allows; the others are padded to it.
    depths = list(_SEGRESNET_DEPTHS[: max(2, len(grid.strides))])
    for filters in _WIDTHS[grid.kind]:
        yield f"width {filters}", {"init_filters": filters, "depths": depths}


@register_fitting("unetr")
def _unetr(grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    for name, (features, hidden, heads) in _TRANSFORMERS.items():
        sizes = {"hidden_size": hidden, "mlp_dim": 4 * hidden, "num_heads": heads}
        yield f"{name} transformer", {"image_size": list(patch), "feature_size": features, **sizes}


@register_fitting("swin_unetr")
@register_fitting("swin_unetr_v2")
def _swin_unetr(grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    # Multiples of 12, which its heads need; 48 is the paper's.
    for features in (12, 24, 36, 48):
        yield f"width {features}", {"feature_size": features}


@register_fitting("mednext")
def _mednext(grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    for filters in (8, 16):
        yield f"S, width {filters}", {"size": "S", "init_filters": filters}
    for size in "SBML":
        yield size, {"size": size, "init_filters": 32}


@register_fitting("nnmamba")
def _nnmamba(grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    for channels in (8, 16, 32):
        yield f"width {channels}", {"channels": channels}


@register_fitting("segmamba")
def _segmamba(grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    # The paper's proportions; 48 is its own width.
    for base in (12, 24, 48):
        yield f"width {base}", {"widths": [base, 2 * base, 4 * base, 8 * base], "hidden": 16 * base}
