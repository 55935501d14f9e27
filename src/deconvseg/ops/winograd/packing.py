"""The transformed weights of a convolution, kept as long as the weights stay as they are."""

from torch import Tensor

from deconvseg.ops.winograd import native


class Packing:
    """Transforms the weights of a convolution at the first call, and again where they have changed since.

    PyTorch counts what is written into a tensor; what is written through ``weight.data`` it does not see. Copies and
    pickles begin empty: the order of transformed weights is that of one processor.
    """

    def __init__(self) -> None:
        self._made: tuple[Tensor, int, Tensor] | None = None

    def of(self, weight: Tensor) -> Tensor:
        """Return the transformed weights (O, I, \\*K); raises as :func:`native.pack` does."""
        made = self._made
        if made is None or not (made[0].is_set_to(weight) and made[1] == weight._version):
            # Holding the weights keeps others from being taken for them, at the same address.
            made = self._made = weight.detach(), weight._version, native.pack(weight)
        return made[-1]

    def __getstate__(self) -> dict[str, None]:
        return {"_made": None}
