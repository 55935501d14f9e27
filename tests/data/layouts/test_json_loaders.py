"""Every JSON file of a dataset may be damaged in any way: what is raised is our own error, of one line."""

import json

import nibabel as nib
import numpy as np
import pytest

from deconvseg.data import open_dataset, read_json, read_splits, resolve_folds, resolve_splits
from deconvseg.errors import InputError
from mutations import foreign_failures, mutate_json

pytestmark = pytest.mark.faults

VOLUME = np.zeros((4, 5, 6), np.uint8)
VOLUME[1:3, 1:3, 2:4] = 1


def volume(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(VOLUME, np.eye(4)), path)


def write(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def nnunet(root):
    for name in "ab":
        volume(root / "imagesTr" / f"{name}_0000.nii.gz")
        volume(root / "labelsTr" / f"{name}.nii.gz")
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    record = {"channel_names": {"0": "T1"}, "labels": labels, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}
    return write(root / "dataset.json", record)


def decathlon(root):
    for name in "ab":
        volume(root / "imagesTr" / f"{name}.nii.gz")
        volume(root / "labelsTr" / f"{name}.nii.gz")
    pairs = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "ab"]
    labels = {"0": "background", "1": "organ"}
    record = {"modality": {"0": "MRI"}, "labels": labels, "training": pairs, "test": ["./imagesTs/c.nii.gz"]}
    return write(root / "dataset.json", record)


def bids_description(root):
    for name in ("sub-01", "sub-02"):
        volume(root / name / "anat" / f"{name}_T1w.nii.gz")
        volume(root / "derivatives" / "manual" / name / "anat" / f"{name}_dseg.nii.gz")
    generators = [{"Name": "x", "Version": "1"}]
    record = {"Name": "x", "BIDSVersion": "1.8.0", "DatasetType": "raw", "GeneratedBy": generators}
    return write(root / "dataset_description.json", record)


def bids_sidecar(root):
    bids_description(root)
    record = {"Sources": ["bids::sub-01/anat/sub-01_T1w.nii.gz"], "RawSources": ["sub-01_T1w.nii.gz"]}
    return write(root / "derivatives" / "manual" / "sub-01" / "anat" / "sub-01_dseg.json", record)


@pytest.mark.parametrize("make", [nnunet, decathlon, bids_description, bids_sidecar])
def test_damaged_descriptions_raise_our_own_error(tmp_path, make):
    path = make(tmp_path)
    mutants = mutate_json(json.loads(path.read_text()), 250, seed=1)
    assert foreign_failures(lambda: open_dataset(tmp_path), path, mutants) == []


@pytest.mark.parametrize(
    "record",
    [{"train": ["a"], "val": ["b"], "test": []}, [{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]],
)
def test_damaged_splits_raise_our_own_error(tmp_path, record):
    nnunet(tmp_path)
    path = write(tmp_path / "splits.json", record)
    dataset = open_dataset(tmp_path)
    mutants = mutate_json(record, 250, seed=2)
    for read in (
        lambda: read_splits(path, dataset.names, fold=0),
        lambda: resolve_splits(dataset, path, fold=1),
        lambda: resolve_folds(dataset, path, strata=lambda data: dict.fromkeys(data.names, 1.0)),
    ):
        assert foreign_failures(read, path, mutants) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"labels": {"a": 1, "a": 2}}', "the key 'a' is there twice"),
        (b'[{"train": [], "val": [], "train": ["x"]}]', "the key 'train' is there twice"),
        (b'{"x": NaN}', "NaN is no JSON number"),
        (b'{"x": [-Infinity]}', "-Infinity is no JSON number"),
        (b'{"x": 1e999}', "the number 1e999 is beyond float64"),
        (b'{"x": "\\ud800"}', "surrogates not allowed"),
        (b'{"x": "\xff"}', "can't decode byte"),
        (b"[" * 10**5, "recursion"),
    ],
)
def test_what_is_no_json_is_named(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json is not valid JSON \(.*{reason}.*\); correct it") as failure:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_passed_over(tmp_path, encoding):
    record = {"name": "Müller", "pair": "\U0001f9e0"}
    (tmp_path / "a.json").write_bytes(json.dumps(record, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "a.json") == record
    (tmp_path / "a.json").write_bytes(json.dumps(record).encode(encoding))
    assert read_json(tmp_path / "a.json") == record
