"""Run folders: files that are written atomically and checked when they are read."""

from deconvseg.data import file_sha256
from deconvseg.runs.changing import change_run
from deconvseg.runs.checking import check_entries, parse_row
from deconvseg.runs.folder import FOLDS, Run
from deconvseg.runs.locating import locate
from deconvseg.runs.manifest import describe_environment, shorten_path
from deconvseg.runs.opening import load_network, open_runs, record_weights, weights_of
from deconvseg.runs.origin import PREDICTIONS, describe_run, find_run, is_described, name_seen
from deconvseg.runs.package import PACKAGE, Package, PackagedFile, Score, StoredType, package_name, read_package
from deconvseg.runs.precisions import (
    LARGEST_LOSS,
    PRECISION,
    MeasuredPrecision,
    Precision,
    name_precision,
    read_precision,
)
from deconvseg.runs.pretrained import list_pretrained, register_pretrained
from deconvseg.runs.reading import patterns_of_run
from deconvseg.runs.thresholds import (
    GRID,
    THRESHOLD,
    ChosenThreshold,
    Threshold,
    check_threshold,
    format_threshold,
    is_threshold,
    read_threshold,
)
from deconvseg.runs.unpacking import SUFFIX as PACKED_SUFFIX
from deconvseg.runs.unpacking import read_packed
from deconvseg.runs.weight_files import WeightsChoice

__all__ = [
    "FOLDS",
    "GRID",
    "LARGEST_LOSS",
    "PACKAGE",
    "PACKED_SUFFIX",
    "PRECISION",
    "PREDICTIONS",
    "THRESHOLD",
    "ChosenThreshold",
    "MeasuredPrecision",
    "Package",
    "PackagedFile",
    "Precision",
    "Run",
    "Score",
    "StoredType",
    "Threshold",
    "WeightsChoice",
    "change_run",
    "check_entries",
    "check_threshold",
    "describe_environment",
    "describe_run",
    "file_sha256",
    "find_run",
    "format_threshold",
    "is_described",
    "is_threshold",
    "list_pretrained",
    "load_network",
    "locate",
    "name_precision",
    "name_seen",
    "open_runs",
    "package_name",
    "parse_row",
    "patterns_of_run",
    "read_package",
    "read_packed",
    "read_precision",
    "read_threshold",
    "record_weights",
    "register_pretrained",
    "shorten_path",
    "weights_of",
]
