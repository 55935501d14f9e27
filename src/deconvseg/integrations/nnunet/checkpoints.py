"""Checkpoints of nnU-Net v2, read without running what is in them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.system import does_not_exist, first_line

_WEIGHTS = "network_weights"
# What nnU-Net's log holds beside tensors: numbers of NumPy.
_NUMBERS = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)


def read_weights(checkpoint: Path) -> Mapping[str, Tensor]:
    """Return the weights in a checkpoint of nnU-Net; nothing but tensors, numbers and texts is read.

    Raises :class:`~deconvseg.errors.InputError` for a file that is missing, damaged, or holds other things.
    """
    if not checkpoint.is_file():
        raise InputError(does_not_exist(checkpoint))
    scalar = np.float32(0).__reduce__()[0]
    dtypes = [type(np.dtype(number)) for number in _NUMBERS]
    try:
        with torch.serialization.safe_globals([scalar, np.dtype, *_NUMBERS, *dtypes]):
            content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise InputError(
            f"{checkpoint}: is no checkpoint of nnU-Net, is damaged, or holds more than tensors, numbers and texts "
            f"({first_line(error)})"
        ) from error
    weights = content.get(_WEIGHTS) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{checkpoint}: has no {_WEIGHTS}, so it is no checkpoint of nnU-Net v2")
    return weights
