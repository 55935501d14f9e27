"""The options of commands and their functions, each declared once."""

from deconvseg.options.calling import takes
from deconvseg.options.choosing import ThresholdOptions
from deconvseg.options.dataset import READING
from deconvseg.options.declaring import (
    BYTES,
    OBJECT,
    PLACE,
    SETTINGS,
    Declared,
    Kind,
    Option,
    Options,
    declared_options,
    whole,
)
from deconvseg.options.evaluating import EvaluateOptions, PartOptions
from deconvseg.options.exporting import ExportOptions
from deconvseg.options.kinds import PATCH, STRATEGIES, TRACKERS
from deconvseg.options.predicting import MODELS, MaskOptions, PredictOptions
from deconvseg.options.reproducing import ReproduceOptions
from deconvseg.options.sharing import PackOptions, PushOptions
from deconvseg.options.training import (
    PLANNED,
    UNKEYED,
    CrossvalOptions,
    RunOptions,
    TrainArguments,
    TrainOptions,
    places,
)

__all__ = [
    "BYTES",
    "MODELS",
    "OBJECT",
    "PATCH",
    "PLACE",
    "PLANNED",
    "READING",
    "SETTINGS",
    "STRATEGIES",
    "TRACKERS",
    "UNKEYED",
    "CrossvalOptions",
    "Declared",
    "EvaluateOptions",
    "ExportOptions",
    "Kind",
    "MaskOptions",
    "Option",
    "Options",
    "PackOptions",
    "PartOptions",
    "PredictOptions",
    "PushOptions",
    "ReproduceOptions",
    "RunOptions",
    "ThresholdOptions",
    "TrainArguments",
    "TrainOptions",
    "declared_options",
    "places",
    "takes",
    "whole",
]
