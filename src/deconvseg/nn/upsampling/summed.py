"""Sums of upsampling layers, and how a layer is called that may need the skip connection."""

from torch import Tensor, nn

from deconvseg.nn.upsampling.dtc import DTC
from deconvseg.ops.layout import in_order_of


class SummedUpsampling(nn.Module):
    """A usual upsampling plus another: with DTC the whole of its Fig. 3 (arXiv 2601.17939).

    ``needs_skip`` says whether one of both takes the skip connection.
    """

    def __init__(self, base: nn.Module, added: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.added = added
        self.needs_skip = needs_skip(base) or needs_skip(added)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Upsample (B, in_channels, \\*S) both ways and add; ``skip`` (B, skip channels, \\*(S * scale)) if needed."""
        base = upsample(self.base, x, skip)
        if isinstance(self.added, DTC):
            # What follows rounds by the order in memory, and shall do so as without DTC.
            return in_order_of(base, self.added(x, base))
        return base + upsample(self.added, x, skip)


def needs_skip(layer: nn.Module) -> bool:
    """Say whether a layer is called with the skip connection too."""
    return bool(getattr(layer, "needs_skip", False))


def upsample(layer: nn.Module, x: Tensor, skip: Tensor | None) -> Tensor:
    """Call an upsampling layer, with the skip connection where it needs one."""
    out: Tensor = layer(x, skip) if needs_skip(layer) else layer(x)
    return out
