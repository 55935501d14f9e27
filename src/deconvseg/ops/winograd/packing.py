"""Cache of the transformed weights of a convolution, valid while the weights do not change."""

from torch import Tensor

from deconvseg.ops.torch_internals import version_of
from deconvseg.ops.winograd.library import WINOGRAD


class Packing:
    """Transforms the weights of a convolution at the first call, and again after they have changed.

    Changes are detected by PyTorch's version counter, which does not count writes through ``weight.data``. Copies and
    pickles are empty, because the order of the transformed weights depends on the processor.
    """

    def __init__(self) -> None:
        self._made: tuple[Tensor, int, str, Tensor] | None = None

    def of(self, weight: Tensor, backend: str = "native") -> Tensor:
        r"""Return the weights (O, I, \*K) as transformed by a backend; raises the errors of the backend's ``pack``."""
        made, version = self._made, version_of(weight)
        if made is None or made[1:3] != (version, backend) or not made[0].is_set_to(weight):
            # Holding the weights prevents others from being allocated at the same address and mistaken for them.
            made = self._made = weight.detach(), version, backend, WINOGRAD.kernels(backend, weight).pack(weight)
        return made[-1]

    def __getstate__(self) -> dict[str, None]:
        return {"_made": None}
