"""The run folder: its files, written atomically, read safely."""

from deconvseg.data import file_sha256
from deconvseg.runs.folder import FOLDS, Run, open_runs
from deconvseg.runs.manifest import describe_environment, shorten_path

__all__ = ["FOLDS", "Run", "describe_environment", "file_sha256", "open_runs", "shorten_path"]
