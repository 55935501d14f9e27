"""Several networks as one, by the mean of their probabilities."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.models.fitting import Grid, Size
from deconvseg.models.network import Network, log_sigmoid
from deconvseg.models.per_stage import check_ends
from deconvseg.models.registry import create_model, current_arguments, model_name, register_model

_ENDS = ("in_channels", "out_channels", "spatial_dims")


@register_model("ensemble")
class Ensemble(Network):
    """Average the probabilities of several networks, whichever they are.

    Deconver for Stroke Lesion Segmentation (SWITCH 2026) does so with SegResNet and Deconver. What it returns are
    logits whose softmax or sigmoid is that mean, so it can be used, and trained, as any network.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes, or regions.
        spatial_dims: 2 or 3.
        networks: for each network its registered ``name`` and ``config``, the further constructor arguments; its
            weights are those of ``members``, in this order.
        activation: what turns logits into probabilities: ``"softmax"`` over the classes, or ``"sigmoid"`` of each.

    Shapes: input (B, in_channels, \\*S) of a size that all the networks take; output (B, out_channels, \\*S).

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        networks: Sequence[Mapping[str, Any]] = (),
        activation: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        config = dict(locals())
        check_ends(in_channels, out_channels, spatial_dims)
        check_choice(activation, ("softmax", "sigmoid"), "activation")
        if not networks:
            raise InputError("networks=(): give the name and config of one network or more")
        ends = {"in_channels": in_channels, "out_channels": out_channels, "spatial_dims": spatial_dims}
        members = [_make(index, entry, ends) for index, entry in enumerate(networks)]
        super().__init__(
            config,
            size_multiple=[math.lcm(*axis) for axis in zip(*(member.size_multiple for member in members), strict=True)],
            fixed_size=_common_size(members),
        )
        self.activation = activation
        self.members = nn.ModuleList(members)

    @classmethod
    def of(cls, networks: Sequence[Network], activation: Literal["softmax", "sigmoid"] = "softmax") -> "Ensemble":
        """Make one of networks that are there already, and share their weights; their channels and axes must agree."""
        if not networks:
            raise InputError("networks=(): give one network or more")
        entries = [{"name": model_name(network), "config": network.config} for network in networks]
        with torch.device("meta"):
            ensemble = cls(**{key: getattr(networks[0], key) for key in _ENDS}, networks=entries, activation=activation)
        ensemble.members = nn.ModuleList(networks)
        return ensemble

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Refuse: its networks are fitted one by one."""
        raise InputError(
            "is made of other networks, so there is nothing of its own to fit: train each of them and give all runs "
            "to predict, or name a preset that has one"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Segment (B, in_channels, \\*S): logits of the mean of the probabilities."""
        self.check_input(x)
        logits = torch.stack([member(x) for member in self.members])
        if self.activation == "softmax":
            return _log_of_mean(F.log_softmax(logits, dim=2), len(self.members))
        positive, negative = (_log_of_mean(log_sigmoid(side), len(self.members)) for side in (logits, -logits))
        return positive - negative


def _log_of_mean(log_probabilities: Tensor, count: int) -> Tensor:
    """Average over the first axis, of that length, what is given by its logarithm."""
    return torch.logsumexp(log_probabilities, dim=0) - math.log(count)


def _make(index: int, entry: Mapping[str, Any], ends: Mapping[str, int]) -> Network:
    place = f"networks[{index}]"
    if not isinstance(entry, Mapping):
        raise InputError(f"{place} is a {type(entry).__name__}: give its name and config, or use Ensemble.of(networks)")
    config = entry.get("config", {})
    if not isinstance(entry.get("name"), str) or not isinstance(config, Mapping) or entry.keys() - {"name", "config"}:
        raise InputError(f"{place}={entry!r}: give a registered name and, where it needs more arguments, a config")
    for key in _ENDS:
        if config.get(key, ends[key]) != ends[key]:
            raise InputError(f"{place}: its {key} is {config[key]}, the ensemble's {ends[key]}: make them equal")
    try:
        # Configurations that were kept may be of an older version.
        return create_model(entry["name"], **{**current_arguments(entry["name"], config), **ends})
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _common_size(members: Sequence[Network]) -> tuple[int, ...] | None:
    """Return the one size that all of them take, or None where any goes."""
    sizes = {member.fixed_size for member in members if member.fixed_size is not None}
    if len(sizes) > 1:
        listed = " and ".join(map(str, sorted(sizes)))
        raise InputError(f"the networks were built for different sizes, {listed}: give them the same")
    size = next(iter(sizes), None)
    if size is not None:
        for member in members:
            member.check_size(size)
    return size
