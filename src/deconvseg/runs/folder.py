"""The folder of a run; after a crash it contains the last valid state."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvseg.data import file_sha256, read_json_object, write_table
from deconvseg.errors import InputError
from deconvseg.planning import Plan, read_plan
from deconvseg.runs import weight_files
from deconvseg.runs.checking import read_manifest, read_rows, read_split_names
from deconvseg.runs.manifest import describe_environment
from deconvseg.runs.weight_files import WeightsChoice, WeightsFile
from deconvseg.system import (
    LOCK,
    DiskFullError,
    does_not_exist,
    make_folder,
    remove_unfinished,
    write_text,
)
from deconvseg.text import dump_json

if TYPE_CHECKING:
    import torch

    from deconvseg.models import Network

# nnU-Net's name for a list of folds; a folder with this file is a cross-validation.
FOLDS = "splits_final.json"

# Files that trackers of other software write into a run while it ends; they are no part of its record.
TRACKING = "tracking"

# Files that a run writes, and removes at its end, which must not exist before.
_OWN = (
    "config.json",
    "splits.json",
    "manifest.json",
    "plan.json",
    "validation",
    "cache",
    "report.html",
    "operating_points.json",
    "precision.json",
)
# Files of a run without a completed epoch that a new run removes; prepared cases are kept.
_REPLACED = (
    *("plan.json", "config.json", "splits.json", "weights.safetensors", "weights_best.safetensors", "metrics.jsonl"),
    *(
        "tracked.json",
        "tracking",
        "metrics.csv",
        "progress.png",
        "report.html",
        "resume",
        "validation",
        "precision.json",
    ),
)


class Run:
    """A run folder: plan, configuration, splits, manifest, weights, metrics, validation, report.

    Example:
        >>> from deconvseg.runs import Run
        >>> run = Run.open("RUN")
        >>> run.plan.model.name, run.finished, len(run.metrics)
        ('deconver', True, 4)
        >>> run.network("final").out_channels
        2

    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        plan: Plan,
        config: Mapping[str, Any],
        splits: Mapping[str, Sequence[str]],
    ) -> "Run":
        """Create a run folder with its plan, configuration, splits and manifest.

        A run of this package that was stopped before the end of its first epoch is replaced, in whatever state it was
        stopped. Raises :class:`InputError` for any other run, and for another folder with files of these names.
        """
        run = cls(path)
        run.check_free()
        make_folder(run.path)
        # The manifest is written first, because it marks later files as those of a run.
        run._write_json("manifest.json", {**describe_environment(), "files": {}})
        for name in _REPLACED:
            _remove(run.path / name)
        remove_unfinished(run.path)
        run._write_json("plan.json", plan.model_dump(mode="json"))
        run._write_json("config.json", config)
        run._write_json("splits.json", splits)
        return run

    @classmethod
    def open(cls, path: str | PathLike[str]) -> "Run":
        """Open an existing run folder; :class:`InputError` if it does not exist."""
        run = cls(path)
        if not (run.path / "plan.json").is_file():
            where = run.path if run.path.exists() else does_not_exist(run.path)
            raise InputError(f"{where}: not a run folder (no plan.json); give the folder that training made")
        return run

    @cached_property
    def plan(self) -> Plan:
        """The checked plan, which is read only once."""
        return read_plan(self.path / "plan.json")

    @property
    def config(self) -> dict[str, Any]:
        """The options of the user: dataset, splits, fold, seed, device, …"""
        return read_json_object(self.path / "config.json")

    @property
    def splits(self) -> dict[str, Any]:
        """Case names of the training, validation and test sets: "train", "val", "test"."""
        return read_split_names(self.path / "splits.json")

    @property
    def manifest(self) -> dict[str, Any]:
        """The versions, machine, command and hashes."""
        return read_manifest(self.path / "manifest.json")

    @property
    def resume_file(self) -> Path:
        """The state to continue from the last completed epoch: a safetensors file with a JSON header."""
        return self.path / "resume" / "state.safetensors"

    @property
    def finished(self) -> bool:
        """Whether the run is complete, including its validation and report."""
        return bool(self.manifest.get("finished", False))

    @property
    def holds_folds(self) -> bool:
        """Whether the folder is a cross-validation, whose folds are runs with weights of their own."""
        return (self.path / FOLDS).exists()

    @property
    def cache(self) -> Path:
        """The folder of preprocessed cases, which is removed at the end of the run."""
        return self.path / "cache"

    @property
    def validation(self) -> Path:
        """The folder of predicted validation masks and their metrics."""
        return self.path / "validation"

    def update_manifest(self, **values: Any) -> None:
        """Add entries to the manifest."""
        self._write_json("manifest.json", {**self.manifest, **values})

    def save_weights(self, weights: Mapping[str, "torch.Tensor"], kind: WeightsFile = "weights") -> None:
        """Write weights, and their SHA-256 to the manifest."""
        weight_files.save(self, weights, f"{kind}.safetensors")

    def load_weights(self, kind: WeightsFile = "weights") -> dict[str, "torch.Tensor"]:
        """Read weights after a check of their SHA-256 against the manifest."""
        return weight_files.load(self, f"{kind}.safetensors")

    def network(self, which: WeightsChoice = "best", device: str = "cpu") -> "Network":
        """Return the network of the plan with its weights, in evaluation mode on ``device``.

        ``which`` is "best", the weights with the highest validation Dice (the final ones of a run without validation),
        or "final", those at the end of training, which :func:`~deconvseg.predict` uses unless the recipe chooses the
        best ones. The input (B, C, *S) must be on the plan's grid and normalised by the plan, with S a multiple of
        ``size_multiple``; the output are logits (B, K, *S). Raises :class:`InputError` for weights that are missing,
        damaged, or of another network.
        """
        return weight_files.network(self, which, device)

    def choose_weights(self, asked: WeightsChoice | None = None) -> WeightsChoice:
        """Return the requested weights, or else those that the run's recipe chooses: "final" or "best".

        Raises :class:`InputError` if they are the best ones and the run has none.
        """
        return weight_files.choose(self, asked)

    def valid_hashes(self, name: str) -> list[str]:
        """Return the valid hashes of a file; empty if the manifest's lists were removed."""
        older = self.manifest.get("replaced", {}).get(name)
        known = [self.manifest.get("files", {}).get(name), *(older if isinstance(older, list) else [older])]
        return [digest for digest in known if digest is not None]

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one epoch's metrics to ``metrics.jsonl`` and ``metrics.csv``; a repeated epoch replaces its row."""
        rows = [old for old in self.metrics if old["epoch"] < row["epoch"]] + [dict(row)]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
        write_table(self.path / "metrics.csv", rows)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row per epoch."""
        return read_rows(self.path / "metrics.jsonl")

    def record_hashes(self, *, finished: bool) -> None:
        """Record in the manifest the SHA-256 of every other file of the run, and whether the run is complete."""
        files = sorted(
            path
            for path in self.path.rglob("*")
            if path.is_file()
            and path != self.path / "manifest.json"
            and not {LOCK, TRACKING} & {*path.relative_to(self.path).parts}
        )
        hashes = {path.relative_to(self.path).as_posix(): file_sha256(path) for path in files}
        self.update_manifest(files=hashes, finished=finished)

    def record_hash(self, name: str) -> None:
        """Record the SHA-256 of a file that was rewritten after the end of the run."""
        self.update_manifest(files={**self.manifest.get("files", {}), name: file_sha256(self.path / name)})

    def threads_differ(self) -> bool:
        """Whether the number of PyTorch threads differs from that at the start of the run."""
        import torch

        return bool(self.manifest.get("machine", {}).get("threads") != torch.get_num_threads())

    @property
    def replaceable(self) -> bool:
        """Whether this run was stopped before it completed an epoch, so that it may be replaced."""
        if self.resume_file.exists() or self.holds_folds or not self._is_own():
            return False
        # In the first epoch, weights and metrics are written before the state for resuming.
        return not self.finished and len(self.metrics) <= 1

    @contextmanager
    def advising(self) -> Iterator[None]:
        """Add to the error for a full disk that the run can be resumed, if it has a completed epoch."""
        try:
            yield
        except DiskFullError as error:
            if self.resume_file.exists() or self.holds_folds:
                raise DiskFullError(error.path, " and continue with `resume=True`") from error
            raise

    @property
    def described(self) -> bool:
        """Whether all files that define the run exist."""
        return all((self.path / name).is_file() for name in ("plan.json", "config.json", "splits.json"))

    def _is_own(self) -> bool:
        try:
            return "deconvseg" in self.manifest
        except InputError:
            return False

    def check_free(self) -> None:
        """Raise :class:`InputError` if the folder contains another run, or files that a run would replace."""
        if self.resume_file.exists() or self.holds_folds:
            raise InputError(
                f"{self.path}: holds a run already; continue it with `resume=True` or choose another folder (`output`)"
            )
        if self.replaceable:
            return
        if (self.path / "weights.safetensors").exists():
            raise InputError(
                f"{self.path}: holds weights of a run that cannot be resumed; move it away, or choose another "
                "folder (`output`)"
            )
        taken = [name for name in _OWN if (self.path / name).exists()]
        if taken:
            raise InputError(
                f"{self.path}: holds {taken[0]}, which does not belong to a run and would be replaced; choose another "
                "folder (`output`)"
            )

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        write_text(self.path / name, _dumps(tree))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _dumps(tree: Mapping[str, Any]) -> str:
    return dump_json(tree) + "\n"
