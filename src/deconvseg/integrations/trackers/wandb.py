"""Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from PIL import Image

from deconvseg.integrations.trackers.logged import LoggedTracker, title_of, tracking_folder
from deconvseg.planning import Plan
from deconvseg.runs import Run
from deconvseg.system import make_folder
from deconvseg.training.tracking import Status

_PROJECT = "deconvseg"


class WandbTracker(LoggedTracker):
    """Logs to the project ``deconvseg`` (or ``WANDB_PROJECT``); ``WANDB_MODE=offline`` keeps it in the run's folder."""

    name = "wandb"
    packages = ("wandb",)

    def open(self, run: Run, known: str | None) -> tuple[Logger, str]:
        """Return the logger of a new tracked run, or of the known one."""
        from wandb import Settings

        title, group = title_of(run)
        logger = WandbLogger(
            name=title,
            id=known,
            group=group,
            project=None if "WANDB_PROJECT" in os.environ else _PROJECT,
            save_dir=make_folder(tracking_folder(run)),
            reinit="finish_previous",
            # The console, the command and the repository may name cases, which must not be sent.
            settings=Settings(console="off", disable_git=True, save_code=False, x_disable_meta=True),
        )
        return logger, str(logger.experiment.id)

    def write_plan(self, plan: Plan, settings: Mapping[str, Any]) -> None:
        """Store the plan in the configuration."""
        self.logger.log_hyperparams({**settings, "plan": plan.model_dump(mode="json")})

    def picture(self, name: str, png: bytes) -> None:
        """Store a picture at the last step."""
        self.logger.log_image(name, [Image.open(BytesIO(png))])  # type: ignore[attr-defined]

    def close(self, status: Status) -> None:
        """End the tracked run; W&B knows failures by the exit code."""
        self.logger.experiment.finish(exit_code=0 if status == "finished" else 1)  # type: ignore[attr-defined]
