"""Cases whose names agree in a pattern stay together."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import (
    Case,
    Dataset,
    check_dataset,
    find_leaks,
    group_cases,
    open_dataset,
    resolve_folds,
    resolve_splits,
)
from deconvseg.data.splits.reading import Splits
from deconvseg.errors import InputError

EYES = "^([0-9]+)_"


def dataset_of(names, group=None):
    cases = tuple(Case(name, (Path(f"{name}.png"),), Path(f"{name}_mask.png"), group) for name in names)
    return Dataset(Path("data"), "folders", cases, ("grey",))


def flat(dataset):
    return dict.fromkeys(dataset.names, 0.0)


@settings(deadline=None, max_examples=40)
@given(
    members=st.lists(st.integers(1, 4), min_size=3, max_size=12),
    folds=st.integers(2, 3),
    seed=st.integers(0, 5),
)
def test_no_group_is_divided_and_each_case_validates_once(members, folds, seed):
    names = [f"{subject:02d}_{visit}" for subject, count in enumerate(members) for visit in range(count)]
    dataset = group_cases(dataset_of(names), EYES)
    pairs = resolve_folds(dataset, None, folds=folds, strata=flat, seed=seed)
    assert sorted(name for part in pairs for name in part.val) == sorted(names)
    for part in (*pairs, resolve_splits(dataset, None, fold=0, seed=seed)):
        sides = [{name.split("_")[0] for name in side} for side in (part.train, part.val)]
        assert sides[0].isdisjoint(sides[1])
    again = resolve_folds(group_cases(dataset_of(names[::-1]), EYES), None, folds=folds, strata=flat, seed=seed)
    assert [set(part.val) for part in again] == [set(part.val) for part in pairs]
    assert find_leaks(dataset, pairs) == []


def test_the_groups_of_a_pattern_are_all_of_its_groups_or_the_whole_match():
    names = ("a_b_1", "a_b_2", "a_c_1", "ab_c_1")
    assert group_cases(dataset_of(names), "^(.+?)_(.)").groups == {
        "a_b_1": "a/b",
        "a_b_2": "a/b",
        "a_c_1": "a/c",
        "ab_c_1": "ab/c",
    }
    assert group_cases(dataset_of(names), "^.").groups == dict.fromkeys(names, "a")


def test_a_pattern_comes_before_a_table_s_column_and_the_subjects_of_bids():
    assert group_cases(dataset_of(("1_left", "1_right"), group="site"), EYES).groups == {"1_left": "1", "1_right": "1"}
    visits = ("sub-01_ses-1", "sub-01_ses-2")
    assert group_cases(dataset_of(visits), "ses-(.)").groups == {visits[0]: "1", visits[1]: "2"}


@pytest.mark.parametrize("pattern", ["^([0-9]+)_", "^(?:([0-9]+)_|x)"])
def test_a_case_without_a_group_is_named(pattern):
    with pytest.raises(InputError, match=r"does not match 2 of 3 cases: x, xleft; every case needs a group"):
        group_cases(dataset_of(("1_left", "x", "xleft")), pattern)


def test_a_match_of_nothing_is_no_group():
    with pytest.raises(InputError, match=r"does not match 2 of 3 cases: xa, xb; every case needs a group"):
        group_cases(dataset_of(("1_left", "xa", "xb")), "^([0-9]*)")


def test_what_is_no_regular_expression_is_refused():
    with pytest.raises(InputError, match=r"group_by='\(' is not a regular expression: missing \)"):
        group_cases(dataset_of(("a", "b")), "(")


def test_a_check_names_groups_that_given_splits_divide(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in ("1_left", "1_right", "2_left", "2_right"):
            pixels = rng.integers(0, 256 if folder == "images" else 2, (8, 8)).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    splits = Splits(("1_left", "2_left"), ("1_right", "2_right"), ())
    assert check_dataset(open_dataset(tmp_path), splits=splits).problems == ()
    (problem,) = check_dataset(open_dataset(tmp_path, group_by=EYES), splits=splits).problems
    assert problem.message.startswith("2 groups are in several splits")
    assert "1: 1_left (train) and 1_right (val)" in problem.message
