"""The run folder: its files, written atomically, read safely."""

from deconvseg.data import file_sha256
from deconvseg.runs.checking import check_entries, parse_row
from deconvseg.runs.folder import FOLDS, Run
from deconvseg.runs.manifest import describe_environment, shorten_path
from deconvseg.runs.opening import load_network, open_runs
from deconvseg.runs.origin import PREDICTIONS, describe_run, find_run

__all__ = [
    "FOLDS",
    "PREDICTIONS",
    "Run",
    "check_entries",
    "describe_environment",
    "describe_run",
    "file_sha256",
    "find_run",
    "load_network",
    "open_runs",
    "parse_row",
    "shorten_path",
]
