"""2D networks on volumes, slice by slice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.models.fitting import Grid, Size
from deconvseg.models.network import Network
from deconvseg.models.per_stage import check_ends
from deconvseg.models.registry import create_model, current_arguments, register_model


@register_model("slicewise")
class Slicewise(Network):
    """2D network that computes each slice of a volume, across its first axis, by itself.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 3.
        network: the registered ``name`` of the 2D network and its ``config``, the other constructor arguments; the
            network is ``plane``.

    Shapes: input (B, in_channels, D, \\*S) of a plane size \\*S that the network supports; output (B, out_channels, D,
    \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.models import Slicewise
        >>> network = Slicewise(1, 2, 3, {"name": "unet", "config": {"widths": [4, 8]}})
        >>> network(torch.rand(1, 1, 5, 8, 16)).shape
        torch.Size([1, 2, 5, 8, 16])

    """

    def __init__(
        self, in_channels: int, out_channels: int, spatial_dims: int = 3, network: Mapping[str, Any] | None = None
    ) -> None:
        config = dict(locals())
        check_ends(in_channels, out_channels, spatial_dims)
        if spatial_dims != 3:
            raise InputError(f"spatial_dims={spatial_dims}: slices are those of a volume, with 3 axes")
        if network is None or not isinstance(network.get("name"), str) or network.keys() - {"name", "config"}:
            raise InputError(f"network={network!r}: give the name of a 2D network and its config")
        ends = {"in_channels": in_channels, "out_channels": out_channels, "spatial_dims": 2}
        # Saved configurations may come from an older version.
        own = {**current_arguments(network["name"], network.get("config", {})), **ends}
        plane = create_model(network["name"], **own)
        fixed = None if plane.fixed_size is None else (1, *plane.fixed_size)
        super().__init__(config, size_multiple=(1, *plane.size_multiple), fixed_size=fixed)
        self.plane = plane

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Raise :class:`InputError`, because the size is that of another network."""
        raise InputError("is made of a 2D network, so there is nothing of its own to fit: plan with that one")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a volume (B, in_channels, D, \\*S)."""
        self.check_input(x)
        logits: Tensor = self.plane(x.transpose(1, 2).flatten(0, 1))
        return logits.reshape(x.shape[0], x.shape[2], *logits.shape[1:]).transpose(1, 2).contiguous()
