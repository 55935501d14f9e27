"""Trackers of trainings: TensorBoard, MLflow and Weights & Biases, by Lightning's loggers."""

from __future__ import annotations

from importlib import import_module

from deconvseg.errors import check_choice
from deconvseg.integrations.trackers.logged import LoggedTracker
from deconvseg.options import TRACKERS

_CLASSES = {"tensorboard": "TensorBoardTracker", "mlflow": "MLflowTracker", "wandb": "WandbTracker"}


def create_tracker(name: str) -> LoggedTracker:
    """Return a tracker by name; :class:`~deconvseg.errors.MissingPackageError` names the extra that it needs."""
    check_choice(name, TRACKERS, "`track`")
    tracker: LoggedTracker = getattr(import_module(f"{__name__}.{name}"), _CLASSES[name])()
    return tracker


__all__ = ["LoggedTracker", "create_tracker"]
