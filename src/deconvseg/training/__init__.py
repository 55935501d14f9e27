"""From a dataset and a plan to a trained run."""

from deconvseg.training.ranks import Ranks
from deconvseg.training.train import train

__all__ = ["Ranks", "train"]
