"""Cache of the transformed weights of a convolution, valid while the weights do not change."""

import torch
from torch import Tensor

from deconvseg.ops.torch_internals import version_of
from deconvseg.ops.winograd.library import WINOGRAD


class Packing:
    """Transforms the weights of a convolution at the first call, and again after they have changed.

    Changes are detected by PyTorch's version counter, which does not count writes through ``weight.data``. Copies and
    pickles are empty, because the order of the transformed weights depends on the processor.
    """

    def __init__(self) -> None:
        self._made: tuple[Tensor, int, str, torch.dtype, Tensor] | None = None

    def of(self, weight: Tensor, backend: str = "native", dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Return the weights (O, I, \*K) as transformed by a backend for products in ``dtype``.

        Raises the errors of the backend's ``pack``.
        """
        made, version = self._made, version_of(weight)
        if made is None or made[1:4] != (version, backend, dtype) or not made[0].is_set_to(weight):
            self._made = None  # frees the weights in another precision before these are made
            packed = WINOGRAD.kernels(backend, weight).pack(weight, dtype)
            # Holding the weights prevents others from being allocated at the same address and mistaken for them.
            made = self._made = weight.detach(), version, backend, dtype, packed
        return made[-1]

    def __getstate__(self) -> dict[str, None]:
        return {"_made": None}
