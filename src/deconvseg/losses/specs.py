"""Loss specifications of recipes: a name, a name with options, or a list of these, which means their sum."""

from collections.abc import Mapping, Sequence
from typing import Any

from deconvseg.errors import InputError
from deconvseg.losses.base import SegmentationLoss
from deconvseg.losses.registry import list_losses, make_loss
from deconvseg.losses.sums import SumLoss

LossSpec = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]


def create_loss(
    spec: LossSpec,
    *,
    regions: Sequence[Sequence[int]] | None = None,
    ignore_id: int | None = None,
    **defaults: Any,
) -> SegmentationLoss:
    """Return the loss for a specification of a recipe.

    Args:
        spec: a name (``"dice_ce"``), a mapping with ``kind`` and options (``{"kind": "tversky", "beta": 0.8}``), or a
            list of these, which means their sum; each item may have a ``weight``.
        regions: see :class:`SegmentationLoss`.
        ignore_id: see :class:`SegmentationLoss`.
        **defaults: options for losses that have them and do not set them.

    Example:
        >>> from deconvseg.losses import create_loss
        >>> create_loss(["dice_ce", {"kind": "focal", "weight": 0.5}], batch=True).title
        'soft Dice over the batch + cross-entropy + 0.5 x focal loss (gamma 2)'

    """
    defaults = {**defaults, "regions": regions, "ignore_id": ignore_id}
    if isinstance(spec, str | Mapping):
        return _create(spec, defaults)
    if not isinstance(spec, Sequence) or not spec:
        raise InputError(f"loss {spec!r}: give a name, a mapping with a kind, or a list of them")
    parts: list[dict[str, Any]] = [dict(part) if isinstance(part, Mapping) else {"kind": part} for part in spec]
    weights = [part.pop("weight", 1.0) for part in parts]
    if any(isinstance(weight, bool) or not isinstance(weight, int | float) for weight in weights):
        raise InputError(f"loss {spec!r}: give a number as weight")
    return SumLoss([_create(part, defaults) for part in parts], weights)


def _create(spec: str | Mapping[str, Any], defaults: Mapping[str, Any]) -> SegmentationLoss:
    options = dict(spec) if isinstance(spec, Mapping) else {"kind": spec}
    name = options.pop("kind", None)
    if not isinstance(name, str):
        raise InputError(
            f"loss {spec!r}: give a name, or a mapping with its kind; known are {', '.join(list_losses())}"
        )
    return make_loss(name, options, defaults)
