"""The run folder: its files, written atomically, read safely."""

from deconvseg.runs.folder import Run
from deconvseg.runs.manifest import describe_environment, file_sha256

__all__ = ["Run", "describe_environment", "file_sha256"]
