"""Damaged records of masks and scores are refused by name or passed over; no other exception comes of them."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from deconvseg.data import Case
from deconvseg.evaluation import evaluate
from deconvseg.evaluation.merging import read_evaluation
from deconvseg.inference.records import PREDICTIONS, Record, Records, states_of
from deconvseg.reporting.records import read_evaluation as read_for_report
from mutations import foreign_failures, mutate_bytes, mutate_json

pytestmark = pytest.mark.faults


def masks(folder: Path) -> Path:
    folder.mkdir()
    for number in range(2):
        mask = np.zeros((12, 10), np.uint8)
        mask[2 : 6 + number, 3:8] = 255
        PIL.Image.fromarray(mask).save(folder / f"c{number}.png")
    return folder


def test_damaged_metrics_raise_our_own_error(tmp_path: Path) -> None:
    evaluate(masks(tmp_path / "predicted"), masks(tmp_path / "true"), output=tmp_path / "scores")
    path = tmp_path / "scores" / "metrics.json"
    mutants = mutate_json(json.loads(path.read_text()), 150, seed=3)

    def read() -> None:
        evaluation = read_evaluation(path)
        evaluation.to_json()
        evaluation.to_nnunet(None)

    read()
    assert foreign_failures(read, path, mutants) == []
    assert foreign_failures(lambda: read_for_report(path, tmp_path), path, mutants) == []


def test_damaged_lines_of_predictions_are_passed_over(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks")
    cases = [Case(name, (folder / f"{name}.png",), None) for name in ("c0", "c1")]
    records = Records(folder)
    for case in cases:
        records.add(Record(f"{case.name}.png", "0", "1", states_of(case), False))
    path = folder / PREDICTIONS
    lines = path.read_bytes().splitlines()
    for mutant in mutate_json(json.loads(lines[0]), 150, seed=4) + mutate_bytes(path.read_bytes(), 80, seed=5):
        path.write_bytes(mutant.content.replace(b"\n", b" ") + b"\n" + lines[1] + b"\n")
        assert Records(folder)[folder / "c1.png"] is not None, mutant.name
