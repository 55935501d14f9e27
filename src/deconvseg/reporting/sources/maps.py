"""The deconvolution of one layer for one image, and what follows from it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from deconvseg.nn import NDC

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SourceMap:
    """The deconvolution of one :class:`~deconvseg.nn.NDC` layer for one image (Deconver, arXiv 2504.00302, Eq. 1 to 7).

    The arrays are 2D, of a 3D layer its axial slice; the numbers are of the whole layer.

    Attributes:
        layer: path of the layer in the model.
        x: the nonnegative input X of the layer, (C, H, W).
        initial: the source before its first update, (E, H, W) with E source channels.
        source: the source S that the layer returns, (E, H, W).
        reconstruction: S ∗ V, (C, H, W).
        filters: the nonnegative filters V, (C, E/groups, \\*K).
        initial_error: ‖X − S ∗ V‖ / ‖X‖ of the initial source.
        error: the same of the returned source.
        moved: ‖S − initial S‖ / ‖initial S‖, by how much the updates change the source.
        silent: the share of the source that is zero.
        blocked: the share of the filters' weights that the ReLU sets to zero.

    """

    layer: str
    x: Array
    initial: Array
    source: Array
    reconstruction: Array
    filters: Array
    initial_error: float
    error: float
    moved: float
    silent: float
    blocked: float

    @classmethod
    def of(cls, layer: str, module: "NDC", x: "Tensor", source: "Tensor", level: float | None) -> "SourceMap":
        """Compute the map of a layer from its input (1, C, \\*S) and the source (1, E, \\*S) that it returned.

        ``level`` is the place of the axial slice, as a share of the axis; None in 2D.
        """
        import torch

        from deconvseg.ops import ndc_reconstruct

        x, source, filters = x.float(), source.float(), torch.relu(module.filters.float())
        initial = torch.relu(module.initial_source(x))
        rebuilt, before = (ndc_reconstruct(one, filters, groups=module.groups) for one in (source, initial))

        def seen(values: "Tensor") -> Array:
            array: Array = values[0].cpu().numpy()
            return _axial(array, level)

        return cls(
            layer=layer,
            x=seen(x),
            initial=seen(initial),
            source=seen(source),
            reconstruction=seen(rebuilt),
            filters=filters.cpu().numpy(),
            initial_error=_relative(x - before, x),
            error=_relative(x - rebuilt, x),
            moved=_relative(source - initial, initial),
            silent=float((source == 0).float().mean()),
            blocked=float((filters == 0).float().mean()),
        )

    @property
    def clearest(self) -> int:
        """The channel of the input that varies most, which a figure shows."""
        return int(self.x.std(axis=(1, 2)).argmax())

    def sources_of(self, channel: int) -> list[tuple[Array, Array]]:
        """Return the sources (H, W) of a channel of the input, the strongest first, each with its filter (\\*K)."""
        channels, count = self.filters.shape[:2]
        groups = len(self.source) // count
        first = channel // (channels // groups) * count
        pairs = [(self.source[first + number], self.filters[channel, number]) for number in range(count)]
        return sorted(pairs, key=lambda pair: -float(pair[0].mean() * pair[1].sum()))

    def __str__(self) -> str:
        return (
            f"error {self.initial_error:.2f} before the update, {self.error:.2f} after; the source changes by "
            f"{self.moved:.0%}, {self.silent:.0%} of it is zero; {self.blocked:.0%} of the filters are zero"
        )


def _relative(difference: "Tensor", to: "Tensor") -> float:
    """Return ‖difference‖ / ‖to‖, 0 if both are zero."""
    size = float(difference.norm())
    return size / float(to.norm()) if size > 0 else 0.0


def _axial(values: npt.NDArray[Any], level: float | None) -> Array:
    """Return the slice of (C, \\*S) that is shown, as radiologists see it."""
    from deconvseg.reporting.overlay import axial

    if level is None:
        return values
    depth = min(int(level * values.shape[3]), values.shape[3] - 1)
    return np.stack([axial(channel, depth) for channel in values])
