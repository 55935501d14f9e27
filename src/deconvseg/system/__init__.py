"""What every floor stands on: atomic files, locks of folders, processes that start and end safely."""

from deconvseg.system.files import (
    DiskFullError,
    atomic_write,
    current_folder,
    make_folder,
    remove_unfinished,
    unfinished,
    writing_error,
)
from deconvseg.system.locks import LOCK, LockedError, hold
from deconvseg.system.processes import (
    child_environment,
    end_with_parent,
    ending,
    leave_current_folder,
    python_command,
    read_messages,
    take_over_stdout,
)
from deconvseg.system.streams import UnfailingStream, protect_streams
from deconvseg.system.workers import ended, map_in_processes, naming

__all__ = [
    "LOCK",
    "DiskFullError",
    "LockedError",
    "UnfailingStream",
    "atomic_write",
    "child_environment",
    "current_folder",
    "end_with_parent",
    "ended",
    "ending",
    "hold",
    "leave_current_folder",
    "make_folder",
    "map_in_processes",
    "naming",
    "protect_streams",
    "python_command",
    "read_messages",
    "remove_unfinished",
    "take_over_stdout",
    "unfinished",
    "writing_error",
]
