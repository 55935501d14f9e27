"""The transformed weights of a convolution, kept as long as the weights stay as they are."""

from torch import Tensor

from deconvseg.ops.torch_internals import version_of
from deconvseg.ops.winograd.library import WINOGRAD


class Packing:
    """Transforms the weights of a convolution at the first call, and again where they have changed since.

    PyTorch counts what is written into a tensor; what is written through ``weight.data`` it does not see. Copies and
    pickles begin empty: the order of transformed weights is that of one processor.
    """

    def __init__(self) -> None:
        self._made: tuple[Tensor, int, str, Tensor] | None = None

    def of(self, weight: Tensor, backend: str = "native") -> Tensor:
        r"""Return the weights (O, I, \*K) as a backend transforms them; raises as its ``pack`` does."""
        made, version = self._made, version_of(weight)
        if made is None or made[1:3] != (version, backend) or not made[0].is_set_to(weight):
            # Holding the weights keeps others from being taken for them, at the same address.
            made = self._made = weight.detach(), version, backend, WINOGRAD.kernels(backend, weight).pack(weight)
        return made[-1]

    def __getstate__(self) -> dict[str, None]:
        return {"_made": None}
