"""What every floor stands on: atomic files, locks of folders, processes that start and end safely."""

from deconvseg.system.files import (
    DiskFullError,
    atomic_write,
    current_folder,
    make_folder,
    remove_unfinished,
    writing_error,
)
from deconvseg.system.locks import LOCK, LockedError, hold

__all__ = [
    "LOCK",
    "DiskFullError",
    "LockedError",
    "atomic_write",
    "current_folder",
    "hold",
    "make_folder",
    "remove_unfinished",
    "writing_error",
]
