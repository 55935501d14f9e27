"""The files of a run or of a cross-validation that may leave the computer, written to a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from deconvseg._version import __version__
from deconvseg.data import file_sha256
from deconvseg.errors import InputError
from deconvseg.evaluation import Evaluation, read_evaluation, read_operating_points
from deconvseg.inference import read_postprocessing
from deconvseg.integrations.sharing.naming import CaseNames, splits_of
from deconvseg.integrations.sharing.storing import store_weights
from deconvseg.runs import (
    FOLDS,
    PACKAGE,
    Package,
    PackagedFile,
    Run,
    Score,
    StoredType,
    open_runs,
    package_name,
    read_precision,
    read_threshold,
    record_weights,
)
from deconvseg.system import make_folder, write_text
from deconvseg.text import dump_json

# What a reader of a package needs of the options, and of the manifest.
_OPTIONS = ("image", "mask", "labels", "foreground", "epochs", "max_seconds", "seed", "fold", "folds")
_ORIGIN = ("from", "preset", "trainer", "plans", "configuration", "fold", "mirrored_axes", "checkpoint_sha256")
_PATTERNS = ("image", "mask")
_RECORDED = ("deconvseg", "python", "packages", "machine", "git_commit", "training")
_METRICS = ("dsc", "hd95", "nsd")
_Hashes = Mapping[str | None, str]


def write_package(
    path: Path,
    folder: Path,
    *,
    stored: StoredType = "float32",
    name: str | None = None,
    scored: tuple[Literal["validation", "test"], Evaluation] | None = None,
) -> Package:
    """Write what may be shared of a finished run or cross-validation to an empty folder, and return its description.

    These are plans, the weights that the recipe chooses, metrics of the epochs, and the chosen threshold, precision and
    post-processing. Names of cases, paths, options of the machine and the state for resumption are left out. Weights
    are ``stored`` in another type if asked for, which changes the recorded hashes. ``scored`` are scores in place of
    the run's own, after the name of their cases.
    """
    whole, runs = Run.open(path), open_runs(path)
    for run in runs:
        if not run.finished:
            raise InputError(f"{run.path}: its training did not finish; continue it first (`resume=True`)")
    names = CaseNames.of(whole)
    make_folder(folder)
    folds = whole.holds_folds
    hashes: dict[str | None, str] = {}
    for number, run in enumerate(runs):
        hashes |= _write_run(run, folder / f"fold_{number}" if folds else folder, stored, names)
    if folds:
        _write_settings(whole, folder, names, hashes)
        empty: dict[str, list[str]] = {part: [] for part in ("train", "val", "test")}
        _write_json(folder / FOLDS, [empty] * len(runs))
        _write_manifest(whole, folder, names, {})
    scored_on, found = scored or ("out-of-fold" if folds else "validation", _evaluation(whole))
    package = Package(
        name=package_name(path.absolute().name if name is None else name),
        deconvseg=__version__,
        folds=len(runs) if folds else 0,
        stored=stored,
        cases=_count_cases(whole),
        excluded=len(whole.plan.excluded),
        scored_on=None if found is None else scored_on,
        scores=() if found is None else tuple(scores_of(found)),
        command=_command(whole, names),
        imported=_imported(runs),
        pretrained=any(run.config.get("pretrained") is not None for run in runs),
        files={
            file.relative_to(folder).as_posix(): PackagedFile(bytes=file.stat().st_size, sha256=file_sha256(file))
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        },
    )
    write_text(folder / PACKAGE, package.model_dump_json(indent=2) + "\n")
    return package


def _write_run(run: Run, folder: Path, stored: StoredType, names: CaseNames) -> _Hashes:
    """Write the files of one run; return the new hash of its weights by the old one."""
    recorded = record_weights(run)
    digest = store_weights(run, folder / str(recorded["file"]), stored)
    hashes = {recorded["sha256"]: digest}
    _write_settings(run, folder, names, hashes)
    if run.metrics:
        write_text(folder / "metrics.jsonl", (run.path / "metrics.jsonl").read_text(encoding="utf-8"))
    _write_manifest(run, folder, names, {"weights": {**recorded, "sha256": digest}})
    return hashes


def _write_settings(run: Run, folder: Path, names: CaseNames, hashes: _Hashes) -> None:
    """Write plan, options and what was chosen for a run or a cross-validation, for the new hashes of its weights."""

    def renewed(weights: Sequence[str | None]) -> tuple[str | None, ...]:
        return tuple(hashes.get(digest, digest) for digest in weights)

    _write_json(folder / "plan.json", names.remove_from_plan(run.plan).model_dump(mode="json"))
    options = {key: run.config.get(key) for key in _OPTIONS if key in run.config}
    patterns = {key: names.remove_from_patterns(options[key]) for key in _PATTERNS if key in options}
    _write_json(folder / "config.json", options | patterns | _start(run))
    _write_json(folder / "splits.json", {"train": [], "val": [], "test": []})
    if (threshold := read_threshold(run.path)) is not None:
        how = names.remove(threshold.how)
        threshold.model_copy(update={"how": how, "weights": renewed(threshold.weights)}).write(folder)
    if (precision := read_precision(run.path)) is not None:
        why = names.remove(precision.why)
        precision.model_copy(update={"why": why, "weights": renewed(precision.weights)}).write(folder)
    if (steps := read_postprocessing(run.path)).steps:
        steps.model_copy(update={"weights": renewed(steps.weights)}).write(folder)
    if (points := read_operating_points(run.path)) is not None:
        doubts = {str(number): doubt for number, doubt in enumerate(sorted(points.doubts.values()), 1)}
        points.model_copy(update={"doubts": doubts, "left_out": ()}).write(folder)


def _write_manifest(run: Run, folder: Path, names: CaseNames, further: Mapping[str, Any]) -> None:
    known = run.manifest
    kept = {key: known[key] for key in _RECORDED if key in known}
    files = {file.name: file_sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}
    _write_json(
        folder / "manifest.json",
        {**kept, "command": _command(run, names), **further, "files": files, "finished": True},
    )


def _write_json(path: Path, tree: Any) -> None:
    write_text(path, dump_json(tree) + "\n")


def _count_cases(run: Run) -> dict[Any, int]:
    return {key: len(part) for key, part in splits_of(run).items()}


def _command(run: Run, names: CaseNames) -> str | None:
    """Return the command that trained a run, without paths and names of cases."""
    command = run.manifest.get("command")
    if not isinstance(command, str) or _imported(open_runs(run.path)) is not None:
        return None
    return names.remove_from_command(command)


def _start(run: Run) -> dict[str, Any]:
    """Return what the options say of the origin of the weights, without names of files."""
    start: dict[str, Any] = {}
    if (origin := run.config.get("imported")) is not None:
        start["imported"] = {key: origin[key] for key in _ORIGIN if key in origin}
    if run.config.get("pretrained") is not None:
        # The path is left out; that the training began with other weights is not.
        start["pretrained"] = "…"
    return start


def _imported(runs: Sequence[Run]) -> dict[Any, str] | None:
    """Return where imported weights come from, with the hashes of all checkpoints; None for other runs."""
    origins = [origin for run in runs if (origin := run.config.get("imported")) is not None]
    if not origins:
        return None
    hashes = " ".join(str(origin["checkpoint_sha256"]) for origin in origins if "checkpoint_sha256" in origin)
    found = {"origin": origins[0].get("from", "another program"), "preset": origins[0].get("preset"), "sha256": hashes}
    return {key: str(value) for key, value in found.items() if value}


def _evaluation(run: Run) -> Evaluation | None:
    """Return the metrics of the validation cases, or of the out-of-fold predictions; None without any."""
    file = run.path / "crossval.json" if run.holds_folds else run.validation / "metrics.json"
    return read_evaluation(file) if file.is_file() else None


def scores_of(found: Evaluation) -> list[Score]:
    """Return the mean Dice, HD95 and NSD of each counted class and of the mean over classes."""
    summary = found.summary
    rows = [row for row in summary["classes"].values() if row["counted"]]
    rows += [{**summary["mean"], "name": "mean over classes"}] if len(rows) > 1 else []
    metrics = [metric for metric in found.shown_metrics if metric.key in _METRICS]
    return [
        Score(
            metric=metric.head(found.distance_unit),
            structure=row["name"],
            mean=row[metric.key]["mean"],
            ci95=None if row[metric.key]["ci95"] is None else tuple(row[metric.key]["ci95"]),
            cases=row[metric.key]["cases"],
        )
        for row in rows
        for metric in metrics
        if row.get(metric.key) is not None and row[metric.key]["mean"] is not None
    ]
