"""Progress of a training: the current step, speed, loss, best Dice, and the remaining time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from deconvseg.progress import Progress, Timed
from deconvseg.training.foreseeing import REPORT_SECONDS, Outlook
from deconvseg.training.task import SegmentationTask
from deconvseg.training.validation import ValidationScore

# The pace is the mean over the last steps, without the first ones, which include preparation.
_STEPS_OF_PACE, _PREPARING_STEPS = 100, 2
_STEPS_OF_LOSS = 20
# The fraction of the time limit after which the number of epochs is estimated.
_FORESEEABLE = 0.05


class Pace:
    """Measures the time of steps, validated cases and the ends of epochs, by the clock at the start and end of each.

    ``epochs`` is the number of completed epochs.
    """

    def __init__(self, outlook: Outlook, clock: Callable[[], float] = time.monotonic, *, epochs: int = 0) -> None:
        self.outlook = outlook
        self.clock = clock
        self._ended_epochs = epochs
        self._validations = epochs // outlook.validate_every
        self._steps: deque[float] = deque(maxlen=_STEPS_OF_PACE)
        self._taken = 0
        self._case_seconds = outlook.case_seconds
        self._between: list[float] = []
        self._since: float | None = None
        self._epoch_ended: float | None = None

    def begin_epoch(self) -> None:
        """Record the start of the first step of an epoch."""
        now = self.clock()
        if self._epoch_ended is not None:
            self._between.append(now - self._epoch_ended)
            self._ended_epochs += 1
        self._since = now

    def end_step(self) -> None:
        """Record the end of a step, and thus the start of the next one or of the end of the epoch."""
        now = self.clock()
        if self._since is not None:
            self._taken += 1
            if self._taken > _PREPARING_STEPS:
                self._steps.append(now - self._since)
        self._since = self._epoch_ended = now

    def begin_validation(self) -> None:
        """Record the start of a validation."""
        self._since = self.clock()

    def end_validation(self, cases: int) -> None:
        """Record the end of a validation of this many cases."""
        self._epoch_ended = now = self.clock()
        self._validations += 1
        if self._since is not None and cases:
            self._case_seconds = (now - self._since) / cases

    @property
    def step_seconds(self) -> float | None:
        """The mean seconds of the last steps; None before the first one."""
        return sum(self._steps) / len(self._steps) if self._steps else None

    def left(self, step: int, seconds: float) -> float | None:
        """Return the seconds until the end, after this many steps of all epochs and ``seconds``; None if not known.

        The training ends by its steps or by the time limit, whichever comes first.
        """
        known = [left for left in (self._left_by_steps(step), self._left_by_clock(seconds)) if left is not None]
        return min(known) + self.afterwards if known else None

    @property
    def afterwards(self) -> float:
        """The seconds of predicting all validation cases and of the report, as far as they are known."""
        return self.outlook.predicted * (self._case_seconds or 0.0) + REPORT_SECONDS

    def _left_by_clock(self, seconds: float) -> float | None:
        limit = self.outlook.max_seconds
        return None if limit is None else max(0.0, limit - seconds)

    def _left_by_steps(self, step: int) -> float | None:
        outlook = self.outlook
        if outlook.epochs is None or self.step_seconds is None:
            return None
        steps = outlook.epochs * outlook.steps_per_epoch - step
        validations = max(0, outlook.epochs // outlook.validate_every - self._validations)
        between = sum(self._between) / len(self._between) if self._between else 0.0
        return (
            steps * self.step_seconds
            + validations * outlook.validated * (self._case_seconds or 0.0)
            + (outlook.epochs - self._ended_epochs) * between
        )


class ProgressTeller(Callback):
    """Reports the progress of the training after every step and before each validated case.

    ``rows`` are the metrics of earlier epochs of a resumed training; ``cases`` is the number of validation cases.
    """

    def __init__(
        self, progress: Progress, outlook: Outlook, cases: int, rows: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.progress = progress
        self.pace = Pace(outlook, epochs=len(rows))
        self.outlook = outlook
        self.cases = cases
        scored = [row for row in rows if row.get("val_dice") is not None]
        best = max(scored, key=lambda row: row["val_dice"], default=None)
        self.best: tuple[float, str] | None = None
        if best is not None:
            self.best = best["val_dice"], f"epoch {best['epoch'] + 1}"
        self.last: float | None = None
        # A later estimate may be longer, but a bar does not go back.
        self.done = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to time the steps."""
        self.pace.begin_epoch()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Report the pace, the loss of the last steps and the best validation Dice."""
        assert isinstance(pl_module, SegmentationTask)
        self.pace.end_step()
        recent = pl_module.train_losses[-_STEPS_OF_LOSS:]
        step = trainer.global_step % self.outlook.steps_per_epoch or self.outlook.steps_per_epoch
        parts = [self._epoch(pl_module), f"step {step} of {self.outlook.steps_per_epoch}"]
        if self.pace.step_seconds:
            parts.append(_describe_pace(self.pace.step_seconds))
        parts.append(f"loss {sum(recent) / len(recent):.3f}")
        self._tell(pl_module, ", ".join([*parts, *self._describe_dice()]))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to time the validation."""
        self.pace.begin_validation()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Report the case that is being validated, which may take as long as many steps."""
        assert isinstance(pl_module, SegmentationTask)
        count = trainer.num_val_batches[dataloader_idx]
        at_work = f"validating {', '.join(batch['case'])} ({batch_idx + 1} of {count})"
        self._tell(pl_module, ", ".join([self._epoch(pl_module), at_work, *self._describe_dice()]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the Dice of the validation."""
        assert isinstance(pl_module, SegmentationTask)
        if not pl_module.validation_dice:
            return
        self.pace.end_validation(int(trainer.num_val_batches[0]))
        score = ValidationScore.of(pl_module.validation_dice)
        self.last = score.mean
        if self.best is None or score.mean > self.best[0]:
            self.best = score.mean, ", ".join([f"epoch {trainer.current_epoch + 1}", *score.notes(self.cases)])

    def _tell(self, task: SegmentationTask, text: str) -> None:
        seconds = task.seconds
        left = self.pace.left(task.global_step, seconds)
        done = min(task.progress, 1.0)
        if left:
            # The time left includes the final validation and the report, so the steps alone are not all of the work.
            done = min(done, seconds / (seconds + left))
        self.done = max(self.done, done)
        self.progress(Timed(self.done, left), text)

    def _epoch(self, task: SegmentationTask) -> str:
        """Return the number of the epoch, from 1, and of all epochs, which is an estimate with a time limit."""
        number = task.current_epoch + 1
        if self.outlook.epochs is not None:
            return f"epoch {number} of {self.outlook.epochs}"
        if task.progress < _FORESEEABLE:
            return f"epoch {number}"
        done = task.global_step / self.outlook.steps_per_epoch
        return f"epoch {number} of about {max(number, round(done / task.progress))}"

    def _describe_dice(self) -> list[str]:
        if self.best is None:
            return []
        dice, when = self.best
        told = [f"best Dice {dice:.3f} ({when})"]
        return told if self.last in (None, dice) else [*told, f"last {self.last:.3f}"]


def _describe_pace(seconds: float) -> str:
    return f"{1 / seconds:.2f} steps/s" if seconds < 10 else f"{seconds:.0f} s a step"
