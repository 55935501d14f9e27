"""Base class of layers that sample their input at predicted positions."""

from torch import Tensor, nn


class SamplingLayer(nn.Module):
    """A layer that samples at predicted positions; :func:`deconvseg.reporting.sampling_map` draws them.

    Attributes:
        scale: upsampling factor of each axis.
        receptive_field: receptive field of the offsets: an offset of 1 moves a position by a quarter of it, in pixels
            (DTC, arXiv 2601.17939, Eq. 1).

    """

    scale: tuple[int, ...]
    receptive_field: float

    def predict(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """Return offsets (B * groups, axes, \\*(S * scale)), the last array axis first, or offsets and weights."""
        raise NotImplementedError
