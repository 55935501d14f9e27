"""Work of several runs or processes: cross-validation, the choice of post-processing, and prediction of many cases.

A cross-validation is a folder: ``plan.json`` (one plan for all folds), ``splits_final.json`` (the held-out cases of
each fold), a run in each ``fold_K``, ``crossval.json`` (metrics of the out-of-fold predictions),
``postprocessing.json`` (the steps that improve those predictions), and with ``test=True`` the folder ``test`` (masks
and metrics of the test cases). ``predict`` accepts the folder and averages its folds.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deconvseg.experiments.cross_validation import crossval
    from deconvseg.experiments.executor import Processes, Serial, choose_executor
    from deconvseg.experiments.postprocessing import HeldOutCase, choose_postprocessing
    from deconvseg.experiments.predicting import predict_many
    from deconvseg.experiments.protocols.reading import list_comparisons, list_protocols, read_protocol
    from deconvseg.experiments.protocols.recorded import read_recorded
    from deconvseg.experiments.protocols.reproduce import compare, reproduce
    from deconvseg.experiments.protocols.schema import (
        Protocol,
        ProtocolColumn,
        ProtocolDataset,
        ProtocolFigure,
        ProtocolRow,
        ProtocolSetting,
        ProtocolTime,
    )
    from deconvseg.experiments.result import CrossValidation
    from deconvseg.experiments.tasks import Executor, Outcome, Share, Task
    from deconvseg.experiments.testing import ScoredFolds

__all__ = [
    "CrossValidation",
    "Executor",
    "HeldOutCase",
    "Outcome",
    "Processes",
    "Protocol",
    "ProtocolColumn",
    "ProtocolDataset",
    "ProtocolFigure",
    "ProtocolRow",
    "ProtocolSetting",
    "ProtocolTime",
    "ScoredFolds",
    "Serial",
    "Share",
    "Task",
    "choose_executor",
    "choose_postprocessing",
    "compare",
    "crossval",
    "list_comparisons",
    "list_protocols",
    "predict_many",
    "read_protocol",
    "read_recorded",
    "reproduce",
]

_HOME = {
    "cross_validation": ("crossval",),
    "former": ("FoldTask",),
    "executor": ("Processes", "Serial", "choose_executor"),
    "postprocessing": ("HeldOutCase", "choose_postprocessing"),
    "predicting": ("predict_many",),
    "protocols.recorded": ("read_recorded",),
    "protocols.reading": ("list_comparisons", "list_protocols", "read_protocol"),
    "protocols.reproduce": ("compare", "reproduce"),
    "protocols.schema": (
        "Protocol",
        "ProtocolColumn",
        "ProtocolDataset",
        "ProtocolFigure",
        "ProtocolRow",
        "ProtocolSetting",
        "ProtocolTime",
    ),
    "result": ("CrossValidation",),
    "testing": ("ScoredFolds",),
    "tasks": ("Executor", "Outcome", "Share", "Task"),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first access, because prediction does not need the modules for training."""
    if name == "FoldTask":
        warnings.warn("experiments.FoldTask is going to be removed: use Task", DeprecationWarning, stacklevel=2)
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
