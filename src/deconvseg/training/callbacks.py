"""Callbacks of the training loop: files of the run, the time limit, and signals."""

import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from deconvseg.runs import Run
from deconvseg.system import exit_on
from deconvseg.system.collectives import leaders_value
from deconvseg.training.task import SegmentationTask
from deconvseg.training.tracking import Tracker
from deconvseg.training.validation import ValidationScore


class RunWriter(Callback):
    """Writes metrics, weights, the best weights, the curves and the resume state after each epoch.

    ``validation_cases`` is the number of all validation cases; a validation may use only some of them.
    """

    def __init__(self, run: Run, names: tuple[str, ...], validation_cases: int, trackers: Sequence[Tracker]) -> None:
        self.run = run
        self.trackers = trackers
        self.names = names
        self.validation_cases = validation_cases
        self.best = max((row["val_dice"] for row in run.metrics if row["val_dice"] is not None), default=-1.0)

    @property
    def owes_score(self) -> bool:
        """Whether the weights are selected by validation and no epoch has a score; the same in all processes."""
        selects = self.run.plan.recipe.weights == "best" and self.validation_cases > 0
        return selects and leaders_value(self.best) < 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write everything; the resume state comes last, so that it is never newer than the other files."""
        assert isinstance(pl_module, SegmentationTask)
        row = self._row(trainer, pl_module)
        # All processes take part in gathering; only the first one writes.
        state = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            self._write(row, _below(pl_module.kept_name, state))
        trainer.save_checkpoint(self.run.resume_file)

    def _write(self, row: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        if row["val_dice"] is not None and row["val_dice"] > self.best:
            self.best = row["val_dice"]
            self.run.save_weights(weights, "weights_best")
        self.run.save_weights(weights, "weights")
        for tracker in self.trackers:
            tracker.log(row["step"], row)

    def _row(self, trainer: Trainer, task: SegmentationTask) -> dict[str, Any]:
        losses, scores = task.train_losses, task.validation_dice
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": round(task.seconds, 2),
            "train_loss": sum(losses) / len(losses) if losses else None,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "val_dice": None,
        }
        if scores:
            found = ValidationScore.of(scores)
            row |= {"val_dice": found.mean, "val_with_truth": found.with_truth}
            row |= {"val_cases": found.cases, "val_cases_of": self.validation_cases}
            row |= {f"val_dice_{name}": value for name, value in zip(self.names, found.classes, strict=True)}
        scores.clear()
        return row


def _below(name: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the part of a state dict that belongs to one module of it."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


class EndAtOnce(Callback):
    """Ends this process on SIGTERM; Lightning's handler waits for the other processes, which may have died."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handler, which ends the process by an exception, so that partial files are removed."""
        if threading.current_thread() is threading.main_thread():
            exit_on(signal.SIGTERM)


class TimeLimit(Callback):
    """Stops the run after a number of seconds of training and validation, by the first process's clock.

    If validations select the weights (``writer.owes_score``), the first one is finished, however long it takes.
    """

    def __init__(self, seconds: float, writer: RunWriter) -> None:
        self.seconds = seconds
        self.writer = writer

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop when the time is up; the epoch ends with its files, but without a validation, unless one is owed."""
        assert isinstance(pl_module, SegmentationTask)
        if self._is_up(pl_module):
            trainer.should_stop = True
            if self.writer.owes_score:
                trainer.check_val_every_n_epoch = 1
            else:
                trainer.limit_val_batches = 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a validation that is owed take its time."""
        assert isinstance(pl_module, SegmentationTask)
        pl_module.finishes_validation = self.writer.owes_score

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if the time was up during a validation."""
        assert isinstance(pl_module, SegmentationTask)
        trainer.should_stop |= pl_module.out_of_time or (pl_module.finishes_validation and self._is_up(pl_module))

    def _is_up(self, task: SegmentationTask) -> bool:
        return leaders_value(task.seconds) >= self.seconds
