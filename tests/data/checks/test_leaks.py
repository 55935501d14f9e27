"""Scans of one subject stay in one fold, and what is in training and in a scored split all the same is told."""

import gzip
import json
import os

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import (
    Case,
    Dataset,
    Splits,
    check_dataset,
    make_folds,
    make_stratified_folds,
    open_dataset,
    resolve_folds,
    resolve_splits,
)
from deconvseg.data.checks.leaks import find_leaks, find_twins
from deconvseg.errors import InputError

grouped = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=5), st.sampled_from([f"s{n}" for n in range(12)]), min_size=4, max_size=40
).filter(lambda groups: len(set(groups.values())) > 1)


def divided(groups, pairs):
    return [
        {groups[name] for name in train} & {groups[name] for name in val}
        for train, val in pairs
        if {groups[name] for name in train} & {groups[name] for name in val}
    ]


@settings(deadline=None, max_examples=60)
@given(groups=grouped, folds=st.integers(2, 6), seed=st.integers(0, 99))
def test_a_group_is_in_one_fold(groups, folds, seed):
    made = make_folds(list(groups), folds, seed, groups=groups)
    assert divided(groups, made) == []
    assert sorted(name for _, val in made for name in val) == sorted(groups)
    assert all(sorted((*train, *val)) == sorted(groups) for train, val in made)
    sizes, largest = [len(val) for _, val in made], max(map(list(groups.values()).count, groups.values()))
    assert max(sizes) - min(sizes) <= largest
    assert made == make_folds(sorted(groups, reverse=True), folds, seed, groups=groups)


@settings(deadline=None, max_examples=60)
@given(groups=grouped, folds=st.integers(2, 6), seed=st.integers(0, 99), words=st.booleans())
def test_a_group_is_in_one_stratified_fold(groups, folds, seed, words):
    strata = {name: ("ab"[len(name) % 2] if words else float(len(name))) for name in groups}
    if folds > len(set(groups.values())):
        with pytest.raises(InputError, match=r"(groups of )?cases cannot make \d folds"):
            make_stratified_folds(strata, folds, seed, groups=groups)
        return
    made = make_stratified_folds(strata, folds, seed, groups=groups)
    assert divided(groups, made) == []
    assert sorted(name for _, val in made for name in val) == sorted(groups)


@given(st.lists(st.text("abcdef", min_size=1, max_size=5), min_size=5, max_size=30, unique=True), st.integers(0, 9))
def test_groups_of_one_change_no_fold(names, seed):
    groups = {name: f"group {name}" for name in names}
    assert make_folds(names, 5, seed, groups=groups) == make_folds(names, 5, seed)
    strata = {name: float(len(name)) for name in names}
    assert make_stratified_folds(strata, 3, seed, groups=groups) == make_stratified_folds(strata, 3, seed)


def test_one_group_cannot_be_split():
    with pytest.raises(InputError, match=r"all cases are of the group 's', which cannot be split"):
        make_folds(["a", "b"], groups={"a": "s", "b": "s"})


def raster(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 9), dtype=np.uint8)).save(path)
    return path


def sessions(root, layout):
    """Six subjects with two sessions each."""
    names = [f"sub-{subject:02d}_ses-{session}" for subject in range(6) for session in (1, 2)]
    if layout == "folders":
        for number, name in enumerate(names):
            raster(root / "images" / f"{name}.png", number)
            raster(root / "masks" / f"{name}.png", number)
        return open_dataset(root)
    rows = [f"c{number}.png,c{number}.png,{name[:6]}" for number, name in enumerate(names)]
    for number in range(12):
        raster(root / f"c{number}.png", number)
    (root / "data.csv").write_text("\n".join([f"image,label,{layout}", *rows]))
    return open_dataset(root / "data.csv")


@pytest.mark.parametrize("layout", ["folders", "group", "subject", "patient_id", "participant_id"])
def test_automatic_splits_keep_subjects_together(tmp_path, layout):
    dataset = sessions(tmp_path, layout)
    assert len(set(dataset.groups.values())) == 6
    for fold in range(5):
        parts = resolve_splits(dataset, None, fold=fold)
        assert find_leaks(dataset, [parts]) == []
        assert len({*parts.train, *parts.val}) == 12
    folds = resolve_folds(dataset, None, folds=3, strata=lambda data: dict.fromkeys(data.names, 1.0))
    assert find_leaks(dataset, folds) == []


def test_given_splits_that_divide_a_subject_are_told(tmp_path):
    dataset = sessions(tmp_path, "folders")
    names = dataset.names
    parts = Splits(names[:7], names[7:9], names[9:])
    (text,) = find_leaks(dataset, [parts])
    assert text.startswith("2 groups are in several splits, which makes scores too good; cases of the same subject")
    assert (
        "sub-03: sub-03_ses-1 (train) and sub-03_ses-2 (val); sub-04: sub-04_ses-1 (val) and sub-04_ses-2 (test)"
        in text
    )
    problems = check_dataset(dataset, splits=parts).problems
    assert ("warning", text) in [(problem.severity, problem.message) for problem in problems]
    assert find_leaks(dataset, [Splits(names[:6], names[6:], ()), Splits(names[6:], names[:6], ())]) == []


def test_the_rest_that_trains_is_looked_at_too(tmp_path):
    dataset = sessions(tmp_path, "folders")
    (tmp_path / "splits.json").write_text(json.dumps({"test": [dataset.names[0]]}))
    parts = resolve_splits(open_dataset(tmp_path), None, fold=0)
    (text,) = find_leaks(dataset, [parts])
    assert "sub-00: sub-00_ses-1 (test) and sub-00_ses-2 (" in text


@pytest.mark.parametrize("how", ["copy", "link", "hardlink", "gzip"])
def test_one_image_under_two_names_is_told_with_both_paths(tmp_path, how):
    for name in "abc":
        volume = np.random.default_rng(ord(name)).normal(size=(4, 5, 6)).astype(np.float32)
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            kept = volume if folder == "images" else (volume > 0).astype(np.uint8)
            nib.save(nib.Nifti1Image(kept, np.eye(4)), tmp_path / folder / f"{name}.nii.gz")
    first, second = tmp_path / "images" / "a.nii.gz", tmp_path / "images" / "c.nii.gz"
    second.unlink()
    if how == "copy":
        second.write_bytes(first.read_bytes())
    elif how == "link":
        second.symlink_to(first)
    elif how == "hardlink":
        os.link(first, second)
    else:
        second.write_bytes(gzip.compress(gzip.decompress(first.read_bytes()), compresslevel=1, mtime=7))
    dataset = open_dataset(tmp_path)
    assert [[case.name for case in twins] for twins in find_twins(dataset.cases)] == [["a", "c"]]
    (text,) = find_leaks(dataset, [Splits(("a", "b"), (), ("c",))])
    assert f"{first} (train) and {second} (test)" in text
    assert find_leaks(dataset, [Splits(("a", "c"), (), ("b",))]) == []
    (problem,) = check_dataset(dataset).problems
    assert (problem.file, problem.message) == (
        str(first),
        f"is the same image as {second}; keep one, or keep them in one split",
    )


def test_the_same_pixels_in_two_formats_are_seen_by_the_check(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        raster(tmp_path / "images" / f"{name}.png", seed)
        raster(tmp_path / "masks" / f"{name}.png", seed)
    PIL.Image.open(tmp_path / "images" / "a.png").save(tmp_path / "images" / "c.bmp")
    raster(tmp_path / "masks" / "c.png", 3)
    messages = [problem.message for problem in check_dataset(open_dataset(tmp_path), splits=None).problems]
    assert any(f"is the same image as {tmp_path}/images/c.bmp" in message for message in messages)


def test_missing_files_are_no_twins(tmp_path):
    cases = tuple(Case(name, (tmp_path / f"{name}.png",), None) for name in "ab")
    assert find_twins(cases) == []
    assert Dataset(tmp_path, "folders", cases, ("grey",)).groups == {"a": "a", "b": "b"}


def test_uncompressed_copies_are_told_from_volumes_of_the_same_size(tmp_path):
    paths = [tmp_path / f"{name}.nii" for name in "abcd"]
    volume = np.arange(24_000, dtype=np.int16).reshape(20, 30, 40)
    for path in paths:
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    for path, place in zip(paths[1:3], ((0, 0, 0), (10, 15, 20)), strict=True):
        volume = volume.copy()
        volume[place] = -1
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    twins = find_twins([Case(path.stem, (path,), None) for path in paths])
    assert [[case.name for case in group] for group in twins] == [["a", "d"]]
