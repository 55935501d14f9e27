"""Plan a training for a dataset and a machine; the plan is a readable and editable file."""

from functools import partial
from importlib import import_module

from deconvseg.data import Augmentation
from deconvseg.planning.appearance import Appearance
from deconvseg.planning.checking import check_plan
from deconvseg.planning.choices import plan_cropping
from deconvseg.planning.codes import SegmentCode
from deconvseg.planning.explaining import Section, explain
from deconvseg.planning.fingerprint import Fingerprint, take_fingerprint
from deconvseg.planning.fingerprint_cache import cache_folder
from deconvseg.planning.fitting import register_fitting, typical_network
from deconvseg.planning.forecast import training_seconds
from deconvseg.planning.matching import channel_order, check_pretrained, is_default_name, match_plan
from deconvseg.planning.measuring import StepCost, StepMeter
from deconvseg.planning.parts import (
    ChannelPlan,
    DataSummary,
    InferencePlan,
    LabelPlan,
    ModelPlan,
    Prediction,
    RegionPlan,
    WindowRule,
)
from deconvseg.planning.planner import make_plan, planned_seconds
from deconvseg.planning.preview import preview_plan
from deconvseg.planning.recipes import RECIPES, Recipe
from deconvseg.planning.request import Request, check_request
from deconvseg.planning.schema import Plan, read_plan
from deconvseg.planning.supervision import supervise_deeply
from deconvseg.planning.validation import ValidationCost
from deconvseg.system import former_names

__all__ = [
    "RECIPES",
    "Appearance",
    "Augmentation",
    "ChannelPlan",
    "DataSummary",
    "Fingerprint",
    "InferencePlan",
    "LabelPlan",
    "ModelPlan",
    "Plan",
    "Prediction",
    "Recipe",
    "RegionPlan",
    "Request",
    "Section",
    "SegmentCode",
    "StepCost",
    "StepMeter",
    "ValidationCost",
    "WindowRule",
    "cache_folder",
    "channel_order",
    "check_plan",
    "check_pretrained",
    "check_request",
    "explain",
    "is_default_name",
    "make_plan",
    "match_plan",
    "plan_cropping",
    "planned_seconds",
    "preview_plan",
    "read_plan",
    "register_fitting",
    "supervise_deeply",
    "take_fingerprint",
    "training_seconds",
    "typical_network",
]

_NOW_IN_SYSTEM = ("available_memory", "choose_device", "is_out_of_memory", "keep_freed_memory", "plannable_memory")
_SYSTEM = import_module("deconvseg.system")
__getattr__ = former_names(
    __name__, {name: (partial(getattr, _SYSTEM, name), f"use deconvseg.system.{name}") for name in _NOW_IN_SYSTEM}
)
