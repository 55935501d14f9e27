"""Checkpoints of PyTorch, read with ``weights_only=True``: tensors, numbers and texts, and no other objects."""

from __future__ import annotations

import _codecs
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.system import FOREIGN_ERRORS, does_not_exist, first_line

# NumPy's numbers in records of a training, under their names before and since NumPy 2; none of these runs given code.
_NUMBER = np.float64(0).__reduce__()[0]
_TYPES = (np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_)
_ALLOWED: list[Any] = [
    (_NUMBER, "numpy.core.multiarray.scalar"),
    (_NUMBER, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in _TYPES),
    (_codecs.encode, "_codecs.encode"),
    # Of MONAI's records of a training.
    defaultdict,
    list,
]
_UNKNOWN = re.compile(r"GLOBAL ([\w.]+) was not an allowed global")


def read_checkpoint(path: Path) -> Any:
    """Return the content of a file of ``torch.save``: tensors on the CPU, numbers, texts, and collections of these.

    Tensors are mapped from the file, so only those that are used take memory. Raises
    :class:`~deconvseg.errors.InputError` for a file that is missing, damaged or no checkpoint, and for one that holds
    objects of other classes, which would run code when they are loaded.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from deconvseg.integrations.importing.checkpoints import read_checkpoint
        >>> torch.save({"weight": torch.ones(2), "epoch": 3}, "model.pt")
        >>> read_checkpoint(Path("model.pt"))["epoch"]
        3

    """
    if not path.is_file():
        raise InputError(f"{does_not_exist(path)}; give a checkpoint that torch.save wrote")
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_sums(path)
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except UnpicklingError as error:
        unknown = _UNKNOWN.search(str(error))
        if unknown is None:
            raise InputError(f"{path}: not a checkpoint of PyTorch, or a damaged one: {first_line(error)}") from error
        raise InputError(
            f"{path}: holds an object of {unknown[1]}, and objects that would run code are not loaded; save the state "
            "dict alone, as torch.save(model.state_dict(), FILE)"
        ) from error
    except (*FOREIGN_ERRORS, EOFError, OSError) as error:
        raise InputError(f"{path}: not a checkpoint of PyTorch, or a damaged one: {first_line(error)}") from error


def tensors_of(weights: Any, where: str) -> dict[str, Tensor]:
    """Return a state dict; :class:`~deconvseg.errors.InputError` names the first entry that is no tensor."""
    if not isinstance(weights, Mapping) or not weights:
        raise InputError(f"{where}: not a state dict; it maps the names of parameters to tensors")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{where}: {name!r} is a {type(value).__name__}; a state dict has tensors only")
    return dict(weights)


def without_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return a state dict without a prefix that all of its names have."""
    if weights and all(name.startswith(prefix) for name in weights):
        return {name.removeprefix(prefix): value for name, value in weights.items()}
    return dict(weights)


def _check_sums(path: Path) -> None:
    """Compare the checksums of a zip file's members, which ``torch.load`` does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, EOFError) as error:
        raise InputError(f"{path}: damaged: {first_line(error)}; copy it again") from error
    if damaged is not None:
        raise InputError(f"{path}: damaged: the checksum of {damaged} is wrong; copy it again")
