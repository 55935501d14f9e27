"""Ensembles of networks by the mean of their probabilities."""

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
    """Ensemble that averages the probabilities of several networks.

    The paper "Deconver for Stroke Lesion Segmentation" (SWITCH 2026) uses one of SegResNet and Deconver. The output is
    logits whose softmax or sigmoid is the mean probability, so an ensemble can be used and trained like any network.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        networks: for each network its registered ``name`` and its ``config``, the other constructor arguments; the
            networks are in ``members``, in this order.
        activation: function that converts logits to probabilities: ``"softmax"`` over the classes, or ``"sigmoid"``.

    Shapes: input (B, in_channels, \\*S) of a size that all networks support; output (B, out_channels, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.models import Deconver, Ensemble, UNet
        >>> networks = [Deconver(1, 2, 2, widths=(8, 16)), UNet(1, 2, 2, widths=(8, 16))]
        >>> Ensemble.of(networks)(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])

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
        """Return an ensemble that shares the weights of existing networks; their channels and axes must agree."""
        if not networks:
            raise InputError("networks=(): give one network or more")
        entries = [{"name": model_name(network), "config": network.config} for network in networks]
        with torch.device("meta"):
            ensemble = cls(**{key: getattr(networks[0], key) for key in _ENDS}, networks=entries, activation=activation)
        ensemble.members = nn.ModuleList(networks)
        return ensemble

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Raise :class:`InputError`, because the networks of an ensemble are fitted separately."""
        raise InputError(
            "is made of other networks, so there is nothing of its own to fit: train each of them and give all runs "
            "to predict, or name a preset that has one"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the mean probabilities for an image (B, in_channels, \\*S)."""
        self.check_input(x)
        logits = torch.stack([member(x) for member in self.members])
        if self.activation == "softmax":
            return _log_of_mean(F.log_softmax(logits, dim=2), len(self.members))
        positive, negative = (_log_of_mean(log_sigmoid(side), len(self.members)) for side in (logits, -logits))
        return positive - negative


def _log_of_mean(log_probabilities: Tensor, count: int) -> Tensor:
    """Return the logarithm of the mean over the first axis (of length ``count``) of exp(log_probabilities)."""
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
        # Saved configurations may come from an older version.
        return create_model(entry["name"], **{**current_arguments(entry["name"], config), **ends})
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _common_size(members: Sequence[Network]) -> tuple[int, ...] | None:
    """Return the fixed size of the networks, or None if none has one; :class:`InputError` if they conflict."""
    sizes = {member.fixed_size for member in members if member.fixed_size is not None}
    if len(sizes) > 1:
        listed = " and ".join(map(str, sorted(sizes)))
        raise InputError(f"the networks were built for different sizes, {listed}: give them the same")
    size = next(iter(sizes), None)
    if size is not None:
        for member in members:
            member.check_size(size)
    return size
