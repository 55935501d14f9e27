"""Paired differences equal SciPy's tests and what is computed by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deconvseg.evaluation import compare_paired, correct_holm

SCORES = st.lists(st.tuples(*[st.integers(0, 100).map(lambda value: value / 100)] * 2), min_size=2, max_size=25)


@given(SCORES)
@settings(deadline=None, max_examples=25)
def test_p_is_scipys_and_counts_are_by_hand(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    found = compare_paired(first, second)
    difference = np.subtract(second, first)
    assert found.n == len(pairs)
    assert found.mean == pytest.approx(difference.mean())
    assert (found.better, found.worse, found.equal) == tuple(
        int(np.sum(condition)) for condition in (difference > 0, difference < 0, difference == 0)
    )
    assert found.p == (pytest.approx(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0)
    assert found.ci95[0] <= found.mean + 1e-9
    assert found.mean <= found.ci95[1] + 1e-9


def test_the_interval_is_scipys_percentile_bootstrap():
    rng = np.random.default_rng(0)
    first = rng.uniform(0.5, 0.9, 30)
    second = first + rng.normal(0.03, 0.05, 30)
    found = compare_paired(first.tolist(), second.tolist())
    expected = stats.bootstrap(
        (second - first,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.ci95 == pytest.approx((expected.low, expected.high), abs=1e-3)


@pytest.mark.parametrize(("better", "counts"), [("higher", (1, 2)), ("lower", (2, 1)), ("zero", (1, 2))])
def test_better_is_what_the_metric_calls_so(better, counts):
    found = compare_paired([0.0, -1.0, 2.0], [1.0, -2.0, 1.0], better)
    assert (found.better, found.worse) == counts


def test_cases_without_a_value_in_one_of_both_are_left_out():
    found = compare_paired([0.5, np.nan, 0.6, 0.7], [0.6, 0.9, np.nan, 0.7])
    assert (found.n, found.mean) == (2, pytest.approx(0.05))
    nothing = compare_paired([np.nan], [0.5])
    assert (nothing.n, nothing.mean, nothing.ci95, nothing.p) == (0, None, None, None)
    one = compare_paired([0.4], [0.5])
    assert (one.n, one.mean, one.ci95, one.p) == (1, pytest.approx(0.1), None, None)


def test_order_turns_the_sign_alone():
    first, second = [0.5, 0.6, 0.8, 0.4], [0.7, 0.5, 0.9, 0.6]
    there, back = compare_paired(first, second), compare_paired(second, first)
    assert there.mean == pytest.approx(-back.mean)
    assert there.p == back.p
    assert (there.better, there.worse) == (back.worse, back.better)


def test_holm_by_hand():
    # Holm 1979: 4 tests, ordered 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone.
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.9, None, 0.6]) == [1.0, None, 1.0]
    assert correct_holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p_values):
    corrected = correct_holm(p_values)
    for value, found in zip(p_values, corrected, strict=True):
        assert value <= found <= min(1.0, len(p_values) * value) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
