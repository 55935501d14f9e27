"""The predictor of given runs, with everything that the options and the runs decide about its masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deconvseg.inference.engine_registry import TORCH
from deconvseg.inference.exports import Exported, check_export_options, decide_mirroring
from deconvseg.inference.opening import (
    Decided,
    Folder,
    decide_postprocessing,
    decide_threshold,
    describe_runs,
    locate_models,
    open_exports,
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

    Folders (runs, cross-validations) are replaced by their runs, and exports by their engines. Raises
    :class:`~deconvseg.errors.InputError` if the thresholds or the post-processing of several folders differ.
    """
    given = open_exports(locate_models(models), precision)
    exports = [model for model in given if isinstance(model, Exported)]
    check_export_options(exports, device=device, weights=asked.weights)
    opened = open_models(given)
    decided = decide_threshold(asked.threshold, given, asked.weights)
    steps = decide_postprocessing(given, asked.weights) if asked.postprocess else Decided()
    # An export has been opened in the precision that was asked for.
    others = "32" if len(exports) == len(given) else precision
    lowered = decide_precision(others, opened, device, asked.weights, engine=engine)
    predictor = Predictor(
        opened,
        device=device,
        overlap=asked.overlap,
        tta=decide_mirroring(asked.tta, given),
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
    told.models += [export.described for export in exports]
    for text in (*steps.warnings, *decided.warnings, *lowered.warnings):
        told.warn(text)
    return OpenedPredictor(
        predictor, runs, told, (*(export.line for export in exports), *decided.lines, *lowered.lines)
    )
