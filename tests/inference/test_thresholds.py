"""A threshold from the option or the run's folder to the masks, their records, and what is said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import deconvseg
from consoles import Listening
from deconvseg.data import read_label_map
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate, read_operating_points
from deconvseg.evaluation.threshold import choose_threshold, reset_threshold
from deconvseg.inference import predict
from deconvseg.runs import GRID, Run, read_threshold
from plans import volume_run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, in which a threshold may be chosen."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_label_map(path).pixels for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.85])
def test_the_curve_of_a_run_is_the_evaluation_of_its_masks_at_that_threshold(
    trained: Path, discs: Path, tmp_path: Path, threshold: float
) -> None:
    points = read_operating_points(trained)
    assert points is not None
    splits = {"splits": trained / "splits.json", "split": "val"}
    predict(discs, trained, tmp_path, threshold=threshold, device="cpu", **splits)
    result = evaluate(discs, tmp_path, run=trained, metrics="dice,sensitivity,precision,lesion_f1", **splits)
    (row,) = result.summary["classes"].values()
    (structure,) = points.structures
    curve, place = structure.curve, GRID.index(threshold)
    assert points.cases == len(result.cases) == 2
    for column, key in (("dice", "dsc"), ("mean_sensitivity", "sensitivity"), ("mean_precision", "precision")):
        assert getattr(curve, column)[place] == pytest.approx(row[key]["mean"], abs=1e-12)
    rows = [case.metrics[255] for case in result.cases]
    assert curve.predicted[place] == sum(found["n_prediction"] for found in rows)
    lesion = points.lesion_thresholds.index(threshold)
    for column in ("found", "missed", "false"):
        assert getattr(curve, column)[lesion] == sum(found[f"lesions_{column}"] for found in rows)


def test_a_half_is_the_default_and_more_takes_less(trained: Path, discs: Path, tmp_path: Path) -> None:
    for name, threshold in (("default", None), ("half", 0.5), ("more", 0.9)):
        predict(discs / "images", trained, tmp_path / name, threshold=threshold, device="cpu")
    default, half, more = (pixels(tmp_path / name) for name in ("default", "half", "more"))
    assert all(np.array_equal(default[name], half[name]) for name in default)
    assert all(not ((more[name] > 0) & (default[name] == 0)).any() for name in default)
    assert any((more[name] != default[name]).any() for name in default)


def test_the_chosen_threshold_is_taken_said_and_recorded_until_it_is_reset(
    run: Path, discs: Path, tmp_path: Path
) -> None:
    chosen = choose_threshold(run, best="dice")
    assert read_threshold(run) == chosen
    assert chosen.how == "best Dice of 2 validation cases"
    assert Run.open(run).manifest["files"]["threshold.json"]
    console = Listening()
    done = predict(discs / "images", run, tmp_path / "chosen", console=console, device="cpu")
    assert f"threshold {chosen.threshold:g} (best Dice of 2 validation cases) of {run}" in console.said
    assert done.threshold == done.to_json()["threshold"] == chosen.threshold
    records = [json.loads(line) for line in (tmp_path / "chosen" / "predictions.jsonl").read_text().splitlines()]
    assert {record["threshold"] for record in records} == {chosen.threshold}
    given = predict(discs / "images", run, tmp_path / "given", threshold=chosen.threshold, device="cpu")
    assert given.threshold == chosen.threshold
    assert all(np.array_equal(mask, pixels(tmp_path / "given")[n]) for n, mask in pixels(tmp_path / "chosen").items())
    array = np.zeros((40, 48), np.float32)
    assert np.array_equal(predict(array, run), predict(array, run, threshold=chosen.threshold))
    assert reset_threshold(run)
    assert not reset_threshold(run)
    assert "threshold.json" not in Run.open(run).manifest["files"]
    assert predict(discs / "images" / "disc0.png", run, tmp_path / "reset", device="cpu").threshold is None


def test_an_option_goes_before_what_was_chosen(run: Path, discs: Path, tmp_path: Path) -> None:
    choose_threshold(run, 0.3)
    image, console = discs / "images" / "disc0.png", Listening()
    assert predict(image, run, tmp_path / "a", threshold=0.7, console=console, device="cpu").threshold == 0.7
    assert predict(image, run, tmp_path / "b", threshold="default", console=console, device="cpu").threshold is None
    assert console.said[0] == "threshold 0.7, not the chosen 0.3"
    assert f"the default rule, not the threshold 0.3 (set by hand) of {run}" in console.said


def test_masks_of_another_threshold_are_predicted_again(trained: Path, discs: Path, tmp_path: Path) -> None:
    image = discs / "images" / "disc0.png"
    options = {"skip_existing": True, "device": "cpu"}
    assert predict(image, trained, tmp_path, threshold=0.4, **options).written
    assert predict(image, trained, tmp_path, threshold=0.4, **options).skipped
    again = predict(image, trained, tmp_path, **options)
    assert again.written
    assert "with other options" in again.remarks["disc0"][0]


def test_runs_whose_thresholds_differ_need_one_that_is_given(run: Path, trained: Path, discs: Path) -> None:
    choose_threshold(run, 0.3)
    array = np.zeros((40, 48), np.float32)
    with pytest.raises(InputError, match="their chosen thresholds differ, and none was chosen for their mean"):
        predict(array, [run, trained])
    predict(array, [run, trained], threshold=0.4)


def test_a_threshold_of_other_weights_is_said_to_be_old(run: Path, discs: Path, tmp_path: Path) -> None:
    choose_threshold(run, 0.3)
    opened = Run.open(run)
    opened.save_weights(opened.load_weights("weights_best"))
    opened.save_weights({name: tensor * 0.5 for name, tensor in opened.load_weights().items()})
    done = predict(discs / "images" / "disc0.png", run, tmp_path / "masks", device="cpu")
    assert "its threshold was chosen for other weights than it has now" in done.warnings[0]


@pytest.mark.parametrize(
    "threshold, text",
    [
        (1.5, "`threshold=1.5`: give a number between 0 and 1"),
        ("lots", "`threshold='lots'`"),
        ({"disc": 0.3, "": 0.4}, "`threshold="),
        ({"lesion": 0.3}, "there is no class 'lesion'; the classes are disc"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(trained: Path, threshold: object, text: str) -> None:
    with pytest.raises(InputError, match=text):
        predict(np.zeros((40, 48), np.float32), trained, threshold=threshold)  # type: ignore[call-overload]


def test_what_is_chosen_must_be_one_thing_that_the_run_can_tell(run: Path, tmp_path: Path) -> None:
    for asked in ({}, {"value": 0.3, "best": "dice"}):
        with pytest.raises(InputError, match="a threshold is chosen by one of"):
            choose_threshold(run, **asked)
    with pytest.raises(InputError, match="`sensitivity=1.5`: give a share above 0, up to 1"):
        choose_threshold(run, sensitivity=1.5)
    with pytest.raises(InputError, match="there is no class 'lesion'"):
        choose_threshold(run, {"lesion": 0.3})
    other = volume_run(tmp_path / "untrained")
    with pytest.raises(InputError, match="has no operating_points.json: it has no validation cases"):
        choose_threshold(other, best="dice")
    assert choose_threshold(other, {"a": 0.3}).threshold == {"a": 0.3}
    assert read_threshold(other).threshold == {"a": 0.3}  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["{", '{"threshold": 2.0, "how": ""}', '{"threshold": "x", "how": ""}'])
def test_a_damaged_choice_is_named(run: Path, text: str) -> None:
    (run / "threshold.json").write_text(text)
    with pytest.raises(InputError, match=r"threshold\.json"):
        deconvseg.predict(np.zeros((40, 48), np.float32), run)
