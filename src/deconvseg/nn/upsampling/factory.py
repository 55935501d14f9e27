"""Upsampling layers, by what the argument ``upsampling`` says."""

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
    """Make an upsampling layer: (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)).

    ``upsampling`` is a kind of :func:`~deconvseg.nn.list_upsampling`, as ``"dtc"``, or the sum of two, as
    ``"dtc+linear"`` (DTC, arXiv 2601.17939, Fig. 3 and Table 6), or a mapping with that name and options, as
    ``{"kind": "dtc+linear", "receptive_field": 4, "init": "zero"}``. The options are the keyword-only arguments of the
    layers, as of :class:`~deconvseg.nn.DTC`; in a sum, ``"dtc.init"`` is an option of one of both. A layer with
    ``fade`` is called with the skip connection too, of ``skip_channels`` channels: see
    :func:`~deconvseg.nn.upsampling.upsample`.

    Raises :class:`~deconvseg.errors.InputError` for an unknown kind or option, with the nearest ones, for a value out
    of bounds, for a kind that does not support ``spatial_dims`` axes or needs ``skip_channels``, and for channels or a
    scale that do not fit.
    """
    chosen = choose_upsampling(upsampling)
    return chosen.create(in_channels, out_channels, scale, spatial_dims, skip_channels=skip_channels)
