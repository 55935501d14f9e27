"""Medical image segmentation by deconvolution: from a folder of scans to masks and a report."""

from typing import TYPE_CHECKING, Any

from deconvseg._version import __version__

if TYPE_CHECKING:
    from deconvseg.evaluation import evaluate
    from deconvseg.experiments import crossval
    from deconvseg.inference import Predictor, predict
    from deconvseg.integrations import export
    from deconvseg.models import Deconver, create_model, list_models
    from deconvseg.runs import load_network
    from deconvseg.training import train

__all__ = [
    "Deconver",
    "Predictor",
    "__version__",
    "create_model",
    "crossval",
    "evaluate",
    "export",
    "list_models",
    "load_network",
    "predict",
    "train",
]

_HOME = {
    "Deconver": "deconvseg.models",
    "create_model": "deconvseg.models",
    "list_models": "deconvseg.models",
    "load_network": "deconvseg.runs",
    "train": "deconvseg.training",
    "crossval": "deconvseg.experiments",
    "predict": "deconvseg.inference",
    "Predictor": "deconvseg.inference",
    "evaluate": "deconvseg.evaluation",
    "export": "deconvseg.integrations",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first access, so that ``import deconvseg`` stays fast."""
    if name not in _HOME:
        raise AttributeError(f"module 'deconvseg' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
