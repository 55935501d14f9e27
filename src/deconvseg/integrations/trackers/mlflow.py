"""MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger

from deconvseg.integrations.trackers.logged import LoggedTracker, title_of
from deconvseg.planning import Plan
from deconvseg.runs import Run
from deconvseg.system import hold, make_folder
from deconvseg.training.tracking import Status

_EXPERIMENT = "deconvseg"
_STORE, _ARTIFACTS = "mlflow.db", "mlartifacts"
# A server that does not answer holds up the start of a training once, for a minute or two at most.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_STORE_SECONDS = 300.0
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflowTracker(LoggedTracker):
    """Logs to the server or store of ``MLFLOW_TRACKING_URI``, by default to ``mlflow.db`` (SQLite) in this folder."""

    name = "mlflow"
    packages = ("mlflow", "sqlalchemy", "alembic")

    def __init__(self) -> None:
        for key, value in _PATIENCE.items():
            os.environ.setdefault(key, value)
        super().__init__()

    def open(self, run: Run, known: str | None) -> tuple[Logger, str]:
        """Return the logger of a new tracked run, or of the known one, which runs again."""
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if address:
            return self._open(run, known, tracking_uri=address)
        artifacts = Path(_ARTIFACTS).absolute()
        # A new store is not made twice, such as by two folds that start together.
        with hold(make_folder(artifacts), patience=_STORE_SECONDS):
            return self._open(
                run, known, tracking_uri=f"sqlite:///{Path(_STORE).absolute()}", artifact_location=artifacts.as_uri()
            )

    def _open(self, run: Run, known: str | None, **store: Any) -> tuple[Logger, str]:
        title, group = title_of(run)
        logger = MLFlowLogger(
            experiment_name=_EXPERIMENT,
            run_name=title,
            run_id=known,
            tags={"dataset": run.plan.dataset, **({} if group is None else {"crossval": group})},
            **store,
        )
        identity = str(logger.run_id)
        if known is not None:
            logger.experiment.update_run(identity, status="RUNNING")
        self.client, self.identity = logger.experiment, identity
        return logger, identity

    def write_plan(self, plan: Plan, settings: Mapping[str, Any]) -> None:
        """Store the settings as parameters, and the plan as the artifact ``plan.json``."""
        self.logger.log_hyperparams(dict(settings))
        self.client.log_text(self.identity, plan.model_dump_json(indent=2), "plan.json")

    def picture(self, name: str, png: bytes) -> None:
        """Store a picture as an artifact."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.png"
            file.write_bytes(png)
            self.client.log_artifact(self.identity, str(file), "pictures")

    def close(self, status: Status) -> None:
        """End the tracked run with its status."""
        self.client.set_terminated(self.identity, _STATUS[status])
