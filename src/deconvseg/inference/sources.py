"""What the deconvolutions of a run make of an image, before and after its training."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

import torch

from deconvseg.inference.looking import look_at
from deconvseg.models import Network, create_model
from deconvseg.runs import Run, WeightsChoice

if TYPE_CHECKING:
    from deconvseg.reporting.sources import SourceMap


def map_sources(
    model: str | PathLike[str],
    image: str | PathLike[str],
    *,
    slice: int | None = None,
    weights: WeightsChoice | None = None,
    case: str | None = None,
) -> dict[str, list[SourceMap]]:
    """Return what each deconvolution of a run makes of one image, "before training" and "after training".

    The image is prepared as by a prediction; networks see it as :func:`~deconvseg.inference.map_sampling` describes,
    with its ``slice``, ``weights`` and ``case``. The network before training has the weights that its seed gives; a run
    that started from other weights, or was imported, has only "after training". Raises
    :class:`~deconvseg.errors.InputError` for a network without nonnegative deconvolution and an image that cannot be
    predicted.

    Example:
        >>> from deconvseg.inference import map_sources
        >>> found = map_sources("RUN", "image.png")
        >>> {when: len(maps) for when, maps in found.items()}
        {'before training': 3, 'after training': 3}

    """
    from deconvseg.reporting.sources import source_maps

    look = look_at(model, image, slice=slice, weights=weights, case=case)
    start = _untrained(look.run)
    networks = {"before training": start, "after training": look.network}
    return {
        when: source_maps(network, look.pixels, slice=look.slice)
        for when, network in networks.items()
        if network is not None
    }


def _untrained(run: Run) -> Network | None:
    """Return the network with which the training began; None if it began with given weights, or if nobody knows."""
    config = run.config
    if "seed" not in config or config.get("pretrained") or config.get("imported"):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(config["seed"]))
        return create_model(run.plan.model.name, **run.plan.model.config).eval()
