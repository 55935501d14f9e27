"""How often and on how many cases a planned training validates."""

import math
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import open_dataset, resolve_splits
from deconvseg.inference.tiling import window_starts
from deconvseg.planning import Recipe, StepCost, explain, make_plan
from deconvseg.planning.validation import VALIDATION_SHARE, ValidationCost, count_windows, plan_validation


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 64)), min_size=1, max_size=3), st.floats(0, 0.9))
def test_windows_are_counted_as_they_are_laid(axes: list[tuple[int, int]], overlap: float) -> None:
    shape, window = zip(*axes, strict=True)
    laid = math.prod(len(window_starts(size, side, overlap)) for size, side in axes)
    assert count_windows(shape, window, overlap) == laid


@given(
    epochs=st.integers(1, 200),
    cases=st.integers(1, 30),
    seconds=st.floats(1e-3, 1e4),
    epoch_seconds=st.floats(0.1, 1e3),
    processes=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_validations_take_their_share_at_most_unless_one_case_takes_more(
    epochs: int, cases: int, seconds: float, epoch_seconds: float, processes: int
) -> None:
    cost = ValidationCost(1, seconds, processes)
    planned = plan_validation(Recipe(epochs=epochs), cases, epoch_seconds, cost)
    assert 1 <= planned.validation_cases <= 12
    once = cost.once(min(cases, planned.validation_cases))
    share = VALIDATION_SHARE * epochs * epoch_seconds
    assert epochs // planned.validate_every * once <= share * (1 + 1e-6) or once == seconds >= share
    usual = min(4, epochs)
    if usual * VALIDATION_SHARE * epoch_seconds > 1.001 * cost.once(min(cases, 12)):
        assert (planned.validate_every, planned.validation_cases) == (usual, 12)


@given(cases=st.integers(1, 500), seconds=st.floats(1e-3, 1e4), epochs=st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_validations_that_select_the_weights_are_of_all_cases_and_become_rarer_only(
    cases: int, seconds: float, epochs: int
) -> None:
    recipe = Recipe(epochs=epochs, weights="best")
    planned = plan_validation(recipe, cases, 10.0, ValidationCost(1, seconds))
    assert planned.count_validated(cases) == cases
    assert Recipe().count_validated(cases) == min(cases, 12)
    assert planned == recipe.model_copy(update={"validate_every": planned.validate_every})
    assert 1 <= planned.validate_every <= epochs


def test_large_cases_are_validated_rarely_and_few_of_them() -> None:
    shape, patch, step = (512, 512, 300), (50, 50, 32), 4.5
    cost = ValidationCost.of([shape], patch, 0.5, patch_seconds=step / 2)
    assert cost.windows > 6000
    planned = plan_validation(Recipe(epochs=20, steps_per_epoch=7), 20, 7 * step, cost)
    assert (planned.validation_cases, planned.validate_every) == (1, 20)


def test_a_plan_says_what_validation_takes_and_warns_where_it_takes_too_long(balls: Path) -> None:
    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)

    def slow(*_: object, **__: object) -> StepCost:
        return StepCost(seconds=3.0, base=1, memory=1, inference=1, parameters=1)

    usual, finer = (
        make_plan(data, parts, device="cpu", memory=8 << 30, seconds=300, measure=slow, dims=dims) for dims in (3, 2)
    )
    assert "1 case, 1 window, about 1 s a case" in usual.reasons["recipe.validate_every"]
    # A window for each of the 12 slices.
    assert "12 windows, about" in finer.reasons["recipe.validate_every"]
    best = make_plan(
        data, resolve_splits(data, None, fold="all"), device="cpu", memory=8 << 30, seconds=300, measure=slow,
        values={"recipe.weights": "best"},
    )  # fmt: skip
    assert "about 1 case, all because they select the weights" in best.reasons["recipe.validate_every"]
    assert "every 4 epochs; it selects the weights" in str([section.rows for section in explain(best)])
    assert usual.recipe.validate_every == 4
    assert not [warning for warning in usual.warnings if "a validation" in warning or "predicting" in warning]
    hurried, selecting = (
        make_plan(data, parts, device="cpu", memory=8 << 30, seconds=1, measure=slow, dims=2, values=values)
        for values in ({}, {"recipe.weights": "best"})
    )
    assert any("is cut short, without a score" in warning for warning in hurried.warnings)
    assert any("limited to 1 s ends after the first, which is finished" in warning for warning in hurried.warnings)
    assert "cut short" not in str(selecting.warnings)
    assert any(
        warning.startswith(
            "the first validation takes about 12 s (1 case, 12 windows, about 12 s a case) and is finished"
        )
        for warning in selecting.warnings
    )
    assert any("predicting the 1 validation case after the training" in warning for warning in hurried.warnings)


def test_reasons_state_the_case_at_hand(balls: Path) -> None:
    """The number of validated cases, why the batch is small, and that the fastest network was taken."""
    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)

    def slow(*_: object, **__: object) -> StepCost:
        return StepCost(seconds=3.0, base=1, memory=1, inference=1, parameters=1)

    plan = make_plan(data, parts, device="cpu", memory=8 << 30, seconds=10, measure=slow)
    choices = {section.title: section.rows for section in explain(plan)}["Choices"]
    found = {name.strip(): (value, why) for name, value, why in choices}
    assert found["validation"][0].startswith("every ")
    assert "cases at most" not in str(found)
    assert re.match(r"1 case, \d+ windows?, ", found["validation"][1])
    assert re.fullmatch(r"fewer than the usual \d+ on this device, .* is too slow", found["batch"][1])
    assert "so the fastest of" in found["network"][1]
    (warning,) = [text for text in plan.warnings if text.startswith("the plan's")]
    assert "limited to 10 s ends after about 2 of them; allow " in warning
