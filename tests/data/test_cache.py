import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deconvseg.data import Dataset, LabelEncoding, Normalisation, PreparedCase, open_dataset, prepare_cases
from deconvseg.data.preprocessing import preprocess_image
from deconvseg.data.stored_arrays import compress, open_stored, to_npy
from deconvseg.errors import DeconvsegError, InputError
from mutations import mutate_bytes, mutate_json

ENCODING = LabelEncoding((0, 3, 7), ("background", "shell", "core"))


def prepare(dataset: Dataset, folder: Path, **changes: object) -> list[PreparedCase]:
    options = {"spacing": (1.0, 1.0, 2.0), "normalisations": [Normalisation()] * 2, "encoding": ENCODING}
    return prepare_cases(dataset, folder, **{**options, **changes})


@pytest.fixture(scope="module")
def cases(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> list[PreparedCase]:
    return prepare(open_dataset(balls), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that are read from the dataset from now on."""
    names: list[str] = []
    load = Dataset.load

    def listed(self: Dataset, case):  # type: ignore[no-untyped-def]
        names.append(case.name)
        return load(self, case)

    monkeypatch.setattr(Dataset, "load", listed)
    return names


def test_prepared_cases_hold_consecutive_ids_and_true_centres(cases: list[PreparedCase]) -> None:
    for case in cases:
        assert case.image.dtype == np.float32
        assert case.image.shape[1:] == case.labels.shape == case.shape
        labels, centres = case.labels[...], case.centres
        assert set(np.unique(labels)) == {0, 1, 2}
        assert [label for label, _ in case.classes] == [1, 2]
        ids = np.repeat([label for label, _ in case.classes], [count for _, count in case.classes])
        assert np.array_equal(labels[tuple(centres.T)], ids)
        assert len(np.unique(centres, axis=0)) == len(centres)


def test_what_is_read_back_is_what_preprocessing_gives(balls: Path, cases: list[PreparedCase]) -> None:
    dataset = open_dataset(balls)
    image, _ = dataset.load(dataset.case(cases[1].name))
    expected = preprocess_image(image, (1.0, 1.0, 2.0), [Normalisation()] * 2).pixels
    assert np.array_equal(cases[1].image[...], expected)
    part = (slice(None), slice(3, 9), slice(0, 5), slice(2, 3))
    assert np.array_equal(cases[1].image[part], expected[part])


def test_prepared_cases_are_kept(balls: Path, cases: list[PreparedCase], read: list[str]) -> None:
    assert prepare(open_dataset(balls), cases[0].folder.parents[1]) == cases
    assert not read


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": (1.0, 1.0, 2.5)},
        {"normalisations": [Normalisation("zscore_nonzero"), Normalisation()]},
        {"encoding": replace(ENCODING, foreground_only=True)},
    ],
)
def test_what_preprocessing_depends_on_makes_other_entries(balls: Path, tmp_path: Path, changes: dict) -> None:
    dataset = open_dataset(balls).select(["ball0"])
    (first,) = prepare(dataset, tmp_path)
    (other,) = prepare(dataset, tmp_path, **changes)
    assert other.folder != first.folder
    assert prepare(dataset, tmp_path) == [first]


def test_the_patch_decides_blocks_and_nothing_else(balls: Path, tmp_path: Path, read: list[str]) -> None:
    dataset = open_dataset(balls).select(["ball0"])
    small = prepare(dataset, tmp_path / "a", patch_size=(8, 8, 4))[0]
    large = prepare(dataset, tmp_path / "b", patch_size=(64, 64, 1))[0]
    assert np.array_equal(small.image[...], large.image[...])
    assert small.folder.relative_to(tmp_path / "a") == large.folder.relative_to(tmp_path / "b")
    assert small.image.frame.blocks == (1, 2, 2, 1)  # type: ignore[attr-defined]
    assert large.image.frame.blocks[3] == 1  # type: ignore[attr-defined]


def test_a_changed_file_is_prepared_again_and_the_others_are_not(balls: Path, tmp_path: Path, read: list[str]) -> None:
    copy = tmp_path / "balls"
    shutil.copytree(balls, copy)
    before = prepare(open_dataset(copy), tmp_path / "cache")
    read.clear()
    os.utime(copy / "labelsTr" / "ball3.nii.gz", (1, 1))
    after = prepare(open_dataset(copy), tmp_path / "cache")
    assert read == ["ball3"]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, True, False, True]


@pytest.mark.faults
@pytest.mark.parametrize("file", ["image.b2nd", "labels.b2nd", "centres.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_entry_is_made_again(balls: Path, tmp_path: Path, read: list[str], file: str, damage: str) -> None:
    dataset = open_dataset(balls).select(["ball0", "ball1"])
    whole = prepare(dataset, tmp_path)
    expected = whole[0].image[...]
    read.clear()
    path = whole[0].folder / file
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        path.write_bytes(content[:-9] + bytes(byte ^ 255 for byte in content[-9:]))
    again = prepare(dataset, tmp_path)
    assert read == ["ball0"]
    assert again == whole
    assert np.array_equal(again[0].image[...], expected)
    assert {path.name for path in again[0].folder.iterdir()} == {
        "image.b2nd", "labels.b2nd", "centres.npy", "entry.json",
    }  # fmt: skip


@pytest.mark.faults
def test_a_frame_that_is_damaged_before_its_checksum_was_taken_is_refused_by_name(tmp_path: Path) -> None:
    frame = compress(np.random.default_rng(0).normal(size=(1, 24, 24, 24)).astype(np.float32), (1, 8, 8, 8))
    path, refusals = tmp_path / "case" / "image.b2nd", []
    path.parent.mkdir()
    for mutant in mutate_bytes(frame, 60, seed=3):
        path.unlink(missing_ok=True)
        path.write_bytes(mutant.content)
        try:
            open_stored(path)[...]
        except DeconvsegError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert all(text.startswith(f"{path}: the prepared case is damaged (") for text in refusals)
    assert all(f"remove {path.parent} " in text for text in refusals)


def test_what_a_killed_process_left_is_cleared_away_once_it_is_old(balls: Path, tmp_path: Path) -> None:
    dataset = open_dataset(balls).select(["ball0"])
    place = prepare(dataset, tmp_path)[0].folder.parent
    for name in ("old", "new"):
        (place / f".unfinished-{name}").mkdir()
        (place / f".unfinished-{name}" / "image.b2nd").write_bytes(b"half")
    os.utime(place / ".unfinished-old", (1, 1))
    prepare(dataset, tmp_path)
    assert sorted(path.name for path in place.glob(".unfinished-*")) == [".unfinished-new"]


@pytest.mark.faults
def test_full_disk_while_preparing_is_one_clear_error(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DeconvsegError, match="disk is full"):
        prepare(open_dataset(balls), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_processes_prepare_what_one_process_does(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    monkeypatch.setattr("deconvseg.system.workers._WORTH_PROCESSES", 0.0)
    alone = prepare(open_dataset(balls), tmp_path / "0")
    read.clear()
    shared = prepare(open_dataset(balls), tmp_path / "2", workers=2)
    assert read == ["ball0"]  # the others were read by other processes
    assert [case.name for case in shared] == [case.name for case in alone]
    for one, two in zip(alone, shared, strict=True):
        assert {p.name: p.read_bytes() for p in one.folder.iterdir()} == {
            p.name: p.read_bytes() for p in two.folder.iterdir()
        }


def test_a_preparation_that_goes_on_asks_a_new_case_whether_processes_are_worth_it(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    dataset = open_dataset(balls)
    prepare(dataset.select(["ball0", "ball1"]), tmp_path)
    read.clear()
    # More than it takes to look at those that are there, less than a slow case and those after it.
    monkeypatch.setattr("deconvseg.system.workers._WORTH_PROCESSES", 1.0)
    load = Dataset.load

    def slow(self: Dataset, case):  # type: ignore[no-untyped-def]
        time.sleep(0.6)
        return load(self, case)

    monkeypatch.setattr(Dataset, "load", slow)
    made = prepare(dataset, tmp_path, workers=2)
    assert read == ["ball2"]
    assert [case.name for case in made] == list(dataset.names)


def test_a_case_whose_file_is_gone_is_named(balls: Path, tmp_path: Path) -> None:
    shutil.copytree(balls, tmp_path / "balls")
    dataset = open_dataset(tmp_path / "balls")
    (tmp_path / "balls" / "imagesTr" / "ball3_0001.nii.gz").unlink()
    with pytest.raises(DeconvsegError, match=r"ball3_0001\.nii\.gz does not exist"):
        prepare(dataset, tmp_path / "cache")


def test_a_bad_file_in_another_process_is_its_own_error(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deconvseg.system.workers._WORTH_PROCESSES", 0.0)
    copy = tmp_path / "balls"
    shutil.copytree(balls, copy)
    dataset = open_dataset(copy)
    (copy / "labelsTr" / "ball2.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"ball2\.nii\.gz") as error:
        prepare(dataset, tmp_path / "cache", workers=2)
    assert "\n" not in str(error.value)


def test_processes_are_not_started_for_a_moment_of_work(balls: Path, tmp_path: Path, read: list[str]) -> None:
    prepare(open_dataset(balls), tmp_path, workers=2)
    assert len(read) == 5


_SCRIPT = """
import sys
from pathlib import Path
from deconvseg.data import LabelEncoding, Normalisation, open_dataset, prepare_cases
if __name__ == "__main__":
    for _ in range({times}):
        cases = prepare_cases(
            open_dataset(sys.argv[1]), Path(sys.argv[2]), spacing={spacing}, normalisations=[Normalisation()] * 2,
            encoding=LabelEncoding((0, 3, 7), ("background", "shell", "core")), workers={workers},
        )
        print("ready", flush=True)
"""


def script(balls: Path, cache: Path, *, workers: int = 0, spacing: str = "(1.0, 1.0, 2.0)") -> subprocess.Popen:
    code = _SCRIPT.format(times=1, workers=workers, spacing=spacing)
    command = [sys.executable, "-c", code, str(balls), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_runs_may_share_a_cache(balls: Path, tmp_path: Path) -> None:
    processes = [script(balls, tmp_path) for _ in range(2)]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    entries = [path for path in tmp_path.glob("*/*") if path.is_dir()]
    assert len(entries) == 5
    for entry in entries:
        assert json.loads((entry / "entry.json").read_text())["shape"] == [24, 20, 12]


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_process_killed_while_preparing_leaves_whole_entries_only(
    balls: Path, tmp_path: Path, read: list[str]
) -> None:
    """At a fine spacing preparing takes long enough to be killed in the middle of it."""
    spacing = (0.2, 0.2, 0.4)
    process = script(balls, tmp_path, spacing=str(spacing))
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/ball*/entry.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    finished = len(list(tmp_path.glob("*/ball*/entry.json")))
    assert finished >= 1
    cases = prepare(open_dataset(balls), tmp_path, spacing=spacing)
    assert len(read) == 5 - finished
    assert all(np.isfinite(case.image[...]).all() for case in cases)


@pytest.mark.faults
def test_an_entry_that_contradicts_its_arrays_is_made_again_with_a_word(
    balls: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = open_dataset(balls).select(["ball0"])
    (whole,) = prepare(dataset, tmp_path)
    file = whole.folder / "entry.json"
    record = json.loads(file.read_text())
    (first, second) = record["classes"]
    for change in (
        {"shape": [1, 2, 3]},
        {"shape": [24, 20]},
        {"shape": 24},
        {"classes": [first]},
        {"classes": [first, [second[0], 10**30]]},
        {"classes": [[1, 1.5]]},
        {"classes": [[-1, first[1]], second]},
        {"files": []},
        {"files": {}},
    ):
        caplog.clear()
        file.write_text(json.dumps({**record, **change}))
        assert prepare(dataset, tmp_path) == [whole]
        assert "the prepared case is damaged and is made again" in caplog.text
    # The checksum fits, the array is another one.
    other = to_npy(np.full_like(whole.centres, 10**6))
    (whole.folder / "centres.npy").write_bytes(other)
    record["files"]["centres.npy"] = [len(other), zlib.crc32(other)]
    file.write_text(json.dumps(record))
    assert prepare(dataset, tmp_path) == [whole]
    assert whole.centres.max() < 24


@pytest.mark.faults
def test_damaged_records_of_the_cache_raise_nothing(balls: Path, tmp_path: Path) -> None:
    dataset = open_dataset(balls).select(["ball0"])
    (whole,) = prepare(dataset, tmp_path)
    for mutant in mutate_json(json.loads((whole.folder / "entry.json").read_text()), 60):
        (whole.folder / "entry.json").write_bytes(mutant.content)
        assert prepare(dataset, tmp_path) == [whole], mutant.name


@pytest.mark.parametrize(
    "changes", [{"resize": (9, 11, 7)}, {"crop_margin": 1}, {"normalise_first": True}, {"spacing": (2.0, 2.0, 2.0)}]
)
def test_every_choice_of_preprocessing_has_entries_of_its_own(
    balls: Path, cases: list[PreparedCase], tmp_path: Path, changes: dict
) -> None:
    dataset = open_dataset(balls)
    folder = cases[0].folder.parents[1]
    made = prepare(dataset, folder, **changes)
    assert not {case.folder for case in made} & {case.folder for case in cases}
    image, _ = dataset.load(dataset.case(made[1].name))
    options = {"spacing": (1.0, 1.0, 2.0), "normalisations": [Normalisation()] * 2, **changes}
    expected = preprocess_image(image, **options).pixels
    assert np.array_equal(made[1].image[...], expected)
    assert made[1].labels.shape == expected.shape[1:]
    # The same choices find them again.
    assert prepare(dataset, folder, **changes) == made
