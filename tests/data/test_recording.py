"""What a dataset was, and whether it still is that."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deconvseg.data import check_dataset_unchanged, file_state, open_dataset, record_dataset
from deconvseg.errors import InputError
from deconvseg.planning.fingerprint_cache import fingerprint_key


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three cases of two channels in a CSV file, of text files in other folders; no pixel is read."""
    for name in ("T1", "T2", "mask", "other"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.nii.gz").write_text(f"{name} {number}")
    write(tmp_path / "cases.csv")
    return tmp_path / "cases.csv"


def write(path: Path, first: str = "T1", second: str = "T2", mask: str = "mask", names: str = "abc") -> None:
    rows = [f"case,image_{first},image_{second},label"]
    rows += [f"{name},T1/{n}.nii.gz,T2/{n}.nii.gz,{mask}/{n}.nii.gz" for n, name in enumerate(names)]
    path.write_text("\n".join(rows) + "\n")


def rewrite_touched(table: Path) -> None:
    file = table.parent / "mask" / "1.nii.gz"
    os.utime(file, ns=(1, 1))
    copy = file.with_suffix(".copy")
    shutil.copy(file, copy)
    copy.replace(file)


def other_contents_of_the_same_size_and_date(table: Path) -> None:
    file = table.parent / "mask" / "1.nii.gz"
    before = file.stat()
    file.write_text("mask 7")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def retargeted_link(table: Path) -> None:
    file = table.parent / "mask" / "1.nii.gz"
    file.unlink()
    file.symlink_to(table.parent / "other" / "1.nii.gz")


def test_a_record_is_json_without_a_place_and_holds_for_the_same_data_elsewhere(table: Path, tmp_path: Path) -> None:
    record = json.loads(json.dumps(record_dataset(open_dataset(table))))
    assert str(tmp_path) not in json.dumps(record)
    assert sorted(record["data"])[:2] == ["T1/0.nii.gz", "T1/1.nii.gz"]
    check_dataset_unchanged(record, open_dataset(table))
    shutil.copytree(tmp_path, tmp_path / "moved", ignore=shutil.ignore_patterns("moved"))
    check_dataset_unchanged(record, open_dataset(tmp_path / "moved" / "cases.csv"))
    rewrite_touched(table)
    check_dataset_unchanged(record, open_dataset(table))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: write(table, mask="other"),
            r"cases\.csv: lists other files .*mask/0\.nii\.gz.*other/0\.nii\.gz",
        ),
        (lambda table: write(table, first="T2", second="T1"), r"cases\.csv: lists other channels than"),
        (lambda table: write(table, names="xbc"), r"cases\.csv: lists other cases or files of cases than"),
        (lambda table: write(table, names="acb"), r"cases\.csv: lists other cases or files of cases than"),
        (lambda table: write(table, names="ab"), r"cases\.csv: lists other files .*T1/2\.nii\.gz"),
        (other_contents_of_the_same_size_and_date, r"mask/1\.nii\.gz: has changed since the run was started"),
        (retargeted_link, r"mask/1\.nii\.gz: has changed since the run was started"),
    ],
)
def test_what_has_changed_is_named(table: Path, change: Callable[[Path], None], message: str) -> None:
    record = record_dataset(open_dataset(table))
    change(table)
    with pytest.raises(InputError, match=message):
        check_dataset_unchanged(record, open_dataset(table))


def test_declarations_of_labels_are_part_of_the_listing(table: Path) -> None:
    data = open_dataset(table)
    named = replace(data, label_names={0: "background", 1: "organ"})
    record = record_dataset(named)
    check_dataset_unchanged(record, named)
    others = [data, replace(named, label_names={0: "background", 1: "lesion"}), replace(named, ignore_label=2)]
    for other in [*others, replace(named, foreground=True)]:
        with pytest.raises(InputError, match="lists other labels than"):
            check_dataset_unchanged(record, other)


def test_files_outside_of_the_dataset_are_named_by_their_cases(table: Path, tmp_path: Path) -> None:
    inside = tmp_path / "deep"
    inside.mkdir()
    text = table.read_text().replace("T1/", "../T1/").replace("T2/", f"{tmp_path}/T2/").replace("mask/", "../mask/")
    (inside / "cases.csv").write_text(text)
    record = record_dataset(open_dataset(inside / "cases.csv"))
    assert {"a/0.nii.gz", "b/1.nii.gz"} <= record["data"].keys()
    assert len(record["data"]) == len(record["states"]) == 9
    assert str(tmp_path) not in json.dumps(record)
    check_dataset_unchanged(record, open_dataset(inside / "cases.csv"))


def test_records_of_before_name_whole_paths_whose_contents_are_compared(table: Path) -> None:
    data = open_dataset(table)
    old = {
        "data": {
            str(path): record_dataset(data)["data"][f"mask/{n}.nii.gz"]
            for n, path in enumerate(case.label for case in data.cases)
        }
    }
    check_dataset_unchanged(old, data)
    other_contents_of_the_same_size_and_date(table)
    with pytest.raises(InputError, match=r"mask/1\.nii\.gz: has changed"):
        check_dataset_unchanged(old, data)


def test_a_file_replaced_by_one_of_the_same_size_and_date_has_another_state_and_other_cache_keys(table: Path) -> None:
    file = table.parent / "mask" / "1.nii.gz"
    state, key = file_state(file), fingerprint_key(open_dataset(table))
    assert (file_state(file), fingerprint_key(open_dataset(table))) == (state, key)
    other_contents_of_the_same_size_and_date(table)
    assert file_state(file) != state
    assert fingerprint_key(open_dataset(table)) != key
    assert file_state(table.parent / "none") == [-1]


def test_voxels_beside_a_header_are_part_of_a_record(tmp_path: Path) -> None:
    for name in ("image", "label"):
        header = (
            f"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {name}.raw\n"
        )
        (tmp_path / f"{name}.mhd").write_text(header)
        (tmp_path / f"{name}.raw").write_bytes(np.zeros(8, np.uint8).tobytes())
    (tmp_path / "cases.csv").write_text("case,image,label\na,image.mhd,label.mhd\n")
    record = record_dataset(open_dataset(tmp_path / "cases.csv"))
    assert set(record["data"]) == {"image.mhd", "image.raw", "label.mhd", "label.raw"}
    (tmp_path / "label.raw").write_bytes(np.ones(8, np.uint8).tobytes())
    with pytest.raises(InputError, match=r"label\.raw: has changed"):
        check_dataset_unchanged(record, open_dataset(tmp_path / "cases.csv"))
