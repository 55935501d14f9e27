"""What takes several runs: cross-validation, and what is chosen by it.

A cross-validation is a folder: ``plan.json`` (one plan for all folds), ``splits_final.json`` (which case is held out by
which fold), an ordinary run in each ``fold_K``, ``crossval.json`` (every case as predicted by the fold that did not see
it) and ``postprocessing.json`` (what those predictions say helps). ``predict`` takes the folder as its folds' mean.
"""

from deconvseg.experiments.crossval import crossval
from deconvseg.experiments.executor import Executor, FoldTask, Processes, Serial
from deconvseg.experiments.postprocessing import HeldOutCase, choose_postprocessing
from deconvseg.experiments.result import CrossValidation

__all__ = [
    "CrossValidation",
    "Executor",
    "FoldTask",
    "HeldOutCase",
    "Processes",
    "Serial",
    "choose_postprocessing",
    "crossval",
]
