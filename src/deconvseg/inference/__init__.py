"""From images and finished runs to masks on the grids of the images."""

from deconvseg.inference.cases import predict_cases
from deconvseg.inference.deciding import Rule, labels_from_maps
from deconvseg.inference.engine import Engine
from deconvseg.inference.engine_registry import (
    TORCH,
    create_engine,
    engine_precisions,
    list_engines,
    register_engine,
    unregister_engine,
)
from deconvseg.inference.expecting import ExpectedMasks
from deconvseg.inference.exports import CONTRACT, Exported, open_export
from deconvseg.inference.finding import choose_cases
from deconvseg.inference.grids import GridAxis
from deconvseg.inference.mask_formats import MaskFormat, fetched
from deconvseg.inference.members import Member
from deconvseg.inference.memory import Estimate
from deconvseg.inference.opening import plan_and_runs
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
from deconvseg.inference.region_steps import apply_to_regions
from deconvseg.inference.sampling import map_sampling
from deconvseg.inference.slabs import Slab
from deconvseg.inference.sources import map_sources
from deconvseg.inference.starting import OpenedPredictor, open_predictor
from deconvseg.inference.sweep import Sweep, Volume
from deconvseg.inference.torch_engine import TorchEngine, as_engine
from deconvseg.inference.tuning import tune
from deconvseg.inference.windows import predict_windows

__all__ = [
    "CONTRACT",
    "TORCH",
    "Engine",
    "Estimate",
    "ExpectedMasks",
    "Exported",
    "GridAxis",
    "MaskFormat",
    "Member",
    "OpenedPredictor",
    "Postprocessing",
    "Prediction",
    "Predictor",
    "PreparedImage",
    "Rule",
    "Slab",
    "Step",
    "Sweep",
    "TorchEngine",
    "Trial",
    "Volume",
    "apply",
    "apply_to_regions",
    "as_engine",
    "choose_cases",
    "component_volumes",
    "create_engine",
    "engine_precisions",
    "fetched",
    "labels_from_maps",
    "list_engines",
    "make_step",
    "map_sampling",
    "map_sources",
    "open_export",
    "open_predictor",
    "plan_and_runs",
    "predict",
    "predict_cases",
    "predict_windows",
    "read_postprocessing",
    "register_engine",
    "tune",
    "unregister_engine",
]
