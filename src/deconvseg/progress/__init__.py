"""Progress and messages of long-running work: one protocol for all packages, and consoles that display it.

A long-running function has an argument ``console`` and reports to it. The command line passes a console that prints;
scripts and notebooks give ``console=True``, or a console of their own (:func:`choose_console`).
"""

from deconvseg.progress.choosing import choose_console
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
    "choose_console",
    "clock_time",
    "each",
    "screen",
    "show_nothing",
    "takes_console",
    "tenths",
    "wrap",
]
