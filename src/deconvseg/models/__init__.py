"""Whole networks, and the registry that makes them by name."""

from deconvseg.models.complexity import Complexity, complexity
from deconvseg.models.deconver import Deconver
from deconvseg.models.network import Network
from deconvseg.models.official import load_official
from deconvseg.models.registry import create_model, list_models, register_model
from deconvseg.models.unet import UNet

__all__ = [
    "Complexity",
    "Deconver",
    "Network",
    "UNet",
    "complexity",
    "create_model",
    "list_models",
    "load_official",
    "register_model",
]
