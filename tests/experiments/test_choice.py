"""Post-processing is chosen where held-out predictions get better by it, and only there."""

import numpy as np
import pytest

from deconvseg.data import Geometry, LabelMap, Region
from deconvseg.experiments import HeldOutCase, choose_postprocessing
from deconvseg.experiments.postprocessing import _Choice
from deconvseg.inference import apply

ORGAN, LESION = Region("organ", (1,), 1), Region("lesion", (2,), 2)
NESTED = (Region("whole", (1, 2), 1), Region("core", (2,), 2))


def truth(seed, lesion=True):
    """A disc of random place and size with a lesion in it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :56]
    centre, radius = rng.uniform(18, 28, 2), rng.uniform(9, 14)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    return np.where(distance < radius, np.where(distance < 3.5, 2 if lesion else 1, 1), 0).astype(np.uint8)


def held_out(pairs, spacing=1.0):
    geometry = Geometry(np.diag([spacing, spacing, 1.0]))
    return [
        HeldOutCase.pack(LabelMap(mask, geometry), LabelMap(prediction, geometry), fold=number % 3)
        for number, (mask, prediction) in enumerate(pairs)
    ]


def with_islands(mask, value=1, size=4):
    prediction = mask.copy()
    prediction[44 : 44 + size, 48 : 48 + size] = value
    return prediction


def names(postprocessing):
    return [(step.structure, step.step) for step in postprocessing.steps]


@pytest.mark.parametrize("structures", [(ORGAN, LESION), NESTED])
def test_none_for_perfect_predictions(structures):
    cases = held_out([(truth(n), truth(n)) for n in range(6)])
    chosen = choose_postprocessing(cases, structures)
    assert chosen.steps == ()
    assert chosen.trials
    assert not any(trial.taken for trial in chosen.trials)
    assert all(before == after == 1 for before, after in chosen.by_other_folds.values())


def test_islands_are_removed_and_all_predictions_become_perfect():
    cases = held_out([(truth(n), with_islands(truth(n))) for n in range(6)])
    chosen = choose_postprocessing(cases, (ORGAN, LESION))
    assert names(chosen)[0][1] in ("keep_largest", "remove_small")
    for case in cases:
        assert np.array_equal(apply(chosen, case.prediction).pixels, case.truth.pixels)
    assert chosen.by_other_folds["organ"][0] < 0.99
    assert chosen.by_other_folds["organ"][1] == 1
    assert chosen.by_other_folds["lesion"] == (1, 1)


def test_classes_that_no_mask_has_do_not_dilute_what_a_step_gains():
    cases = held_out([(truth(n), with_islands(truth(n), size=2)) for n in range(6)])
    absent = tuple(Region(f"organ {value}", (value,), value) for value in range(3, 60))
    few, many = (choose_postprocessing(cases, (ORGAN, LESION, *more)) for more in ((), absent))
    (before, after), (same_before, same_after) = (
        next((t.dice_before, t.dice_after) for t in chosen.trials if t.structure == "all foreground")
        for chosen in (few, many)
    )
    assert (same_before, same_after) == (before, after)
    assert names(many) == names(few) != []
    assert many.by_other_folds == few.by_other_folds


def test_small_islands_go_where_true_structures_are_several():
    pairs = []
    for seed in range(6):
        mask = (truth(seed) > 0).astype(np.uint8)
        mask[2:9, 45:52] = 1
        pairs.append((mask, with_islands(mask, size=2)))
    chosen = choose_postprocessing(held_out(pairs, spacing=2.0), (ORGAN,))
    (step,) = chosen.steps
    assert step.step == "remove_small"
    assert 4 * 4 < step.minimum_volume <= 49 * 4


def test_holes_are_filled():
    pairs = []
    for seed in range(6):
        mask = truth(seed, lesion=False)
        prediction = mask.copy()
        rows, columns = np.argwhere(mask).mean(0).astype(int)
        prediction[rows : rows + 3, columns : columns + 3] = 0
        pairs.append((mask, prediction))
    assert names(choose_postprocessing(held_out(pairs), (ORGAN,))) == [("organ", "fill_holes")]


def test_one_case_alone_decides_nothing():
    pairs = [(truth(n), truth(n)) for n in range(5)] + [(truth(5), with_islands(truth(5), size=6))]
    assert choose_postprocessing(held_out(pairs), (ORGAN, LESION)).steps == ()


def test_what_helps_some_cases_and_harms_more_is_left_alone():
    pairs = [(truth(n), with_islands(truth(n))) for n in range(2)]
    for seed in range(2, 6):
        mask = with_islands(truth(seed), size=3)
        pairs.append((mask, mask))
    assert choose_postprocessing(held_out(pairs), (ORGAN, LESION)).steps == ()


def test_masks_emptied_where_nothing_is_do_not_make_up_for_lesions_that_are_lost():
    nothing = np.zeros((48, 56), np.uint8)
    pairs = [(nothing, with_islands(nothing, size=4)) for _ in range(9)]
    for length in (4, 6, 7):
        mask = nothing.copy()
        mask[20:23, 20 : 20 + length] = 1
        mask[10:40, 5:8] = 1
        pairs.append((mask, mask))
    chosen = choose_postprocessing(held_out(pairs), (ORGAN,))
    assert any(trial.dice_after > trial.dice_before + 0.5 for trial in chosen.trials)
    assert chosen.steps == ()
    before, after = chosen.with_truth_by_other_folds["organ"]
    assert before == 1 > after


def test_regions_are_kept_inside_the_region_around_them():
    pairs = [(truth(n), with_islands(truth(n), value=2)) for n in range(6)]
    chosen = choose_postprocessing(held_out(pairs), NESTED)
    assert names(chosen)[0][0] == "whole"
    assert not any(step.structure == "all foreground" for step in chosen.steps)
    for case in held_out(pairs):
        assert np.array_equal(apply(chosen, case.prediction).pixels, case.truth.pixels)


def test_regions_with_masks_of_their_own_are_scored_by_these():
    """Islands of a part outside the regions around it enlarge no region but its own."""
    cases = []
    for number in range(6):
        true = truth(number)
        regions = [np.isin(true, region.labels) for region in NESTED]
        island = with_islands(np.zeros_like(true), value=2) > 0
        regions[-1] = regions[-1] | island
        painted = np.where(island, 2, true).astype(np.uint8)
        maps = [LabelMap(pixels, Geometry.identity(2)) for pixels in (true, painted)]
        cases.append(HeldOutCase.pack(*maps, number % 3, regions))
        kept = cases[-1].regions
        assert [mask.sum() for mask in kept] == [region.sum() for region in regions]
        assert np.array_equal((kept > 0).any(0), cases[-1].prediction.pixels > 0)
    chosen = choose_postprocessing(cases, NESTED)
    assert {step.structure for step in chosen.steps} == {NESTED[-1].name}
    first = next(trial for trial in chosen.trials if trial.structure == NESTED[0].name)
    assert first.dice_before == 1


def test_what_the_cases_of_other_folds_would_not_choose_is_dropped():
    """Islands in one fold alone: the others choose nothing for it."""
    pairs = [(truth(n), with_islands(truth(n)) if n % 3 == 0 else truth(n)) for n in range(9)]
    chosen = choose_postprocessing(held_out(pairs), (ORGAN, LESION))
    assert any(trial.taken for trial in chosen.trials)
    assert chosen.steps == ()
    assert chosen.by_other_folds["organ"][0] == chosen.by_other_folds["organ"][1] < 1


def test_what_other_folds_choose_does_not_depend_on_the_cases_left_out():
    """Not on the sizes of their true components either, though these are candidates for the smallest volume."""
    pairs = [(truth(n), with_islands(truth(n), size=3 + n % 2)) for n in range(9)]
    for number in range(0, 9, 3):
        mask = (truth(number) > 0).astype(np.uint8)
        mask[1, 1 : 2 + number] = 1
        pairs[number] = (mask, with_islands(mask))
    cases = held_out(pairs)
    others = [index for index, case in enumerate(cases) if case.fold != 0]
    alone = _Choice([cases[index] for index in others], (ORGAN, LESION)).choose(range(len(others)))
    assert alone == _Choice(cases, (ORGAN, LESION)).choose(others)
    assert alone.trials != _Choice(cases, (ORGAN, LESION)).choose(range(len(cases))).trials


def test_empty_masks_and_other_values_survive_packing():
    geometry = Geometry(np.diag([1.0, 1.0, 1.0]))
    empty = np.zeros((5, 6), np.int16)
    other = empty.copy()
    other[2:4, 1:5] = 300
    case = HeldOutCase.pack(LabelMap(empty, geometry), LabelMap(other, geometry), 0)
    assert not case.truth.pixels.any()
    assert case.prediction.pixels.tolist() == [[300] * 4] * 2
    both = HeldOutCase.pack(LabelMap(empty, geometry), LabelMap(empty, geometry), 0)
    region = Region("x", (300,), 300)
    assert choose_postprocessing([both, both], (region,)).steps == ()
