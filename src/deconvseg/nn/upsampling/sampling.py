"""What layers have in common that sample their input at predicted positions."""

from torch import Tensor, nn


class SamplingLayer(nn.Module):
    """A layer that samples at positions which it predicts, as :func:`deconvseg.reporting.sampling_map` draws them.

    Attributes:
        scale: upsampling factor of each axis.
        receptive_field: how far an offset of 1 moves a position (DTC, arXiv 2601.17939, Eq. 1).

    """

    scale: tuple[int, ...]
    receptive_field: float

    def predict(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """Predict offsets, (B * groups, axes, \\*(S * scale)) with the last array axis first, or them and weights."""
        raise NotImplementedError
