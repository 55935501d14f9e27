"""The precision in which a recipe trains on a device."""

import torch

from deconvseg.ops.precision import PRECISION_NAMES, why_bfloat16_is_slow


def lowered_precision(precision: str, device: str) -> str:
    """Return "32", "bf16" or "16" for the precision of a recipe.

    ``auto`` is bfloat16 on a GPU that has it, and float32 elsewhere. On a CPU where bfloat16 is slower, float32 takes
    its place (:func:`explain_float32`).
    """
    if precision == "auto":
        return "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "32"
    return "32" if explain_float32(precision, device) else precision


def explain_float32(precision: str, device: str) -> str | None:
    """Return why a training computes in float32 on a CPU, in one sentence, if bfloat16 was chosen; otherwise None."""
    why = why_bfloat16_is_slow(device) if precision == "bf16" and device == "cpu" else None
    return None if why is None else f"training in float32, because `precision='bf16'` brings nothing here: {why}"


def describe_precision(precision: str, device: str) -> str:
    """Return what a training with a recipe's precision computes in, such as "bfloat16 with float32 weights"."""
    lowered = lowered_precision(precision, device)
    name = PRECISION_NAMES.get(lowered, lowered)
    return name if lowered == "32" else f"{name} with float32 weights"
