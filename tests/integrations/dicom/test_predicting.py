"""Predictions of DICOM series: segmentations by default, equal to the masks of the route by NIfTI."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from deconvseg.data import list_readers, read_label_map
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import predict

pytest.importorskip("highdicom", reason="highdicom is not installed")

from deconvseg.integrations.dicom import read_segmentation
from dicom_series import CORONAL, PATIENT, GeneratedSeries, oblique, save_series
from plans import volume_run

pytestmark = pytest.mark.skipif("dicom" not in list_readers(), reason="no reader of DICOM is installed")


def scan(folder: Path, **options: Any) -> GeneratedSeries:
    volume = np.random.default_rng(0).normal(100, 40, (8, 12, 10)).cumsum(1)
    return save_series(folder, volume, spacing=(1.5, 1.0, 1.0), **options)


@pytest.mark.parametrize("orientation", [CORONAL, oblique((15, 10, -20))])
def test_a_series_gives_a_segmentation_with_the_voxels_of_its_nifti_mask(tmp_path: Path, orientation: Any) -> None:
    series = scan(tmp_path / "series", orientation=orientation, against_normal=True)
    run = volume_run(tmp_path / "run")
    done = predict(series.folder, run, tmp_path / "seg", device="cpu")
    (file,) = done.written
    assert file.suffix == ".dcm"
    found = read_segmentation(file)
    assert found.names == {5: "a", 300: "b"}
    assert found.series_uid == series.uid
    assert any("no code is known for a, b" in text for text in done.warnings)
    (plain,) = predict(series.folder, run, tmp_path / "nii", device="cpu", to="nifti").written
    image = nibabel.load(plain)
    mask = np.asarray(image.dataobj)
    assert mask.any()
    places = np.argwhere(found.labels.pixels)
    world = np.column_stack([places, np.ones(len(places))]) @ found.labels.geometry.affine.T
    voxels = world @ np.linalg.inv(image.affine).T
    assert np.abs(voxels - np.rint(voxels)).max() < 1e-3
    again = np.zeros(mask.shape, np.int64)
    again[tuple(np.rint(voxels[:, :3]).astype(int).T)] = found.labels.pixels[tuple(places.T)]
    np.testing.assert_array_equal(again, mask)


def test_segmentations_are_kept_by_what_they_were_made_with(tmp_path: Path) -> None:
    series, run = scan(tmp_path / "series"), volume_run(tmp_path / "run")
    codes = tmp_path / "codes.csv"
    codes.write_text("name,category,type\na,SCT^91723000^Anatomical Structure,SCT^10200004^Liver\n", "utf-8")
    options: dict[str, Any] = {"device": "cpu", "skip_existing": True}
    assert predict(series.folder, run, tmp_path / "seg", **options).written
    assert predict(series.folder, run, tmp_path / "seg", **options).skipped
    (file,) = predict(series.folder, run, tmp_path / "seg", codes=codes, **options).written
    import highdicom

    kept = highdicom.seg.segread(file).get_segment_description(1)
    assert kept.segmented_property_type.meaning == "Liver"
    assert predict(series.folder, run, tmp_path / "seg", codes=codes, seg_type="labelmap", **options).written


def test_probabilities_are_those_of_the_prediction(tmp_path: Path) -> None:
    import highdicom

    series, run = scan(tmp_path / "series"), volume_run(tmp_path / "run")
    done = predict(series.folder, run, tmp_path / "seg", device="cpu", seg_type="fractional", save_probabilities=True)
    with np.load(done.written[0].with_suffix(".npz")) as archive:
        shares = archive["probabilities"][1:]
    found = highdicom.seg.segread(done.written[0]).get_volume().array
    # The order of axes and their directions do not matter here: all values are there.
    np.testing.assert_allclose(np.sort(found, None), np.sort(shares, None), atol=0.5 / 255 + 1e-6)


def test_no_file_but_the_segmentation_knows_the_patient(tmp_path: Path) -> None:
    series, run = scan(tmp_path / "Head_Generated", prefix="Generated_Head_"), volume_run(tmp_path / "run")
    done = predict(series.folder, run, tmp_path / "seg", device="cpu", anonymise=True)
    assert done.written
    for file in (tmp_path / "seg").rglob("*"):
        assert "head" not in file.name.lower()
        if file.is_file() and file.suffix != ".dcm":
            text = file.read_text("utf-8")
            assert not [word for word in ("Head", PATIENT["PatientID"], series.uid) if word in text], file
    assert predict(series.folder, run, tmp_path / "seg", device="cpu", anonymise=True, skip_existing=True).skipped
    line = json.loads((tmp_path / "seg" / "predictions.jsonl").read_text().splitlines()[-1])
    assert {state["name"] for state in line["images"]} == {""}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    series, run = scan(tmp_path / "series"), volume_run(tmp_path / "run")
    codes = tmp_path / "codes.csv"
    codes.write_text("name,category,type\nliver,SCT^91723000^Anatomical Structure,SCT^10200004^Liver\n", "utf-8")
    with pytest.raises(InputError, match="'liver' is no structure of the run"):
        predict(series.folder, run, tmp_path / "seg", device="cpu", codes=codes)
    (plain,) = predict(series.folder, run, tmp_path / "nii", device="cpu", to="nifti").written
    with pytest.raises(InputError, match="is no DICOM"):
        predict(plain, run, tmp_path / "seg", device="cpu", to="dicom-seg")
    with pytest.raises(InputError, match="no mask is written as one"):
        predict(plain, run, tmp_path / "seg", device="cpu", seg_type="labelmap")
    assert read_label_map(plain).pixels.any()


def test_regions_that_overlap_are_whole_in_their_segments(tmp_path: Path) -> None:
    import highdicom

    labels = {"values": [0, 1, 2], "names": ["background", "oedema", "core"]}
    regions = [{"name": "core", "labels": [2], "paints": 2}, {"name": "whole", "labels": [1, 2], "paints": 1}]
    config = {"in_channels": 1, "out_channels": 2, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    model = {"name": "deconver", "config": config}
    run = volume_run(tmp_path / "run", labels=labels, regions=regions, model=model)
    series = scan(tmp_path / "series")
    (file,) = predict(series.folder, run, tmp_path / "seg", device="cpu", threshold=0.5).written
    assert not (tmp_path / "seg" / "regions").exists()
    (plain,) = predict(
        series.folder, run, tmp_path / "nii", device="cpu", to="nifti", save_regions=True, threshold=0.5
    ).written
    found = highdicom.seg.segread(file)
    volume = found.get_volume()
    for number, described in enumerate(found.SegmentSequence):
        (whole,) = (tmp_path / "nii" / "regions" / described.SegmentLabel).glob("*.nii.gz")
        assert int(volume.array[..., number].sum()) == int(np.asarray(nibabel.load(whole).dataobj).sum())
    with pytest.raises(InputError, match="regions that overlap"):
        predict(series.folder, run, tmp_path / "no", device="cpu", seg_type="labelmap")
    assert plain.name.endswith(".nii.gz")


def test_a_server_that_cannot_be_reached_is_told_of_before_weights_are_loaded(tmp_path: Path) -> None:
    run = volume_run(tmp_path / "run")
    (weights,) = run.glob("*.safetensors")
    weights.write_bytes(b"damaged")
    with pytest.raises(DeconvsegError, match=r"http://127\.0\.0\.1:9/pacs: cannot be reached; check the address"):
        predict("dicomweb://127.0.0.1:9/pacs/studies/1.2.3", run, tmp_path / "masks", device="cpu")
