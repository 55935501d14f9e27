"""TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image

from deconvseg.integrations.trackers.logged import LoggedTracker, tracking_folder
from deconvseg.planning import Plan
from deconvseg.runs import Run
from deconvseg.training.tracking import Status


class TensorBoardTracker(LoggedTracker):
    """Writes events to ``tracking/tensorboard`` of the run: ``tensorboard --logdir FOLDER_OF_RUNS`` shows them."""

    name = "tensorboard"
    packages = ("tensorboard",)

    def open(self, run: Run, known: str | None) -> tuple[Logger, str]:
        """Return the logger of the run's folder; steps after those of a resumed run are hidden."""
        rows = run.metrics
        purged = {"purge_step": rows[-1]["step"] + 1} if known is not None and rows else {}
        folder = tracking_folder(run)
        return TensorBoardLogger(folder, name="", version=self.name, default_hp_metric=False, **purged), self.name

    def write_plan(self, plan: Plan, settings: Mapping[str, Any]) -> None:
        """Store the settings as hyper-parameters, and the plan as text."""
        self.logger.log_hyperparams(dict(settings))
        self._writer.add_text("plan", f"```json\n{plan.model_dump_json(indent=2)}\n```", 0)

    def picture(self, name: str, png: bytes) -> None:
        """Store a picture at the last step."""
        pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
        self._writer.add_image(name, pixels, self.step, dataformats="HWC")

    def close(self, status: Status) -> None:
        """Write what is left, and close the file."""
        self._writer.add_text("status", status, self.step)
        self.logger.finalize("success" if status == "finished" else "failed")
        self._writer.close()

    @property
    def _writer(self) -> Any:
        return self.logger.experiment  # type: ignore[attr-defined]
