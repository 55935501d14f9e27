"""Upsampling layers, chosen by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from deconvseg.errors import InputError, check_choice
from deconvseg.nn.dimensions import CONV_TRANSPOSE, check_channels, check_spatial_dims, per_axis
from deconvseg.nn.upsampling.dtc import DTC, DTC_COMPONENTS
from deconvseg.nn.upsampling.dysample import DySample
from deconvseg.nn.upsampling.fade import FADE
from deconvseg.nn.upsampling.linear import LinearUpsampling
from deconvseg.nn.upsampling.pixelshuffle import PixelShuffleUpsampling
from deconvseg.nn.upsampling.summed import SummedUpsampling

_BASES = ("transposed", "linear", "pixelshuffle", "dysample", "fade")
UPSAMPLING_KINDS = (*_BASES, "dtc", *(f"dtc+{base}" for base in _BASES))
_DTC_ARGUMENTS = ("receptive_field", "dtc_init", "dtc_components")


def dtc_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Pick DTC's arguments of :func:`create_upsampling` out of all that a network is made with."""
    return {name: config[name] for name in _DTC_ARGUMENTS}


def create_upsampling(
    kind: str,
    in_channels: int,
    out_channels: int,
    scale: int | Sequence[int] = 2,
    spatial_dims: int = 3,
    *,
    skip_channels: int | None = None,
    align_corners: bool = False,
    receptive_field: float | str = 2.0,
    dtc_init: str = "default",
    dtc_components: Sequence[str] = DTC_COMPONENTS,
) -> nn.Module:
    """Make the upsampling layer of that name: (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)).

    ``kind`` is ``"transposed"`` (kernel = stride = scale), ``"linear"``, ``"pixelshuffle"``, ``"dysample"``,
    ``"fade"``, ``"dtc"``, or the sum of DTC and one of the others, as ``"dtc+linear"`` (DTC, arXiv 2601.17939, Fig. 3
    and Table 6). A layer with ``fade`` is called with the skip connection too, of ``skip_channels`` channels: see
    :func:`~deconvseg.nn.upsampling.upsample`. ``align_corners`` is that of ``linear``; ``receptive_field``,
    ``dtc_init`` and ``dtc_components`` go to :class:`~deconvseg.nn.DTC`. Raises
    :class:`~deconvseg.errors.InputError` for an unknown name, with the nearest ones, for ``fade`` without
    ``skip_channels``, and for channels or a scale that do not fit.
    """
    check_choice(kind, UPSAMPLING_KINDS, "upsampling")
    dtc_too, _, base_kind = kind.rpartition("+")
    check_spatial_dims(spatial_dims, (1, 2, 3) if kind in ("transposed", "linear", "pixelshuffle") else (2, 3))
    check_channels(in_channels=in_channels, out_channels=out_channels)
    factors = per_axis(scale, spatial_dims, "scale")
    sizes = in_channels, out_channels, factors, spatial_dims
    if base_kind == "fade" and skip_channels is None:
        raise InputError(f"upsampling {kind!r} takes the skip connection too: give skip_channels, its channels")

    def make_dtc() -> DTC:
        return DTC(*sizes, receptive_field=receptive_field, init=dtc_init, components=dtc_components)

    if base_kind == "dtc":
        return make_dtc()
    base: nn.Module
    if base_kind == "transposed":
        base = CONV_TRANSPOSE[spatial_dims](in_channels, out_channels, kernel_size=factors, stride=factors)
    elif base_kind == "linear":
        base = LinearUpsampling(*sizes, align_corners=align_corners)
    elif base_kind == "pixelshuffle":
        base = PixelShuffleUpsampling(*sizes)
    elif base_kind == "dysample":
        base = DySample(*sizes)
    else:
        base = FADE(*sizes, skip_channels=skip_channels)
    return SummedUpsampling(base, make_dtc()) if dtc_too else base
