"""Runs made of weights that were trained elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from deconvseg.planning import Plan
from deconvseg.runs import FOLDS, Run
from deconvseg.system import write_text
from deconvseg.text import dump_json


@dataclass(frozen=True)
class Trained:
    """One trained network.

    Attributes:
        weights: its state dict, in the names of the plan's network.
        best: the weights with the best validation, if there are any.
        origin: what ``config.json`` says about where it comes from.
        metrics: a row of numbers per epoch, each with its number, from 0 on.
        train: the names of its training cases, as far as they are known.
        val: those of its validation cases.

    """

    weights: Mapping[str, Tensor]
    best: Mapping[str, Tensor] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, float | int | None]] = ()
    train: Sequence[str] = ()
    val: Sequence[str] = ()


def write_run(folder: Path, plan: Plan, trained: Trained) -> Run:
    """Write a finished run; :class:`~deconvseg.errors.InputError` for a folder that holds something else."""
    splits = {"train": list(trained.train), "val": list(trained.val), "test": []}
    run = Run.create(folder, plan, {"dataset": plan.dataset, **trained.origin}, splits)
    run.save_weights(trained.weights)
    if trained.best is not None:
        run.save_weights(trained.best, "weights_best")
    if trained.metrics:
        write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in trained.metrics))
    run.record_hashes(finished=True)
    return run


def write_folds(folder: Path, plan: Plan, trained: Sequence[Trained]) -> Run:
    """Make a folder with the runs ``fold_0``, ``fold_1``, … of these networks a finished cross-validation.

    The mean of the runs is predicted, as of folds that were trained here.
    """
    parts = [{"train": list(one.train), "val": list(one.val), "test": []} for one in trained]
    names = dict.fromkeys(name for part in parts for name in (*part["train"], *part["val"]))
    config = {"dataset": plan.dataset, "folds": len(trained)}
    run = Run.create(folder, plan, config, {"train": list(names), "val": [], "test": []})
    write_text(folder / FOLDS, dump_json(parts) + "\n")
    run.record_hashes(finished=True)
    return run
