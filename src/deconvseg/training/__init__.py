"""From a dataset and a plan to a trained run."""

from deconvseg.options import TrainOptions
from deconvseg.progress import Console, Silent
from deconvseg.training.cases import open_data
from deconvseg.training.deciding import decide_plan
from deconvseg.training.describing import describe_run
from deconvseg.training.fit import choose_precision
from deconvseg.training.folders import remove_cache
from deconvseg.training.foreseeing import foresee
from deconvseg.training.options import forget_places, given_plan, resume_options, write_places
from deconvseg.training.preflight import check_dataset, check_start
from deconvseg.training.ranks import Ranks
from deconvseg.training.resuming import changed_keys, check_resumable, check_same_plan, record_own
from deconvseg.training.task import SegmentationTask
from deconvseg.training.tracking import RunFiles, Tracker
from deconvseg.training.workflow import train

__all__ = [
    "Console",
    "Ranks",
    "RunFiles",
    "SegmentationTask",
    "Silent",
    "Tracker",
    "TrainOptions",
    "changed_keys",
    "check_dataset",
    "check_resumable",
    "check_same_plan",
    "check_start",
    "choose_precision",
    "decide_plan",
    "describe_run",
    "foresee",
    "forget_places",
    "given_plan",
    "open_data",
    "record_own",
    "remove_cache",
    "resume_options",
    "train",
    "write_places",
]
