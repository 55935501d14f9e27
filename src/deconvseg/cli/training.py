"""``deconvseg train``."""

from typing import Any

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo_path
from deconvseg.options import TrainArguments
from deconvseg.system import keep_freed_memory


@options.takes(TrainArguments)
def train(**asked: Any) -> None:
    """Train on a dataset: plan, train, predict and evaluate the validation cases, write the report."""
    from deconvseg import training

    keep_freed_memory()
    run = training.train(**asked, console=Terminal())
    if training.Ranks.find().leads:
        echo_path(run.path)
