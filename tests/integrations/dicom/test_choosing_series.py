"""The series of a folder of studies become the cases of a prediction by their UIDs, descriptions and rules."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest

from deconvseg.data import SeriesChoice, check_dataset, open_dataset, open_images, read_image
from deconvseg.errors import InputError
from dicom_series import save_series

ONE = SeriesChoice(count=1)


def numbers(slices=6, rows=9, columns=11):
    return np.random.default_rng(3).integers(-900, 2000, (slices, rows, columns))


def study(folder, names, uid, **options):
    """Write a study with a series for each name, in folders of their own."""
    return {
        name: save_series(
            folder / f"s{number}",
            numbers(4 + number),
            Modality="MR",
            SeriesDescription=name,
            SeriesNumber=number,
            study_uid=uid,
            frame_uid=f"{uid}.9",
            **options,
        )
        for number, name in enumerate(names)
    }


def test_each_study_is_a_case_of_the_series_that_is_asked_for(tmp_path):
    made = {name: study(tmp_path / name, ["T1 axial", "T2"], f"1.2.{place}") for place, name in enumerate("ab")}
    cases, problems = open_images(tmp_path, choice=SeriesChoice(("t1*",), 1))
    assert ([case.name for case in cases], problems) == (["a", "b"], ())
    assert cases[0].images == (min(made["a"]["T1 axial"].files),)
    assert set(cases[0].files) == set(made["a"]["T1 axial"].files)
    (case,), _ = open_images(tmp_path, choice=SeriesChoice((made["b"]["T2"].uid,), 1))
    assert (case.name, read_image(case.images).shape) == ("b", (11, 9, 5))
    with pytest.raises(InputError, match=r"`series`: nothing is 'CT' here; it holds MR 'T1 axial' \(series 0, 4 files"):
        open_images(tmp_path, choice=SeriesChoice(("CT",), 1))


def test_a_study_of_several_series_is_refused_and_the_others_go_on(tmp_path):
    study(tmp_path / "a", ["T1", "T2"], "1.2.1")
    with pytest.raises(InputError, match=r"a holds 2 series, where the network takes one: MR 'T1' .*MR 'T2'.*`series`"):
        open_images(tmp_path, choice=ONE)
    study(tmp_path / "b", ["T1"], "1.2.2")
    cases, (problem,) = open_images(tmp_path, choice=ONE)
    assert [case.name for case in cases] == ["b_s0"]
    assert (problem.file, problem.severity) == (str(tmp_path / "a"), "error")


def test_localisers_are_left_out_with_a_warning(tmp_path):
    made = study(tmp_path, ["T1"], "1.2.1")
    save_series(tmp_path / "loc", numbers(4), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], study_uid="1.2.1")
    (case,), (problem,) = open_images(tmp_path, choice=ONE)
    assert case.images == (min(made["T1"].files),)
    assert (problem.severity, "holds 1 more series, left out: CT" in problem.message) == ("warning", True)


def test_channels_follow_their_rules(tmp_path):
    made = study(tmp_path, ["T1", "t2 FLAIR tra"], "1.2.1")
    rules = {"FLAIR": {"SeriesDescription": "*flair*"}, "T1": {"SeriesDescription": "T1", "Modality": "MR"}}
    (case,), problems = open_images(tmp_path, choice=SeriesChoice((), 2, rules))
    assert case.images == (min(made["t2 FLAIR tra"].files), min(made["T1"].files))
    assert problems == ()
    told = []
    image = read_image(case.images, align=told.append)
    assert image.shape == (11, 9, 5)
    assert "resampled linearly" in told[0]
    with pytest.raises(InputError, match="on the same grid"):
        read_image(case.images)
    for rule, message in (
        ({"SeriesDescription": "PD"}, "has no series for the channel T1"),
        ({"Modality": "MR"}, "has 2 series for the channel T1"),
        ({"Nonsense": "1"}, "'Nonsense' is no attribute of DICOM"),
        ({}, "has no rule for the channel T1"),
    ):
        with pytest.raises(InputError, match=message):
            open_images(tmp_path, choice=SeriesChoice((), 2, {**rules, "T1": rule}))


def test_resampled_channels_keep_their_places(tmp_path):
    ramp = [[[10 * z + x for x in range(8)] for _ in range(8)] for z in range(12)]
    first = save_series(tmp_path / "a", ramp[::2], spacing=(4, 1, 1), frame_uid="1.2")
    second = save_series(tmp_path / "b", ramp, spacing=(2, 1, 1), frame_uid="1.2")
    image = read_image([first.folder, second.folder], align=lambda text: None)
    assert (image.pixels[0] == image.pixels[1]).all()


def test_channels_of_several_frames_of_reference_are_told(tmp_path):
    study(tmp_path / "a", ["T1"], "1.2.1")
    save_series(tmp_path / "b", numbers(4), SeriesDescription="FLAIR", study_uid="1.2.1", frame_uid="5.6.7")
    rules = {name: {"SeriesDescription": name} for name in ("T1", "FLAIR")}
    _, (problem,) = open_images(tmp_path, choice=SeriesChoice((), 2, rules))
    assert "several frames of reference" in problem.message


def test_a_series_in_two_folders_is_refused(tmp_path):
    made = study(tmp_path, ["T1"], "1.2.1")["T1"]
    (tmp_path / "more").mkdir()
    made.files[-1].rename(tmp_path / "more" / made.files[-1].name)
    with pytest.raises(InputError, match=r"in 2 folders .*move its files into one"):
        open_images(tmp_path, choice=ONE)


def test_copies_in_another_folder_are_dropped_if_they_are_the_same(tmp_path):
    made = study(tmp_path / "study", ["T1"], "1.2.1")["T1"]
    (tmp_path / "copies").mkdir()
    for file in made.files[:2]:
        shutil.copy(file, tmp_path / "copies")
    (case,), (problem,) = open_images(tmp_path, choice=ONE)
    assert (problem.severity, "2 DICOM files skipped as a copy of another" in problem.message) == ("warning", True)
    np.testing.assert_array_equal(read_image(case.images).pixels[0], made.pixels)
    copy = tmp_path / "copies" / made.files[0].name
    data = pydicom.dcmread(copy)
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(copy)
    with pytest.raises(InputError, match=f"two different files of one image .*{made.files[0]}") as refused:
        open_images(tmp_path, choice=ONE)
    assert str(copy) in str(refused.value)


def test_a_folder_of_studies_is_checked_series_by_series(tmp_path):
    made = study(tmp_path, ["T1", "T2"], "1.2.1")
    made["T2"].files[1].unlink()
    report = check_dataset(open_dataset(tmp_path))
    assert report.cases == 2
    (error,) = report.errors
    assert "lacks 1 slice between" in error.message
    assert check_dataset(open_dataset(tmp_path, series="T1")).errors == ()


def test_folders_of_slices_are_the_images_of_a_dataset(tmp_path):
    from deconvseg.data import LabelMap, write_label_map

    for name in "ab":
        save_series(tmp_path / "images" / name, numbers())
        image = read_image(tmp_path / "images" / name)
        mask = LabelMap((image.pixels[0] > 0).astype("uint8"), image.geometry)
        write_label_map(mask, tmp_path / "masks" / f"{name}.nii.gz")
    dataset = open_dataset(tmp_path)
    report = check_dataset(dataset)
    assert (dataset.layout, dataset.names, list(report.errors)) == ("folders", ("a", "b"), [])
