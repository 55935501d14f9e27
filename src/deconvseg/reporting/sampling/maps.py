"""The sampling positions of one layer for one image, and what follows from them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SamplingMap:
    """The sampling positions of one layer for one image.

    Attributes:
        layer: path of the layer in the model.
        image: the image, (C, \\*S), as it is shown.
        positions: (groups, axes, \\*output size), in pixels of the layer's input from the centre of the first one, in
            array order; DTC has one group. They are not clipped; the operator clips them to the border.
        size: spatial size of the layer's input.
        scale: upsampling factor of each axis.
        slice: the axial slice of the image that the figure shows, None in 2D.
        mask: a mask (\\*S) whose outline the figure shows, or None.
        title: what the figure calls the image.

    """

    layer: str
    image: npt.NDArray[Any]
    positions: Array
    size: tuple[int, ...]
    scale: tuple[int, ...]
    slice: int | None
    mask: npt.NDArray[Any] | None = None
    title: str = ""
    density: Array = field(init=False)
    displacement: Array = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "density", _density(self.positions, self.size))
        object.__setattr__(self, "displacement", np.sqrt(np.square(self.moves).sum(axis=1)))

    @property
    def regular_positions(self) -> Array:
        """The positions of linear interpolation, (axes, \\*output size), in pixels of the layer's input."""
        axes = [(np.arange(n * factor) + 0.5) / factor - 0.5 for n, factor in zip(self.size, self.scale, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"))

    @property
    def moves(self) -> Array:
        """The differences of the positions from those of linear interpolation, as ``positions``."""
        out: Array = self.positions - self.regular_positions
        return out

    @property
    def ratio(self) -> tuple[float, ...]:
        """The pixels of the image that a pixel of the layer's input covers along each axis."""
        return tuple(have / size for have, size in zip(self.image.shape[1:], self.size, strict=True))

    @property
    def image_positions(self) -> Array:
        """The positions in pixels of the image."""
        ratio = np.reshape(self.ratio, (-1, *[1] * len(self.size)))
        out: Array = (self.positions + 0.5) * ratio - 0.5
        return out

    @property
    def mean_displacement(self) -> float:
        """The mean distance of the positions from those of linear interpolation, in pixels of the layer's input."""
        return float(self.displacement.mean())

    @property
    def large_displacement(self) -> float:
        """The 95th percentile of these distances."""
        return float(np.percentile(self.displacement, 95))

    @property
    def unsampled(self) -> float:
        """The share of the input pixels that the layer does not read."""
        return float(np.mean(self.density == 0))

    def figure(self) -> "Figure":
        """Return the figure of this map alone (:func:`draw_sampling`)."""
        from deconvseg.reporting.sampling.drawing import draw_sampling

        return draw_sampling({self.layer: self})

    def __str__(self) -> str:
        moved = f"{self.mean_displacement:.2f} pixels on average (95 %: {self.large_displacement:.2f})"
        return f"positions move {moved}, {self.unsampled:.1%} of the pixels are not read"


def _density(positions: Array, size: Sequence[int]) -> Array:
    """Sum the weights of linear interpolation with which each pixel is read, averaged over groups."""
    shape = np.reshape(size, (-1, *[1] * (positions.ndim - 2)))
    inside = positions.clip(0, shape - 1)
    lower = np.floor(inside).astype(np.int64)
    fraction = inside - lower
    total = np.zeros(math.prod(size))
    for corner in itertools.product((0, 1), repeat=len(size)):
        step = np.reshape(corner, shape.shape)
        pixel = np.minimum(lower + step, shape - 1)
        share = np.where(step, fraction, 1 - fraction).prod(axis=1)
        index = np.ravel_multi_index(tuple(np.moveaxis(pixel, 1, 0)), tuple(size))
        total += np.bincount(index.ravel(), share.ravel(), minlength=len(total))
    return total.reshape(size) / len(positions)
