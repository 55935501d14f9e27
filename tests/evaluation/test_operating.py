"""Operating points are what the evaluator says of the masks at each threshold."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from deconvseg.errors import InputError
from deconvseg.evaluation import (
    OperatingPoints,
    PointsTally,
    choose_thresholds,
    evaluate_masks,
    mark_row,
    merge_operating_points,
    read_operating_points,
    table_rows,
)
from deconvseg.evaluation.lesions import LesionRule
from deconvseg.evaluation.operating import LESION_PLACES
from deconvseg.runs import GRID

Case = tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
METRICS = ("sensitivity", "precision", "lesion_f1")


def make_case(seed: int, *, empty: bool = False, certain: bool = False) -> Case:
    """Blobs of truth, smooth levels about them, and a mask of the default."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    truth = np.zeros((16, 18, 6), bool) if empty else gaussian_filter(rng.normal(size=(16, 18, 6)), 1.2) > 0.18
    noise = gaussian_filter(rng.normal(size=truth.shape), 1.0)
    levels = np.zeros(truth.shape) if certain else 99 / (1 + np.exp(-4 * (truth - 0.6) - 6 * noise))
    levels = np.rint(levels).astype(np.uint8)
    return truth, levels, levels > 49


CASES = [
    make_case(0),
    make_case(1),
    make_case(2, empty=True),
    make_case(3, empty=True, certain=True),
    make_case(4, certain=True),
]


def points_of(cases: list[Case], name: str = "lesion") -> OperatingPoints:
    tally = PointsTally(name, at_half=True)
    for case in cases:
        tally.add(*case, LesionRule())
    return OperatingPoints(cases=len(cases), structures=(tally.finish(),))


def evaluated(cases: list[Case], place: int) -> list[dict[str, float]]:
    rows = []
    for truth, levels, _ in cases:
        mask = (levels > place).astype(np.uint8)
        found = evaluate_masks(truth.astype(np.uint8), mask, {1: "lesion"}, spacing=(1, 1, 1), metrics=METRICS)
        rows.append(found[1])
    return rows


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.35, 0.5, 0.8, 0.95, 0.99])
def test_curves_are_the_evaluators_figures_at_that_threshold(threshold: float) -> None:
    place = GRID.index(threshold)
    curve = points_of(CASES).structures[0].curve
    rows = evaluated(CASES, place)
    for column, key in (("dice", "dsc"), ("mean_sensitivity", "sensitivity"), ("mean_precision", "precision")):
        assert getattr(curve, column)[place] == pytest.approx(np.mean([row[key] for row in rows]), abs=1e-12)
    truth, predicted, common = (sum(row[key] for row in rows) for key in ("n_truth", "n_prediction", "tp"))
    assert (curve.truth, curve.predicted[place], curve.common[place]) == (truth, predicted, common)
    if place in LESION_PLACES:
        lesion = LESION_PLACES.index(place)
        for column in ("found", "missed", "false"):
            assert getattr(curve, column)[lesion] == sum(row[f"lesions_{column}"] for row in rows)


def test_the_default_is_the_mask_without_a_threshold() -> None:
    structure = points_of(CASES).structures[0]
    place = GRID.index(0.5)
    assert structure.default.dice[0] == structure.curve.dice[place]
    assert structure.default.common[0] == structure.curve.common[place]
    assert structure.default.false[0] == structure.curve.false[LESION_PLACES.index(place)]
    assert structure.cases_with_truth == 3
    assert structure.many_lesions


def test_pooled_sensitivity_falls_and_counts_of_voxels_too() -> None:
    curve = points_of(CASES).structures[0].curve
    assert list(curve.sensitivity) == sorted(curve.sensitivity, reverse=True)
    assert list(curve.predicted) == sorted(curve.predicted, reverse=True)


def test_folds_joined_are_their_cases_together(tmp_path: Path) -> None:
    joined = merge_operating_points([points_of(CASES[:2]), points_of(CASES[2:])])
    whole = points_of(CASES)
    assert (joined.source, joined.cases) == ("out-of-fold", 5)
    for one, other in zip(joined.structures, whole.structures, strict=True):
        assert one.curve.dice == pytest.approx(other.curve.dice)
        assert one.model_dump(include={"cases_with_truth"}) == other.model_dump(include={"cases_with_truth"})
        assert one.curve.false == other.curve.false
        assert one.curve.sensitivity == other.curve.sensitivity
    joined.write(tmp_path)
    assert read_operating_points(tmp_path) == joined


def test_a_threshold_is_chosen_by_dice_or_by_how_much_is_found() -> None:
    points = points_of(CASES)
    curve = points.structures[0].curve
    best = choose_thresholds(points, ["lesion"], "dice")["lesion"]
    assert curve.dice[GRID.index(best)] == max(curve.dice)
    wanted = 0.4
    found = choose_thresholds(points, ["lesion"], "sensitivity", wanted)["lesion"]
    assert curve.sensitivity[GRID.index(found)] >= wanted > curve.sensitivity[GRID.index(found) + 1]
    by_lesions = choose_thresholds(points, ["lesion"], "lesion_sensitivity", 0.4)["lesion"]
    assert curve.lesion_sensitivity[points.lesion_thresholds.index(by_lesions)] >= 0.4
    with pytest.raises(
        InputError, match=r"lesion: no threshold has a sensitivity of 0.999 on these cases; the highest is"
    ):
        choose_thresholds(points, ["lesion"], "sensitivity", 0.999)
    with pytest.raises(InputError, match="there is no class 'tumour'; the classes are lesion"):
        choose_thresholds(points, ["tumour"], "dice")


def test_a_table_has_the_default_the_tenths_and_the_best() -> None:
    points = points_of(CASES)
    rows = table_rows(points, points.structures[0])
    assert [row["threshold"] for row in rows if not row["best"] or row["threshold"] in GRID[9::10]] == [
        None, *GRID[9::10]
    ]  # fmt: skip
    assert sum(row["best"] for row in rows) == 1
    assert max(row["dice"] for row in rows) == max(points.structures[0].curve.dice)


@pytest.mark.parametrize(("own", "row", "remark"), [
    (0.3, 0.3, "chosen"), (0.333, 0.33, "nearest to the chosen 0.333"), (0.001, 0.01, "nearest to the chosen 0.001"),
])  # fmt: skip
def test_a_threshold_between_the_measured_ones_is_marked_at_the_nearest(own: float, row: float, remark: str) -> None:
    points = points_of(CASES)
    marked = [found for found in table_rows(points, points.structures[0], [own]) if "chosen" in mark_row(found)]
    assert [found["threshold"] for found in marked] == [row]
    assert mark_row(marked[0]).endswith(remark)


@pytest.mark.parametrize("damage", ["{", "[]", '{"cases": 3}', '{"cases": 1, "thresholds": [0.5], "structures": []}'])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    points_of(CASES).write(tmp_path)
    file = tmp_path / "operating_points.json"
    text = file.read_text()
    file.write_text(text.replace('"thresholds":[0.01,', '"thresholds":[') if "0.5" in damage else damage)
    with pytest.raises(InputError, match="operating_points.json"):
        read_operating_points(tmp_path)
    assert read_operating_points(tmp_path / "none") is None
