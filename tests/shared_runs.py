"""Runs that tests share with others: folders made of one trained run."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deconvseg.errors import DeconvsegError
from deconvseg.runs import Run

#: Names of cases that a dataset of patients could have.
PATIENTS = ("Doe_John_19500101", "Smith-Jane")


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def copy_with_patients(run: Path, target: Path) -> Path:
    """A copy of a run whose every file that can name a case names patients."""
    shutil.copytree(run, target)
    john, jane = PATIENTS
    plan = json.loads((target / "plan.json").read_text())
    edit_json(
        target / "plan.json",
        excluded={jane: f"the scan of {jane} is empty"},
        warnings=[f"{john} has another spacing"],
        reasons=plan["reasons"] | {"spacing": f"that of {john}"},
        chosen=plan["chosen"] | {"excluded": [jane]},
    )
    edit_json(target / "splits.json", train=[john], val=[jane], test=[])
    edit_json(
        target / "config.json",
        exclude=[jane],
        dataset="/home/me/study",
        image=[f"{john}.png"],
        cache="/tmp/me/cache",
    )
    manifest = json.loads((target / "manifest.json").read_text())
    edit_json(
        target / "manifest.json",
        data={f"images/{john}.png": "0" * 64},
        command=f"deconvseg train study --exclude {jane}",
        weights=manifest["weights"],
    )
    points = json.loads((target / "operating_points.json").read_text())
    edit_json(
        target / "operating_points.json",
        doubts=dict(zip(PATIENTS, points["doubts"].values(), strict=True)),
        left_out=[f"{jane}: too large"],
    )
    return target


def fold(run: Path, target: Path, folds: int = 2) -> Path:
    """A finished cross-validation, each fold of which is the same run."""
    target.mkdir()
    for name in ("plan.json", "config.json", "splits.json", "operating_points.json", "manifest.json"):
        shutil.copy(run / name, target / name)
    for number in range(folds):
        shutil.copytree(run, target / f"fold_{number}")
    names = json.loads((run / "splits.json").read_text())
    (target / "splits_final.json").write_text(json.dumps([names] * folds))
    return target


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trainings fail when they write the row of their second epoch."""
    append = Run.append_metrics

    def full(self: Run, row: Mapping[str, Any]) -> None:
        if row["epoch"] == 1:
            raise DeconvsegError("the disk is full")
        append(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "append_metrics", full)
        with pytest.raises(DeconvsegError, match="the disk is full"):
            yield
