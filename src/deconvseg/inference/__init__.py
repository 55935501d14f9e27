"""From images and finished runs to masks on the images' own grids."""

from deconvseg.inference.masks import labels_from_probabilities
from deconvseg.inference.predict import Prediction, predict, predict_cases
from deconvseg.inference.predictor import Predictor
from deconvseg.inference.windows import predict_windows

__all__ = [
    "Prediction",
    "Predictor",
    "labels_from_probabilities",
    "predict",
    "predict_cases",
    "predict_windows",
]
