"""The first screen of a report, its advice, and charts on a dark screen."""

import base64
from pathlib import Path
from typing import Any

import pytest

from deconvseg.reporting.overview import advise, tell_how_made, training_seconds
from deconvseg.reporting.records import EvaluationRecord, RunRecord
from deconvseg.reporting.style import INK, figure_uri, new_figure, style_axes


def run(path: Path = Path("run"), dices: tuple[float, ...] = (), **parts: Any) -> RunRecord:
    rows = [{"epoch": e, "seconds": 30.0 * e + 30, "val_dice": dice} for e, dice in enumerate(dices)]
    splits = {"train": ["a"] * 7, "val": ["b"] * 3, "test": parts.pop("test", [])}
    return RunRecord(path, parts.pop("plan", {}), {}, {}, rows, [], splits, parts.pop("folds", ()))


def evaluation(missed: int = 0, cases: int = 50, **tree: Any) -> tuple[EvaluationRecord, dict[str, Any]]:
    counts = {"missed": missed, "with_truth_masks": 2 * cases, "evaluated": cases}
    record = EvaluationRecord(Path("metrics.json"), "Validation", {"counts": counts, **tree}, ())
    return record, {"anchor": "evaluation-1", "panels": [{}], "counts": counts}


def advice(record: RunRecord, *evaluations: tuple[EvaluationRecord, dict[str, Any]]) -> dict[str, dict[str, str]]:
    found = advise(record, [first for first, _ in evaluations], [second for _, second in evaluations])
    return {step["what"]: step for step in found}


def test_a_sentence_says_what_was_trained_on_what_and_for_how_long():
    plan = {"model": {"name": "deconver"}, "spatial_dims": 3, "dataset": "liver", "channels": [{"name": "CT"}]}
    text = tell_how_made(run(dices=(0.1, 0.2), plan=plan))
    assert text == "deconver in 3D, trained on liver (image channels: CT), 7 training cases, in 1 min 0 s."
    assert tell_how_made(RunRecord(Path("x"), {}, {}, {}, [], [])) == "A network."


def test_the_time_of_a_cross_validation_is_that_of_its_folds():
    folds = [[{"epoch": 0, "seconds": 10.0}, {"epoch": 1, "seconds": 25.0}], [{"epoch": 0, "seconds": 7.0}], []]
    assert training_seconds(run(folds=folds)) == 32.0


class TestAdvice:
    def test_always_the_worst_cases_first_and_new_scans_last(self):
        steps = list(advice(run(), evaluation()))
        assert steps == ["Look at the worst cases.", "Predict new scans."]

    @pytest.mark.parametrize(
        ("dices", "longer"),
        [((0.1, 0.2, 0.3, 0.4), True), ((0.1, 0.4, 0.3, 0.3), False), ((0.1, 0.2), False), ((), False)],
    )
    def test_train_longer_where_the_best_dice_came_last(self, dices, longer):
        assert ("Train longer." in advice(run(dices=dices), evaluation())) == longer

    def test_held_out_cases_until_they_are_evaluated(self):
        held = run(test=["x", "y"])
        step = "Evaluate the 2 held-out cases."
        assert step in advice(held, evaluation())
        assert step not in advice(held, evaluation(split="test"), evaluation())

    def test_cross_validation_for_few_cases(self):
        assert "Cross-validate." in advice(run(), evaluation(cases=5))
        assert "Cross-validate." not in advice(run(), evaluation(cases=20))
        assert "Cross-validate." not in advice(run(folds=[[]]), evaluation(cases=5))

    def test_a_lower_threshold_where_structures_are_missed_and_it_was_measured(self, tmp_path):
        step = "3 of 100 structures were missed."
        assert "command" not in advice(run(tmp_path), evaluation(3))[step]
        (tmp_path / "operating_points.json").write_text("{}")
        assert advice(run(tmp_path), evaluation(3))[step]["command"] == "threshold"


def test_lines_and_letters_of_a_chart_follow_the_readers_screen():
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.scatter([0, 1], [0, 1], color="#56b4e9")
    style_axes(axes, "Title", "x")
    svg = base64.b64decode(figure_uri(figure).split(",")[1]).decode()
    body = svg.split("</style>", 1)[1]
    assert "prefers-color-scheme:dark" in svg
    assert INK not in body
    assert "var(--ink0)" in body
    assert "#56b4e9" in body
