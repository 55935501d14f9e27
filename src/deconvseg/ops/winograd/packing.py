"""Cache of the transformed weights of convolutions, valid while the weights do not change."""

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from deconvseg.ops.torch_internals import version_of


class _Packed(NamedTuple):
    weight: Tensor
    version: int
    kernels: object
    dtype: torch.dtype
    transformed: Tensor


_cache: MutableMapping[Tensor, _Packed] = WeakTensorKeyDictionary()


def packed(weight: Tensor, kernels: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    r"""Return the weights (O, I, \*K) as transformed by a backend's kernels for products in ``dtype``.

    They are transformed at the first call, and again after the weights have changed. Changes are detected by PyTorch's
    version counter, which does not count writes through ``weight.data``. The cache ends with the weights. Weights that
    were made in inference mode have no version counter and are transformed at each call. Raises the errors of ``pack``.
    """
    if weight.is_inference():
        transformed: Tensor = kernels.pack(weight, dtype)
        return transformed
    made, key = _cache.get(weight), (version_of(weight), kernels, dtype)
    if made is None or made[1:4] != key or not made.weight.is_set_to(weight):
        _cache.pop(weight, None)  # frees the weights in another precision before these are made
        # Holding the memory of the weights prevents others from being allocated there and mistaken for them.
        made = _cache[weight] = _Packed(weight.detach(), *key, kernels.pack(weight, dtype))
    return made.transformed
