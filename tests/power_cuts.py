"""Trainings that are interrupted as by a power cut."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deconvseg.errors import DeconvsegError
from deconvseg.training.callbacks import RunWriter


@contextmanager
def power_cut_after(epoch: int) -> Iterator[None]:
    """End the training inside with an error once the files of this epoch are written."""
    after_epoch = RunWriter.on_train_epoch_end

    def interrupted(self: RunWriter, trainer, pl_module) -> None:  # type: ignore[no-untyped-def]
        after_epoch(self, trainer, pl_module)
        if trainer.current_epoch == epoch:
            raise DeconvsegError("power cut")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "on_train_epoch_end", interrupted)
        with pytest.raises(DeconvsegError, match="power cut"):
            yield
