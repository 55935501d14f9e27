"""How far a piece of work is, and what there is to say about it: one protocol for every floor, and what shows it.

A function that takes a while has an argument ``console`` and tells it. The command line passes one that prints;
:func:`screen` gives such a one to scripts and notebooks.
"""

from deconvseg.progress.former import takes_console, tenths
from deconvseg.progress.lines import Lines
from deconvseg.progress.protocol import SILENT, Console, Progress, Quiet, Silent, Timed, each, show_nothing
from deconvseg.progress.remaining import TimeLeft, clock_time
from deconvseg.progress.screen import screen
from deconvseg.progress.timing import Timings
from deconvseg.progress.wrapping import wrap

__all__ = [
    "SILENT",
    "Console",
    "Lines",
    "Progress",
    "Quiet",
    "Silent",
    "TimeLeft",
    "Timed",
    "Timings",
    "clock_time",
    "each",
    "screen",
    "show_nothing",
    "takes_console",
    "tenths",
    "wrap",
]
