"""The precision of a prediction: the requested one, or the one that was measured for the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from deconvseg.errors import InputError, check_choice
from deconvseg.inference.engine_registry import TORCH, engine_precisions, list_engines
from deconvseg.inference.opening import Decided
from deconvseg.inference.predictor import Model
from deconvseg.ops.precision import why_bfloat16_is_slow
from deconvseg.runs import PRECISION, MeasuredPrecision, Precision, Run, WeightsChoice, read_precision, weights_of
from deconvseg.system import why_no_bfloat16
from deconvseg.text import number_of


def decide_precision(
    asked: Precision | Literal["auto"],
    models: Sequence[Model],
    device: str,
    weights: WeightsChoice | None = None,
    *,
    engine: str = TORCH,
) -> Decided:
    """Return the requested precision; with "auto", bfloat16 if every model is a run that was measured to allow it.

    Where bfloat16 is not faster on ``device`` it is float32, with a warning if bfloat16 was requested. A measurement
    for other ``weights`` than those of the run is void, with a warning; one on another kind of device is ignored. An
    ``engine`` without bfloat16 computes in float32, and is refused if bfloat16 was requested.
    """
    check_choice(engine, list_engines(), "`engine`")
    known = ("32", "bf16") if engine == TORCH else engine_precisions(engine)
    if asked != "auto" and asked not in known:
        raise InputError(
            f"`precision={asked!r}`: the engine {engine} computes in {' or '.join(known)} on a CPU; omit it"
        )
    if asked == "32" or "bf16" not in known:
        return Decided()
    why = why_bfloat16_is_slow(device) if engine == TORCH else why_no_bfloat16(device)
    if asked == "bf16":
        if why is None:
            return Decided(precision="bf16")
        return Decided(warnings=(f"computing in float32, because `precision='bf16'` brings nothing here: {why}",))
    found = [_measured(model, weights, device.partition(":")[0]) for model in models]
    chosen = [measured for measured, _ in found if measured is not None]
    warnings = tuple(warning for _, warning in found if warning is not None)
    kept = [f"precision: float32, because {measured.why}" for measured in chosen if measured.choice == "32"]
    if kept:
        return Decided(lines=tuple(kept[:1]), warnings=warnings)
    if len(chosen) < len(models):
        return Decided(warnings=warnings)
    if why is not None:
        return Decided(lines=(f"precision: float32, because bfloat16 brings nothing here: {why}",))
    return Decided(precision="bf16", lines=(_describe(chosen),))


def _measured(model: Model, weights: WeightsChoice | None, device: str) -> tuple[MeasuredPrecision | None, str | None]:
    """Return what was measured for a run, None if that is nothing or void, and a warning about a void measurement."""
    found = read_precision(model.path) if isinstance(model, Run) else None
    if found is not None and found.device not in ("", device):
        return None, None  # the loss and the speed are those of other hardware
    if not isinstance(model, Run) or found is None or found.weights == weights_of(model.path, weights):
        return found, None
    if found.choice == "32":
        return None, None
    return None, f"{model.path}: its {PRECISION} was measured for other weights than these, so it is not used"


def _describe(chosen: Sequence[MeasuredPrecision]) -> str:
    """Return a line that says why the precision is bfloat16."""
    first = chosen[0]
    if len(chosen) == 1:
        return f"precision: bfloat16, because {first.why}"
    return f"precision: bfloat16, because it was measured to be good enough for each of {number_of(len(chosen), 'run')}"
