"""Creation of upsampling layers from the argument ``upsampling``."""

from collections.abc import Sequence

from torch import nn

from deconvseg.nn.upsampling.choosing import Upsampling, choose_upsampling
from deconvseg.nn.upsampling.moved import MOVED_OF_DTC, MOVED_OF_LINEAR, accept_moved


@accept_moved({"kind": "kind", **MOVED_OF_DTC, **MOVED_OF_LINEAR})
def create_upsampling(
    upsampling: Upsampling,
    in_channels: int,
    out_channels: int,
    scale: int | Sequence[int] = 2,
    spatial_dims: int = 3,
    *,
    skip_channels: int | None = None,
) -> nn.Module:
    """Create an upsampling layer that maps (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)).

    ``upsampling`` is a kind of :func:`~deconvseg.nn.list_upsampling` such as ``"dtc"``, the sum of two kinds such as
    ``"dtc+linear"`` (DTC, arXiv 2601.17939, Fig. 3 and Table 6), or a mapping with this name and options such as
    ``{"kind": "dtc+linear", "receptive_field": 4, "init": "zero"}``. The options are the keyword-only arguments of the
    layers, for example of :class:`~deconvseg.nn.DTC`; in a sum, a prefix as in ``"dtc.init"`` selects one of the two
    kinds. Layers of ``fade`` and ``sapa`` are also called with the skip connection, which has ``skip_channels``
    channels (see :func:`~deconvseg.nn.upsampling.upsample`). A list of values for an option, one for each stage of a
    network, is only for networks.

    Raises :class:`~deconvseg.errors.InputError` for an unknown kind or option (with the nearest names), a value out of
    bounds, a kind that does not support ``spatial_dims`` axes or needs ``skip_channels``, and for channels or a scale
    that do not fit.

    Example:
        >>> import torch
        >>> from deconvseg.nn import create_upsampling
        >>> layer = create_upsampling({"kind": "dtc+linear", "receptive_field": 4}, 8, 4, scale=2, spatial_dims=2)
        >>> layer(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 4, 16, 16])

    """
    chosen = choose_upsampling(upsampling)
    return chosen.create(in_channels, out_channels, scale, spatial_dims, skip_channels=skip_channels)
