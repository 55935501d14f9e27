"""What takes several runs or processes: cross-validation, what is chosen by it, and prediction of many cases.

A cross-validation is a folder: ``plan.json`` (one plan for all folds), ``splits_final.json`` (which case is held out by
which fold), an ordinary run in each ``fold_K``, ``crossval.json`` (every case as predicted by the fold that did not see
it) and ``postprocessing.json`` (what those predictions say helps). ``predict`` takes the folder as its folds' mean.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deconvseg.experiments.cross_validation import crossval
    from deconvseg.experiments.executor import Processes, Serial, choose_executor
    from deconvseg.experiments.postprocessing import HeldOutCase, choose_postprocessing
    from deconvseg.experiments.predicting import predict_many
    from deconvseg.experiments.result import CrossValidation
    from deconvseg.experiments.tasks import Executor, Outcome, Share, Task

__all__ = [
    "CrossValidation",
    "Executor",
    "HeldOutCase",
    "Outcome",
    "Processes",
    "Serial",
    "Share",
    "Task",
    "choose_executor",
    "choose_postprocessing",
    "crossval",
    "predict_many",
]

_HOME = {
    "cross_validation": ("crossval",),
    "former": ("FoldTask",),
    "executor": ("Processes", "Serial", "choose_executor"),
    "postprocessing": ("HeldOutCase", "choose_postprocessing"),
    "predicting": ("predict_many",),
    "result": ("CrossValidation",),
    "tasks": ("Executor", "Outcome", "Share", "Task"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: prediction needs nothing that trains."""
    if name == "FoldTask":
        warnings.warn("experiments.FoldTask is going to be removed: use Task", DeprecationWarning, stacklevel=2)
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
