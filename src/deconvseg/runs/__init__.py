"""The run folder: its files, written atomically, read safely."""

from deconvseg.runs.folder import FOLDS, Run, open_runs
from deconvseg.runs.manifest import describe_environment, file_sha256

__all__ = ["FOLDS", "Run", "describe_environment", "file_sha256", "open_runs"]
