"""From a dataset and a machine to a plan: a file that a person can read and edit."""

from deconvseg.data import Augmentation
from deconvseg.planning.checking import check_plan
from deconvseg.planning.fingerprint import Fingerprint, take_fingerprint
from deconvseg.planning.machine import choose_device, keep_freed_memory
from deconvseg.planning.planner import make_plan
from deconvseg.planning.recipes import RECIPES, Recipe
from deconvseg.planning.schema import ChannelPlan, LabelPlan, ModelPlan, Plan, RegionPlan, read_plan

__all__ = [
    "RECIPES",
    "Augmentation",
    "ChannelPlan",
    "Fingerprint",
    "LabelPlan",
    "ModelPlan",
    "Plan",
    "Recipe",
    "RegionPlan",
    "check_plan",
    "choose_device",
    "keep_freed_memory",
    "make_plan",
    "read_plan",
    "take_fingerprint",
]
