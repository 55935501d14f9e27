"""Services of the operating system: machine, memory, atomic files, locks, processes, errors of third-party code."""

from deconvseg.system.endings import ended, ending_signal, exit_on, lacked_memory
from deconvseg.system.files import (
    DiskFullError,
    atomic_write,
    current_folder,
    make_folder,
    refuse_blocked,
    remove_unfinished,
    unfinished,
    write_text,
    writing_error,
)
from deconvseg.system.foreign import FOREIGN_ERRORS, first_line, naming, one_line
from deconvseg.system.former import former_names
from deconvseg.system.locks import LOCK, LockedError, hold
from deconvseg.system.machine import (
    choose_device,
    count_cores,
    package_version,
    processor_name,
    usable_cores,
    why_no_bfloat16,
)
from deconvseg.system.memory import (
    available_memory,
    is_out_of_memory,
    keep_freed_memory,
    peak_memory,
    plannable_memory,
    total_memory,
)
from deconvseg.system.missing import does_not_exist
from deconvseg.system.plugins import is_loading, load_plugins
from deconvseg.system.processes import (
    end_with_parent,
    ending,
    leave_current_folder,
    read_messages,
    start_process,
    take_over_stdout,
)
from deconvseg.system.references import Reference, reference_of
from deconvseg.system.relaying import Relay
from deconvseg.system.streams import UnfailingStream, protect_streams
from deconvseg.system.workers import map_if_slow, map_in_processes

__all__ = [
    "FOREIGN_ERRORS",
    "LOCK",
    "DiskFullError",
    "LockedError",
    "Reference",
    "Relay",
    "UnfailingStream",
    "atomic_write",
    "available_memory",
    "choose_device",
    "count_cores",
    "current_folder",
    "does_not_exist",
    "end_with_parent",
    "ended",
    "ending",
    "ending_signal",
    "exit_on",
    "first_line",
    "former_names",
    "hold",
    "is_loading",
    "is_out_of_memory",
    "keep_freed_memory",
    "lacked_memory",
    "leave_current_folder",
    "load_plugins",
    "make_folder",
    "map_if_slow",
    "map_in_processes",
    "naming",
    "one_line",
    "package_version",
    "peak_memory",
    "plannable_memory",
    "processor_name",
    "protect_streams",
    "read_messages",
    "reference_of",
    "refuse_blocked",
    "remove_unfinished",
    "start_process",
    "take_over_stdout",
    "total_memory",
    "unfinished",
    "usable_cores",
    "why_no_bfloat16",
    "write_text",
    "writing_error",
]
