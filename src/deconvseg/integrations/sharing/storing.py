"""Weights stored in another type of numbers."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import torch

from deconvseg.errors import InputError
from deconvseg.runs import Run, StoredType, record_weights
from deconvseg.system import atomic_write

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def store_weights(run: Run, file: Path, stored: StoredType) -> str:
    """Write the weights that a run is evaluated with as safetensors of a type; return the SHA-256 of the file.

    Other tensors than floating-point ones are kept. Raises :class:`~deconvseg.errors.InputError` for weights that the
    type cannot hold.
    """
    from safetensors.torch import save

    weights = run.load_weights("weights_best" if record_weights(run)["choice"] == "best" else "weights")
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            weights[name] = tensor.to(_TYPES[stored])
            if not torch.isfinite(weights[name]).all() and torch.isfinite(tensor).all():
                raise InputError(f"`stored={stored!r}`: {run.path}: {name} has values beyond it; take 'bfloat16'")
    content = save(weights, metadata={"format": "pt"})
    with atomic_write(file) as path:
        path.write_bytes(content)
    return sha256(content).hexdigest()
