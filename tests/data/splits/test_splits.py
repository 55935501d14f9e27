"""Test cases never mix with the others, and folds are a function of the names and the seed."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import (
    Case,
    Dataset,
    Splits,
    group_cases,
    make_folds,
    make_stratified_folds,
    read_splits,
    resolve_folds,
    resolve_splits,
    select_split,
)
from deconvseg.data.layouts.excluding import exclude_cases
from deconvseg.errors import InputError

NAMES = tuple(f"case{number}" for number in range(12))


def dataset_of(root, unlabelled=(), **options):
    cases = tuple(
        Case(name, (root / f"{name}.png",), None if name in unlabelled else root / "mask.png") for name in NAMES
    )
    return Dataset(root=root, layout="folders", cases=cases, channel_names=("grey",), **options)


def write(path, record):
    path.write_text(json.dumps(record))
    return path


names = st.lists(st.text("abcdef0123", min_size=1, max_size=6), min_size=2, max_size=40, unique=True)


@settings(deadline=None, max_examples=80)
@given(names=names, folds=st.integers(2, 7), seed=st.integers(0, 99), shuffled=st.randoms())
def test_folds_partition_the_cases(names, folds, seed, shuffled):
    made = make_folds(names, folds, seed)
    assert len(made) == min(folds, len(names))
    assert sorted(name for _, val in made for name in val) == sorted(names)
    sizes = [len(val) for _, val in made]
    assert max(sizes) - min(sizes) <= 1
    for train, val in made:
        assert sorted((*train, *val)) == sorted(names)
    other_order = list(names)
    shuffled.shuffle(other_order)
    assert make_folds(other_order, folds, seed) == made


def test_another_seed_gives_other_folds():
    assert make_folds(NAMES, seed=0) != make_folds(NAMES, seed=1)


def test_a_split_is_chosen_from_the_file_that_is_given_or_else_from_ones_own(tmp_path):
    own = write(tmp_path / "own.json", {"train": NAMES[:4], "val": [], "test": NAMES[4:]})
    given = write(
        tmp_path / "given.json", [{"train": NAMES[2:], "val": NAMES[:2]}, {"train": NAMES[:2], "val": NAMES[2:]}]
    )
    assert select_split(NAMES, None, own=own) is None
    assert select_split(NAMES, "test", own=own) == NAMES[4:]
    assert select_split(NAMES, "val", own=own, splits=given) == NAMES[:2]
    assert select_split(NAMES, "val", own=own, splits=given, fold=1) == NAMES[2:]
    for error, split, options in (
        ("own.json: the split 'val' has no cases", "val", {"own": own}),
        ("`split` 'tset' is unknown: did you mean 'test'", "tset", {"own": own}),
        ("the split 'val' needs a splits file", "val", {}),
        ("given.json has several splits: say which one", None, {"own": own, "splits": given}),
        ("`fold=0` has several splits: say which one", None, {"fold": 0}),
    ):
        with pytest.raises(InputError, match=error):
            select_split(NAMES, split, **options)


def test_declared_test_cases_are_a_split_without_a_file(tmp_path):
    own = write(tmp_path / "own.json", {"test": NAMES[:2]})
    declared = (NAMES[5], NAMES[3], "not here")
    assert select_split(NAMES, "test", test=declared) == (NAMES[3], NAMES[5])
    assert select_split(NAMES, "test", own=own, test=declared) == NAMES[:2]
    assert select_split(NAMES, None, test=declared) is None
    with pytest.raises(InputError, match="'val' needs a splits file.*; without one, only the test cases are known"):
        select_split(NAMES, "val", test=declared)
    with pytest.raises(InputError, match="the split 'test' needs a splits file: give one as `splits`$"):
        select_split(NAMES, "test", test=("not here",))


def test_one_case_makes_no_folds():
    with pytest.raises(InputError, match="`fold='all'`"):
        make_folds(["only"])


def test_reading_three_splits(tmp_path):
    path = write(tmp_path / "splits.json", {"train": NAMES[:5], "val": NAMES[5:7], "test": NAMES[7:]})
    assert read_splits(path, NAMES) == Splits(NAMES[:5], NAMES[5:7], NAMES[7:])


def test_what_a_file_does_not_mention_trains_where_train_is_missing(tmp_path):
    assert read_splits(write(tmp_path / "s.json", {"test": NAMES[9:]}), NAMES) == Splits(NAMES[:9], (), NAMES[9:])
    assert read_splits(write(tmp_path / "s.json", {"train": NAMES[:3]}), NAMES) == Splits(NAMES[:3], (), ())
    assert read_splits(write(tmp_path / "s.json", {"test": list(NAMES)}), NAMES) == Splits((), (), NAMES)


def test_nnunets_list_of_folds(tmp_path):
    folds = [{"train": train, "val": val} for train, val in make_folds(NAMES)]
    path = write(tmp_path / "splits_final.json", folds)
    for number, (train, val) in enumerate(make_folds(NAMES)):
        assert read_splits(path, NAMES, fold=number) == Splits(train, val, ())
    assert read_splits(path, NAMES) == read_splits(path, NAMES, fold=0)
    with pytest.raises(InputError, match=r"has the folds 0 … 4, but fold 5 was requested"):
        read_splits(path, NAMES, fold=5)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"train": ["case0", "other", "stranger"]}, "names cases that the dataset does not have: other, stranger"),
        ({"train": ["case0", "case1"], "test": ["case1"]}, "names cases more than once: case1"),
        ({"train": ["case0", "case0"]}, "names cases more than once: case0"),
        ({"train": "case0"}, '"train" must be a list of case names'),
        ({"train": [1]}, '"train" must be a list of case names'),
        ({"trian": ["case0"]}, "must hold"),
        ({"train": ["case0"], "tset": []}, "has the unknown split tset"),
        ("train", "must hold"),
        ([], r"has no folds"),
    ],
)
def test_broken_splits_are_named(tmp_path, record, message):
    with pytest.raises(InputError, match=rf"s\.json.*{message}"):
        read_splits(write(tmp_path / "s.json", record), NAMES)


def test_a_missing_splits_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json does not exist"):
        read_splits(tmp_path / "none.json", NAMES)


def test_without_a_file_every_labelled_case_takes_part(tmp_path):
    dataset = dataset_of(tmp_path, unlabelled=("case3",))
    labelled = [name for name in NAMES if name != "case3"]
    for fold, (train, val) in enumerate(make_folds(labelled, seed=4)):
        assert resolve_splits(dataset, None, fold=fold, seed=4) == Splits(train, val, ())
    assert resolve_splits(dataset, None, fold="all") == Splits(tuple(labelled), (), ())
    assert resolve_splits(dataset, None, fold="2") == resolve_splits(dataset, None, fold=2)
    assert resolve_splits(dataset, None, fold=None) == resolve_splits(dataset, None, fold=0)


@settings(deadline=None, max_examples=40)
@given(
    left_out=st.sets(st.sampled_from(NAMES), max_size=10),
    seed=st.integers(0, 9),
    record=st.sampled_from([None, {"test": ["case3", "case7"]}, {"train": NAMES[:9], "test": ["case10"]}]),
    group_by=st.sampled_from([None, "[0-4]|[5-9]|1."]),
)
def test_excluded_cases_move_no_other_case_to_another_fold(tmp_path_factory, left_out, seed, record, group_by):
    root = tmp_path_factory.mktemp("splits")
    source = None if record is None else write(root / "splits.json", record)

    def split(dataset):
        dataset = dataset if group_by is None else group_cases(dataset, group_by)
        return [resolve_splits(dataset, source, fold=fold, seed=seed) for fold in range(5)]

    before = split(dataset_of(root))
    expected = [
        Splits(*(tuple(name for name in names if name not in left_out) for names in vars(part).values()))
        for part in before
    ]
    if all(part.train and part.val for part in expected):
        assert split(exclude_cases(dataset_of(root), sorted(left_out))) == expected


@settings(deadline=None, max_examples=30)
@given(
    left_out=st.sets(st.sampled_from(NAMES), max_size=3),
    seed=st.integers(0, 9),
    record=st.sampled_from([None, {"test": ["case3", "case7"]}, {"train": NAMES[:9], "test": ["case10"]}]),
    group_by=st.sampled_from([None, "[02468]|[13579]"]),
)
def test_a_fold_of_a_training_is_that_of_a_cross_validation(tmp_path_factory, left_out, seed, record, group_by):
    root = tmp_path_factory.mktemp("splits")
    source = None if record is None else write(root / "splits.json", record)
    dataset = exclude_cases(dataset_of(root), sorted(left_out))
    dataset = dataset if group_by is None else group_cases(dataset, group_by)

    def strata(data):
        return {case.name: float(len(case.name) + int(case.name[4:]) ** 2) for case in data.cases}

    number = min(5, len(dataset.labelled_names))
    crossed = resolve_folds(dataset, source, folds=number, strata=strata, seed=seed)
    for fold, parts in enumerate(crossed):
        assert resolve_splits(dataset, source, fold=fold, seed=seed, strata=strata) == parts


def test_the_cases_are_divided_anew_if_exclusions_empty_a_fold(tmp_path):
    first = resolve_splits(dataset_of(tmp_path), None, fold=0)
    dataset = exclude_cases(dataset_of(tmp_path), first.val)
    train, val = make_folds(dataset.names)[0]
    assert val
    assert resolve_splits(dataset, None, fold=0) == Splits(train, val, ())


@settings(deadline=None, max_examples=30)
@given(fold=st.sampled_from([None, 0, 1, 4, "all", "3"]), seed=st.integers(0, 9))
def test_test_cases_neither_train_nor_choose(tmp_path_factory, fold, seed):
    root = tmp_path_factory.mktemp("splits")
    path = write(root / "s.json", {"train": NAMES[:9], "test": NAMES[9:]})
    splits = resolve_splits(dataset_of(root), path, fold=fold, seed=seed)
    assert splits.test == NAMES[9:]
    assert sorted((*splits.train, *splits.val)) == sorted(NAMES[:9])
    assert (splits.val == ()) == (fold == "all")


def test_given_validation_cases_are_kept(tmp_path):
    path = write(tmp_path / "s.json", {"train": NAMES[:5], "val": NAMES[5:7], "test": NAMES[7:]})
    dataset = dataset_of(tmp_path)
    assert resolve_splits(dataset, path, fold=None) == Splits(NAMES[:5], NAMES[5:7], NAMES[7:])
    assert resolve_splits(dataset, path, fold="all") == Splits(NAMES[:7], (), NAMES[7:])
    with pytest.raises(InputError, match="fixes the validation cases, so fold 1 does not exist"):
        resolve_splits(dataset, path, fold=1)


def test_the_datasets_own_file_is_used_unless_another_is_given(tmp_path):
    own = write(tmp_path / "splits.json", {"train": NAMES[:9], "test": NAMES[9:]})
    other = write(tmp_path / "other.json", {"train": NAMES[:4], "test": NAMES[8:]})
    dataset = dataset_of(tmp_path, splits_file=own)
    assert resolve_splits(dataset, None, fold="all").test == NAMES[9:]
    assert resolve_splits(dataset, other, fold="all").test == NAMES[8:]


def test_impossible_folds_and_unlabelled_training_cases_are_refused(tmp_path):
    dataset = dataset_of(tmp_path, unlabelled=("case2",))
    with pytest.raises(InputError, match="fold 5 does not exist"):
        resolve_splits(dataset, None, fold=5)
    with pytest.raises(InputError, match="fold -1 does not exist"):
        resolve_splits(dataset, None, fold=-1)
    with pytest.raises(InputError, match="must be a number or \"all\", not 'last'"):
        resolve_splits(dataset, None, fold="last")
    with pytest.raises(InputError, match=r"trains or validates on cases without a mask: case2"):
        resolve_splits(dataset, write(tmp_path / "s.json", {"train": NAMES[:5]}), fold=0)
    path = write(tmp_path / "s.json", {"train": NAMES[3:9], "test": ["case2"]})
    assert resolve_splits(dataset, path, fold=0).test == ("case2",)


volumes = st.dictionaries(st.text("abcdef0123", min_size=1, max_size=6), st.floats(0, 1e6), min_size=2, max_size=40)


@settings(deadline=None, max_examples=80)
@given(strata=volumes, folds=st.integers(2, 7), seed=st.integers(0, 99), shuffled=st.randoms())
def test_stratified_folds_partition_the_cases_and_share_out_neighbours(strata, folds, seed, shuffled):
    if folds > len(strata):
        with pytest.raises(InputError, match=f"{len(strata)} cases cannot make {folds} folds"):
            make_stratified_folds(strata, folds, seed)
        return
    made = make_stratified_folds(strata, folds, seed)
    assert sorted(name for _, val in made for name in val) == sorted(strata)
    sizes = [len(val) for _, val in made]
    assert max(sizes) - min(sizes) <= 1
    assert all(sorted((*train, *val)) == sorted(strata) for train, val in made)
    if len(set(strata.values())) == len(strata):
        ranks = {name: place for place, name in enumerate(sorted(strata, key=strata.__getitem__))}
        for _, val in made:
            groups = sorted(ranks[name] // folds for name in val)
            assert groups == list(range(len(groups)))
    items = list(strata.items())
    shuffled.shuffle(items)
    assert make_stratified_folds(dict(items), folds, seed) == made


@settings(deadline=None, max_examples=60)
@given(
    sites=st.lists(st.sampled_from(["rome", "oslo", "lima"]), min_size=6, max_size=40),
    folds=st.integers(2, 6),
    seed=st.integers(0, 9),
)
def test_a_category_is_dealt_out_evenly(sites, folds, seed):
    strata = {f"case{number}": site for number, site in enumerate(sites)}
    for site in set(sites):
        counts = [sum(strata[n] == site for n in val) for _, val in make_stratified_folds(strata, folds, seed)]
        assert max(counts) - min(counts) <= 1


def no_strata(dataset):
    raise AssertionError("nothing is measured where the folds are given or impossible")


def test_folds_of_a_file_are_respected(tmp_path):
    folds = [{"train": train, "val": val} for train, val in make_folds(NAMES, 3)]
    path = write(tmp_path / "splits_final.json", folds)
    dataset = dataset_of(tmp_path, splits_file=path)
    made = resolve_folds(dataset, None, strata=no_strata)
    assert [(part.train, part.val) for part in made] == make_folds(NAMES, 3)
    assert resolve_folds(dataset, None, folds=3, strata=no_strata) == made
    with pytest.raises(InputError, match="has 3 folds, but 5 were asked for"):
        resolve_folds(dataset, None, folds=5, strata=no_strata)


def test_folds_are_made_of_all_cases_but_the_test_cases(tmp_path):
    path = write(tmp_path / "splits.json", {"train": NAMES[:6], "val": NAMES[6:8], "test": NAMES[8:]})
    measured = []

    def strata(dataset):
        measured.extend(dataset.names)
        return dict.fromkeys(dataset.names, 1.0)

    made = resolve_folds(dataset_of(tmp_path), path, folds=4, strata=strata, seed=1)
    assert measured == list(NAMES[:8])
    assert sorted(name for part in made for name in part.val) == sorted(NAMES[:8])
    assert all(part.test == NAMES[8:] for part in made)
    with pytest.raises(InputError, match="8 cases cannot make 9 folds"):
        resolve_folds(dataset_of(tmp_path), path, folds=9, strata=no_strata)


def test_a_file_with_one_fold_is_taken_if_one_is_asked_for(tmp_path):
    path = write(tmp_path / "splits_final.json", [{"train": NAMES[:3], "val": NAMES[3:4], "test": NAMES[4:5]}])
    (part,) = resolve_folds(dataset_of(tmp_path), path, folds=1, strata=no_strata)
    assert part == Splits(NAMES[:3], NAMES[3:4], NAMES[4:5])
    # Of cases that are divided, one fold would hold out all.
    with pytest.raises(InputError, match="`folds=1`: a file of splits with one fold is needed"):
        resolve_folds(dataset_of(tmp_path), None, folds=1, strata=no_strata)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([{"train": NAMES[:3], "val": NAMES[3:4]}], "needs two folds or more"),
        ([{"train": NAMES[:3], "val": NAMES[3:5]}, {"train": NAMES[:3], "val": NAMES[4:6]}], "validate on case4;"),
        (
            [{"train": NAMES[:3], "val": NAMES[3:4], "test": NAMES[6:7]}, {"train": NAMES[5:7], "val": NAMES[4:5]}],
            "case6 are test cases of one fold and not of another",
        ),
        ([{"train": NAMES[:3], "val": NAMES[3:4]}, {"train": NAMES[:3]}], "each with cases to train and to validate"),
    ],
)
def test_folds_that_are_no_cross_validation(tmp_path, folds, message):
    path = write(tmp_path / "splits_final.json", folds)
    with pytest.raises(InputError, match=message):
        resolve_folds(dataset_of(tmp_path), path, strata=no_strata)
