"""The precision in which a recipe trains on a device."""

import torch

from deconvseg.system import why_no_bfloat16


def lowered_precision(precision: str, device: str) -> str:
    """Return "32", "bf16" or "16" for the precision of a recipe.

    ``auto`` is bfloat16 on a GPU that has it, and float32 elsewhere. On a CPU without bfloat16 instructions
    bfloat16 is slower, so float32 takes its place (:func:`describe_precision`).
    """
    if precision == "auto":
        return "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "32"
    return "32" if describe_precision(precision, device) else precision


def describe_precision(precision: str, device: str) -> str | None:
    """Return a sentence if bfloat16 was chosen for a CPU that does not have it; otherwise None."""
    why = why_no_bfloat16(device) if precision == "bf16" and device == "cpu" else None
    return None if why is None else f"`precision='bf16'` brings nothing here, because {why}: training in float32"
