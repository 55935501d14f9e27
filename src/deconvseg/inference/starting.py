"""The predictor of given runs, with everything that the options and the runs decide about its masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deconvseg.inference.engine_registry import TORCH
from deconvseg.inference.opening import (
    Decided,
    Folder,
    decide_postprocessing,
    decide_threshold,
    describe_runs,
    open_models,
)
from deconvseg.inference.precisions import decide_precision
from deconvseg.inference.predictor import Model, Predictor
from deconvseg.inference.records import Prediction
from deconvseg.options import MaskOptions
from deconvseg.runs import Precision, Run


@dataclass(frozen=True)
class OpenedPredictor:
    """A predictor, the runs among its models, their description with warnings, and lines about what was decided."""

    predictor: Predictor
    runs: tuple[Run, ...]
    told: Prediction
    lines: tuple[str, ...]


def open_predictor(
    models: Sequence[Folder | Model],
    asked: MaskOptions,
    *,
    device: str = "cpu",
    memory: int | None = None,
    precision: Precision | Literal["auto"] = "32",
    engine: str = TORCH,
) -> OpenedPredictor:
    """Return the predictor of models, with the threshold, post-processing and precision of their folders.

    Folders (runs, cross-validations) are replaced by their runs. Raises :class:`~deconvseg.errors.InputError` if the
    thresholds or the post-processing of several folders differ.
    """
    opened = open_models(models)
    decided = decide_threshold(asked.threshold, models, asked.weights)
    steps = decide_postprocessing(models, asked.weights) if asked.postprocess else Decided()
    lowered = decide_precision(precision, opened, device, asked.weights, engine=engine)
    predictor = Predictor(
        opened,
        device=device,
        overlap=asked.overlap,
        tta=asked.tta,
        crop=asked.crop,
        memory=memory,
        postprocessing=steps.postprocessing,
        threshold=decided.threshold,
        weights=asked.weights,
        precision=lowered.precision,
        engine=engine,
    )
    runs = tuple(model for model in opened if isinstance(model, Run))
    told = describe_runs(runs, asked.weights)
    for text in (*steps.warnings, *decided.warnings, *lowered.warnings):
        told.warn(text)
    return OpenedPredictor(predictor, runs, told, (*decided.lines, *lowered.lines))
