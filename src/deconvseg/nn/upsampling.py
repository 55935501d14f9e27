"""Upsampling layers, chosen by name."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.errors import check_choice
from deconvseg.nn.dimensions import CONV, CONV_TRANSPOSE, check_spatial_dims, per_axis
from deconvseg.nn.dtc import DTC

UPSAMPLING_KINDS = ("transposed", "linear", "dtc", "dtc+transposed", "dtc+linear")

_LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class LinearUpsampling(nn.Module):
    """Linear interpolation (``align_corners=False``), with a 1x1 convolution where the channels change.

    Shapes: input (B, in_channels, \\*S); output (B, out_channels, \\*(S * scale)).
    """

    def __init__(
        self, in_channels: int, out_channels: int, scale: int | Sequence[int] = 2, spatial_dims: int = 3
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims, (1, 2, 3))
        self.scale = per_axis(scale, spatial_dims, "scale")
        self.mode = _LINEAR_MODES[spatial_dims]
        changes = in_channels != out_channels
        self.project = CONV[spatial_dims](in_channels, out_channels, kernel_size=1) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Upsample (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale))."""
        # The 1x1 convolution commutes with interpolation (whose weights sum to one) and is cheaper before it.
        size = [length * factor for length, factor in zip(x.shape[2:], self.scale, strict=True)]
        return F.interpolate(self.project(x), size=size, mode=self.mode, align_corners=False)

    def extra_repr(self) -> str:
        """Arguments, for ``print``."""
        return f"scale={self.scale}"


class SummedUpsampling(nn.Module):
    """A usual upsampling plus DTC: the whole of DTC's Fig. 3 (arXiv 2601.17939)."""

    def __init__(self, base: nn.Module, dtc: DTC) -> None:
        super().__init__()
        self.base = base
        self.dtc = dtc

    def forward(self, x: Tensor) -> Tensor:
        """Upsample (B, in_channels, \\*S) both ways and add."""
        out: Tensor = self.dtc(x, self.base(x))
        return out


def create_upsampling(
    kind: str,
    in_channels: int,
    out_channels: int,
    scale: int | Sequence[int] = 2,
    spatial_dims: int = 3,
    *,
    receptive_field: float | str = 2.0,
    dtc_init: str = "default",
) -> nn.Module:
    """Make the upsampling layer of that name: (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)).

    ``kind`` is ``"transposed"`` (kernel = stride = scale), ``"linear"``, ``"dtc"``, ``"dtc+transposed"`` or
    ``"dtc+linear"`` (sums, as in DTC, arXiv 2601.17939). ``receptive_field`` and ``dtc_init`` go to
    :class:`~deconvseg.nn.DTC`. An unknown name raises :class:`~deconvseg.errors.InputError` with the nearest one.
    """
    check_choice(kind, UPSAMPLING_KINDS, "upsampling")
    check_spatial_dims(spatial_dims, (2, 3) if "dtc" in kind else (1, 2, 3))
    factors = per_axis(scale, spatial_dims, "scale")
    base: nn.Module | None = None
    if "transposed" in kind:
        base = CONV_TRANSPOSE[spatial_dims](in_channels, out_channels, kernel_size=factors, stride=factors)
    elif "linear" in kind:
        base = LinearUpsampling(in_channels, out_channels, factors, spatial_dims)
    if base is not None and "dtc" not in kind:
        return base
    dtc = DTC(in_channels, out_channels, factors, spatial_dims, receptive_field=receptive_field, init=dtc_init)
    return dtc if base is None else SummedUpsampling(base, dtc)
