"""From images and finished runs to masks on the images' own grids."""

from deconvseg.inference.cases import predict_cases
from deconvseg.inference.memory import Estimate
from deconvseg.inference.postprocessing import (
    Postprocessing,
    Step,
    Trial,
    apply,
    component_volumes,
    make_step,
    read_postprocessing,
)
from deconvseg.inference.predict import predict
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.preparing import PreparedImage
from deconvseg.inference.records import Prediction
from deconvseg.inference.windows import predict_windows

__all__ = [
    "Estimate",
    "Postprocessing",
    "Prediction",
    "Predictor",
    "PreparedImage",
    "Step",
    "Trial",
    "apply",
    "component_volumes",
    "make_step",
    "predict",
    "predict_cases",
    "predict_windows",
    "read_postprocessing",
]
