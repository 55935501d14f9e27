"""What happens beside the training loop: the run folder, the clock, and the line of progress."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from deconvseg.runs import Run
from deconvseg.training.task import SegmentationTask

Report = Callable[[str, float], None]


class RunWriter(Callback):
    """After each epoch: metrics, weights, the best weights, the curves, and the state to resume from."""

    def __init__(self, run: Run, names: tuple[str, ...]) -> None:
        self.run = run
        self.names = names
        self.best = max((row["val_dice"] or -1.0 for row in run.metrics), default=-1.0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write everything; the resume state comes last, so that it never runs ahead of the rest."""
        assert isinstance(pl_module, SegmentationTask)
        row = self._row(trainer, pl_module)
        weights = pl_module.network.state_dict()
        if row["val_dice"] is not None and row["val_dice"] > self.best:
            self.best = row["val_dice"]
            self.run.save_weights(weights, "weights_best")
        self.run.save_weights(weights, "weights")
        self.run.append_metrics(row)
        trainer.save_checkpoint(self.run.resume_file)

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
        mean = torch.stack(scores).mean(0).tolist() if scores else []
        if mean:
            row["val_dice"] = sum(mean) / len(mean)
        row.update({f"val_dice_{name}": value for name, value in zip(self.names, mean, strict=False)})
        scores.clear()
        return row


class TimeLimit(Callback):
    """Stops the run after a number of seconds of training and validation."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop when the time is up; the epoch ends there, with its files."""
        assert isinstance(pl_module, SegmentationTask)
        if pl_module.seconds >= self.seconds:
            trainer.should_stop = True


class Progress(Callback):
    """Tells how far the run is: a line of text and a fraction, several times a second at most."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.dice: float | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Report the loss of the last steps and the last validation's Dice."""
        assert isinstance(pl_module, SegmentationTask)
        recent = pl_module.train_losses[-20:]
        text = f"epoch {trainer.current_epoch}  loss {sum(recent) / len(recent):.3f}"
        if self.dice is not None:
            text += f"  validation Dice {self.dice:.3f}"
        self.report(text, min(pl_module.progress, 1.0))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the validation's Dice."""
        assert isinstance(pl_module, SegmentationTask)
        if pl_module.validation_dice:
            self.dice = float(torch.stack(pl_module.validation_dice).mean())
