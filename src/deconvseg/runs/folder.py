"""One folder per run, in which a killed process leaves the last good state."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deconvseg.data import atomic_write
from deconvseg.errors import InputError
from deconvseg.planning import Plan, read_plan
from deconvseg.runs.manifest import describe_environment, file_sha256

if TYPE_CHECKING:
    import torch

Weights = Literal["weights", "weights_best"]


class Run:
    """A run folder: plan, configuration, splits, manifest, weights, metrics, validation, report."""

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
        """Make a new run folder with its plan, configuration, splits and manifest; a folder in use is refused."""
        run = cls(path)
        if run.path.exists() and not run.path.is_dir():
            raise InputError(f"{run.path}: is a file; choose another output folder with -o")
        if (run.path / "plan.json").exists():
            raise InputError(
                f"{run.path}: holds a run already; continue it with --resume or choose another folder with -o"
            )
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{run.path}: the folder cannot be made ({error.strerror})") from error
        run._write_json("config.json", config)
        run._write_json("splits.json", splits)
        run._write_json("manifest.json", {**describe_environment(), "files": {}})
        run._write_json("plan.json", plan.model_dump(mode="json"))
        return run

    @classmethod
    def open(cls, path: str | PathLike[str]) -> "Run":
        """Open an existing run folder; :class:`InputError` if there is none."""
        run = cls(path)
        if not (run.path / "plan.json").is_file():
            raise InputError(
                f"{run.path}: not a run folder (no plan.json); give the folder that 'deconvseg train -o' made"
            )
        return run

    @property
    def plan(self) -> Plan:
        """The plan, checked."""
        return read_plan(self.path / "plan.json")

    @property
    def config(self) -> dict[str, Any]:
        """What the user asked for: dataset, splits, fold, seed, device, …"""
        return self._read_json("config.json")

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, machine, command, hashes."""
        return self._read_json("manifest.json")

    @property
    def resume_file(self) -> Path:
        """Everything needed to continue from the last completed epoch: one safetensors file with a JSON header."""
        return self.path / "resume" / "state.safetensors"

    @property
    def cache(self) -> Path:
        """Preprocessed cases, removed when the run is done."""
        return self.path / "cache"

    @property
    def validation(self) -> Path:
        """Predicted validation masks and their metrics."""
        return self.path / "validation"

    def update_manifest(self, **values: Any) -> None:
        """Add entries to the manifest."""
        self._write_json("manifest.json", {**self.manifest, **values})

    def save_weights(self, weights: Mapping[str, "torch.Tensor"], kind: Weights = "weights") -> None:
        """Write weights and their SHA-256 in the manifest, both or neither."""
        from safetensors.torch import save

        name = f"{kind}.safetensors"
        manifest = self.manifest
        # The manifest is replaced right after the weights: nothing slow lies between the two.
        with ExitStack() as stack:
            manifest_file = stack.enter_context(atomic_write(self.path / "manifest.json"))
            file = stack.enter_context(atomic_write(self.path / name))
            tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
            # As bytes, because safetensors' own writing hides what the operating system says of a full disk.
            file.write_bytes(save(tensors, metadata={"format": "pt"}))
            manifest["files"] = {**manifest["files"], name: file_sha256(file)}
            manifest_file.write_text(_dumps(manifest), encoding="utf-8")

    def load_weights(self, kind: Weights = "weights") -> dict[str, "torch.Tensor"]:
        """Read weights, after checking their SHA-256 against the manifest."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path / f"{kind}.safetensors"
        if not path.is_file():
            raise InputError(f"{path}: no weights there; has the training finished its first epoch?")
        try:
            weights: dict[str, torch.Tensor] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path}: not a safetensors file, nothing was loaded (pickled weights are never read): {error}"
            ) from error
        expected = self.manifest.get("files", {}).get(path.name)
        if expected != file_sha256(path):
            raise InputError(
                f"{path}: its SHA-256 is not the one in manifest.json; the file is damaged: copy the run again"
            )
        return weights

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one epoch's metrics to ``metrics.jsonl`` and ``metrics.csv``; a repeated epoch replaces its row."""
        rows = [old for old in self.metrics if old["epoch"] < row["epoch"]] + [dict(row)]
        with atomic_write(self.path / "metrics.jsonl") as path:
            path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        columns = list(dict.fromkeys(key for r in rows for key in r))
        with (
            atomic_write(self.path / "metrics.csv") as path,
            path.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row per epoch."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def finish(self, files: Sequence[str]) -> None:
        """Record the SHA-256 of the given files, those that exist, in the manifest."""
        hashes = {name: file_sha256(self.path / name) for name in files if (self.path / name).is_file()}
        self.update_manifest(files={**self.manifest["files"], **hashes})

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            tree = json.loads((self.path / name).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{self.path / name}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(f"{self.path / name}: not valid JSON ({error})") from error
        if not isinstance(tree, dict):
            raise InputError(f"{self.path / name}: expected a JSON object")
        return tree

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        with atomic_write(self.path / name) as path:
            path.write_text(_dumps(tree), encoding="utf-8")


def _dumps(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
