"""Complete networks, and the registry that creates them by name."""

import importlib
import pkgutil

from deconvseg.models.complexity import Complexity, complexity
from deconvseg.models.deconver import Deconver
from deconvseg.models.ensemble import Ensemble
from deconvseg.models.factorizer import Factorizer
from deconvseg.models.fitting import DeviceKind, Grid, Size, fit_stages
from deconvseg.models.mednext import MedNeXt
from deconvseg.models.network import Network
from deconvseg.models.nnmamba import NNMamba
from deconvseg.models.nnunet import NNUNet
from deconvseg.models.nnunet_architecture import NNUNetArchitecture
from deconvseg.models.nnunet_resenc import ResEncUNet
from deconvseg.models.official import load_official
from deconvseg.models.registry import (
    check_arguments,
    create_model,
    current_arguments,
    describe_model,
    fit_model,
    list_arguments,
    list_models,
    model_name,
    model_path,
    preset_arguments,
    register_model,
)
from deconvseg.models.segmamba import SegMamba
from deconvseg.models.segresnet import SegResNet
from deconvseg.models.slicewise import Slicewise
from deconvseg.models.swin_unetr import SwinUNETR, SwinUNETRV2
from deconvseg.models.unet import UNet
from deconvseg.models.unet_plus_plus import UNetPlusPlus
from deconvseg.models.unetr import UNETR

__all__ = [
    "UNETR",
    "Complexity",
    "Deconver",
    "DeviceKind",
    "Ensemble",
    "Factorizer",
    "Grid",
    "MedNeXt",
    "NNMamba",
    "NNUNet",
    "NNUNetArchitecture",
    "Network",
    "ResEncUNet",
    "SegMamba",
    "SegResNet",
    "Size",
    "Slicewise",
    "SwinUNETR",
    "SwinUNETRV2",
    "UNet",
    "UNetPlusPlus",
    "check_arguments",
    "complexity",
    "create_model",
    "current_arguments",
    "describe_model",
    "fit_model",
    "fit_stages",
    "list_arguments",
    "list_models",
    "load_official",
    "model_name",
    "model_path",
    "preset_arguments",
    "register_model",
]

# Each network is one file in this folder, which registers it; the names above are for direct imports.
for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
