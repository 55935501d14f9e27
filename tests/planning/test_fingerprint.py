import json
import logging
import os
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from deconvseg.data import Case, Dataset, Image, LabelMap, open_dataset
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.planning import Fingerprint, cache_folder, take_fingerprint
from deconvseg.planning.case_facts import CaseFacts, measure_case, measuring_bytes


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_shapes_spacings_and_orientations_are_those_of_the_files_on_canonical_axes(balls: Path) -> None:
    found = take_fingerprint(open_dataset(balls))
    assert found.spatial_dims == 3
    assert set(found.shapes) == {(24, 20, 12)}
    assert np.allclose(found.spacings, (1, 1, 2))
    codes = "".join(nib.aff2axcodes(nib.load(next((balls / "labelsTr").glob("*.nii.gz"))).affine))
    assert found.orientations == {codes: 5}
    assert found.median_spacing == (1, 1, 2)
    assert found.median_shape((1, 1, 1)) == (24, 20, 24)


def test_classes_are_counted_as_scipy_counts_them(balls: Path) -> None:
    found = {entry.value: entry for entry in take_fingerprint(open_dataset(balls)).classes}
    masks = [np.asarray(nib.load(file).dataobj) for file in sorted((balls / "labelsTr").glob("*.nii.gz"))]
    assert set(found) == {0, 3, 7}
    for value in (3, 7):
        voxels = [int((mask == value).sum()) for mask in masks]
        parts = [ndimage.label(mask == value, np.ones((3, 3, 3))) for mask in masks]
        sizes = [size for labelled, _ in parts for size in np.bincount(labelled.ravel())[1:]]
        entry = found[value]
        assert (entry.cases, entry.voxels) == (5, sum(voxels))
        assert entry.components == sum(count for _, count in parts)
        assert entry.volume.median == pytest.approx(2 * np.median(voxels), rel=1e-5)
        assert entry.share.high == pytest.approx(np.percentile(np.array(voxels) / masks[0].size, 95), rel=1e-5)
        assert entry.component_voxels is not None
        assert entry.component_voxels.low == pytest.approx(np.percentile(sizes, 5), rel=1e-5)
        assert entry.component_volume is not None
        assert entry.component_volume.high == pytest.approx(2 * np.percentile(sizes, 95), rel=1e-5)


def test_intensities_are_those_of_the_foreground(discs: Path) -> None:
    from PIL import Image as PillowImage

    found = take_fingerprint(open_dataset(discs)).channels[0]
    images = [np.asarray(PillowImage.open(file)) for file in sorted((discs / "images").glob("*.png"))]
    masks = [np.asarray(PillowImage.open(file)) for file in sorted((discs / "masks").glob("*.png"))]
    inside = np.concatenate([image[mask > 0] for image, mask in zip(images, masks, strict=True)])
    # Fewer than are sampled, so nothing is left to chance.
    assert found.mean == pytest.approx(inside.mean(), rel=1e-5)
    assert found.std == pytest.approx(inside.std(), rel=1e-4)
    assert (found.percentile_0_5, found.percentile_99_5) == pytest.approx(np.percentile(inside, (0.5, 99.5)))
    assert (found.minimum, found.maximum) == (np.min(images), np.max(images))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers_measures_the_same(balls: Path, workers: int) -> None:
    data = open_dataset(balls)
    assert take_fingerprint(data, workers=workers) == take_fingerprint(data)


@pytest.mark.parametrize(("cases", "most"), [(0.5, 1), (1.5, 1), (2.5, 2), (100, 3)])
def test_no_more_cases_are_read_at_once_than_memory_holds(
    balls: Path, monkeypatch: pytest.MonkeyPatch, cases: float, most: int
) -> None:
    from deconvseg.planning import fingerprint

    at_once: list[int] = []
    reading: set[int] = set()

    def noting(dataset: Dataset, case: Case) -> CaseFacts:
        reading.add(id(case))
        at_once.append(len(reading))
        time.sleep(0.02)
        found = measure_case(dataset, case)
        reading.remove(id(case))
        return found

    monkeypatch.setattr(fingerprint, "measure_case", noting)
    data = open_dataset(balls)
    one = measuring_bytes(measure_case(data, data.cases[0]))
    found = take_fingerprint(data, workers=3, memory=int(cases * one))
    assert max(at_once) == most
    assert found == take_fingerprint(data, workers=0)


def test_a_fingerprint_survives_json(balls: Path) -> None:
    found = take_fingerprint(open_dataset(balls))
    assert Fingerprint.model_validate_json(found.model_dump_json(), strict=True) == found


def test_what_is_kept_is_read_again_until_a_file_changes(
    balls: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = tmp_path / "balls"
    shutil.copytree(balls, copy)
    loads: list[str] = []
    load = Dataset.load

    def counted(self: Dataset, case: Case) -> tuple[Image, LabelMap | None]:
        loads.append(case.name)
        return load(self, case)

    monkeypatch.setattr(Dataset, "load", counted)
    first = take_fingerprint(open_dataset(copy), cache=cache)
    assert len(loads) == 5
    assert take_fingerprint(open_dataset(copy), cache=cache) == first
    assert len(loads) == 5
    os.utime(copy / "labelsTr" / "ball0.nii.gz", (1, 1))
    assert take_fingerprint(open_dataset(copy), cache=cache) == first
    assert len(loads) == 10
    take_fingerprint(open_dataset(copy, foreground=True), cache=cache)
    assert len(loads) == 15


@pytest.mark.faults
@pytest.mark.parametrize("content", [b"", b"{", b'{"spatial_dims": "three"}', b"\xff\xfe"])
def test_a_damaged_cache_is_told_and_made_again(
    balls: Path, cache: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    data = open_dataset(balls)
    found = take_fingerprint(data, cache=cache)
    (file,) = (cache / "fingerprints").iterdir()
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING, "deconvseg"):
        assert take_fingerprint(data, cache=cache) == found
    assert "the kept fingerprint cannot be used" in caplog.text
    assert json.loads(file.read_text())["spatial_dims"] == 3


def test_a_cache_that_cannot_be_written_does_not_stop_the_work(
    balls: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file in the way")
    with caplog.at_level(logging.WARNING, "deconvseg"):
        assert take_fingerprint(open_dataset(balls), cache=cache).spatial_dims == 3
    assert "is not kept" in caplog.text


def test_the_cache_lies_where_the_system_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "deconvseg"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (InputError("ball3: is broken"), InputError, "ball3: is broken"),
        (MemoryError(), DeconvsegError, "case ball3: not enough memory"),
        (OSError("disk"), DeconvsegError, "case ball3: OSError: disk"),
    ],
)
def test_an_error_names_its_case(
    balls: Path, monkeypatch: pytest.MonkeyPatch, workers: int, failure: Exception, kind: type, message: str
) -> None:
    load = Dataset.load

    def failing(self: Dataset, case: Case) -> tuple[Image, LabelMap | None]:
        if case.name == "ball3":
            raise failure
        return load(self, case)

    monkeypatch.setattr(Dataset, "load", failing)
    with pytest.raises(kind, match=message):
        take_fingerprint(open_dataset(balls), workers=workers)


def test_many_specks_are_counted_all_and_kept_in_part(tmp_path: Path) -> None:
    from PIL import Image as PillowImage

    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    mask = np.zeros((200, 200), np.uint8)
    mask[::4, ::4] = 1
    PillowImage.fromarray(mask).save(tmp_path / "images" / "a.png")
    PillowImage.fromarray(mask).save(tmp_path / "masks" / "a.png")
    specks = take_fingerprint(open_dataset(tmp_path)).classes[1]
    assert specks.components == 2500
    assert specks.component_voxels is not None
    assert specks.component_voxels.high == 1


def test_ignored_voxels_are_no_class_and_no_foreground(balls: Path) -> None:
    data = open_dataset(balls)
    ignoring = replace(data, ignore_label=3, label_names={0: "background", 7: "core"})
    found, whole = take_fingerprint(ignoring), take_fingerprint(data)
    assert [entry.value for entry in found.classes] == [0, 7]
    assert found.classes[1] == whole.classes[2]
    # The core is brighter than the shell around it.
    assert found.channels[0].mean > whole.channels[0].mean


def test_cases_without_foreground_say_nothing_of_its_intensities(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for name in "abcd":
        image = rng.normal(-1000, 5, (12, 12, 6)).astype(np.float32)
        mask = np.zeros(image.shape, np.uint8)
        if name != "d":
            mask[4:8, 4:8, 2:4] = 1
            image[mask > 0] = rng.normal(80, 5, int(mask.sum()))
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "imagesTr" / f"{name}_0000.nii.gz")
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "labelsTr" / f"{name}.nii.gz")
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    channel = take_fingerprint(open_dataset(tmp_path)).channels[0]
    assert 75 < channel.mean < 85
    assert channel.percentile_0_5 > 50
    assert channel.std < 10


def test_the_order_of_the_cases_makes_no_other_fingerprint(discs: Path, cache: Path) -> None:
    data = open_dataset(discs)
    first = take_fingerprint(data, cache=cache)
    assert take_fingerprint(data.select(reversed(data.names)), cache=cache) == first
    assert len(list(cache.rglob("*.json"))) == 1
