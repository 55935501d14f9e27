"""What the trackers share: one of Lightning's loggers, filled from a run without names of cases."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.loggers import Logger

from deconvseg.data import read_json_object
from deconvseg.errors import MissingPackageError
from deconvseg.evaluation import read_evaluation
from deconvseg.integrations.sharing.naming import CaseNames
from deconvseg.integrations.sharing.writing import scores_of
from deconvseg.planning import Plan
from deconvseg.runs import FOLDS, Run
from deconvseg.runs.folder import TRACKING
from deconvseg.system import write_text
from deconvseg.text import dump_json
from deconvseg.training.tracking import Status, Values

# The file of a run that identifies it for the trackers, so that a resumed run continues there.
TRACKED = "tracked.json"
_SETTINGS = ("spatial_dims", "spacing", "patch_size", "batch_size", "model", "recipe")
_OPTIONS = ("seed", "fold", "epochs", "max_seconds", "device")
_ALLOWED = re.compile(r"[^\w\-. :/]")


class LoggedTracker(ABC):
    """A tracker made of one of Lightning's loggers.

    It gets the plan without names of cases and its settings as hyper-parameters, the metrics of every epoch, pictures,
    and at the end the scores of the validation masks as ``final/METRIC/CLASS``. The identity of the tracked run is kept
    in ``tracked.json``, with which a resumed run continues.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        for package in self.packages:
            try:
                import_module(package)
            except ImportError as error:
                raise MissingPackageError(
                    f"`track={self.name!r}` needs {package}, which is not installed ({error}); run: pip install "
                    f"'deconvseg[{self.name}]'"
                ) from error

    @abstractmethod
    def open(self, run: Run, known: str | None) -> tuple[Logger, str]:
        """Return the logger of a run, and the identity of the tracked run; ``known`` is that of a resumed one."""

    @abstractmethod
    def write_plan(self, plan: Plan, settings: Mapping[str, Any]) -> None:
        """Store the plan and its settings with a new tracked run."""

    @abstractmethod
    def picture(self, name: str, png: bytes) -> None:
        """Store a picture."""

    @abstractmethod
    def close(self, status: Status) -> None:
        """Close the tracked run."""

    def start(self, run: Run) -> None:
        """Open a tracked run, or that of the training that is resumed."""
        self.run, self.step = run, 0
        known = _read(run).get(self.name)
        self.logger, identity = self.open(run, known)
        write_text(run.path / TRACKED, dump_json({**_read(run), self.name: identity}) + "\n")
        if identity != known:
            plan = CaseNames.of(run).remove_from_plan(run.plan)
            self.write_plan(plan, {**plan.model_dump(mode="json", include=set(_SETTINGS)), **_options(run)})

    def log(self, step: int, values: Values) -> None:
        """Log the metrics of an epoch."""
        self.step = step
        self.logger.log_metrics({_named(key): float(value) for key, value in values.items() if value is not None}, step)

    def finish(self, status: Status) -> None:
        """Log the scores of the validation masks, and close the tracked run."""
        file = self.run.validation / "metrics.json"
        if status == "finished" and file.is_file():
            scores = {
                _named(f"final/{score.metric}/{score.structure}"): score.mean
                for score in scores_of(read_evaluation(file))
            }
            self.logger.log_metrics(scores, self.step)
        self.close(status)


def title_of(run: Run) -> tuple[str, str | None]:
    """Return the name of a run for trackers, and of its cross-validation, which precedes the fold's."""
    folder = run.path.absolute()
    group = folder.parent.name if (folder.parent / FOLDS).is_file() else None
    return (folder.name if group is None else f"{group}/{folder.name}"), group


def tracking_folder(run: Run) -> Path:
    """Return the folder of a run for the files of trackers; it is no part of the run's record."""
    return run.path / TRACKING


def _read(run: Run) -> dict[str, Any]:
    file = run.path / TRACKED
    return read_json_object(file) if file.is_file() else {}


def _options(run: Run) -> dict[str, Any]:
    return {key: value for key in _OPTIONS if (value := run.config.get(key)) is not None}


def _named(text: str) -> str:
    """Return a name of a metric that every tracker takes."""
    return _ALLOWED.sub("_", text.replace(" (", "_").replace(")", ""))
