"""``deconvseg train``."""

import shlex
from typing import Any

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo_path, loading
from deconvseg.options import TrainArguments
from deconvseg.system import keep_freed_memory


@options.takes(TrainArguments)
def train(**asked: Any) -> None:
    """Train on a dataset: plan, train, predict and evaluate the validation cases, write the report."""
    with loading():
        from deconvseg import training

    keep_freed_memory()
    terminal = Terminal()
    run = training.train(**asked, console=terminal)
    if training.Ranks.find().leads:
        terminal.say(f"to predict other scans: deconvseg predict -i SCANS -o MASKS -m {shlex.quote(str(run.path))}")
        echo_path(run.path)
