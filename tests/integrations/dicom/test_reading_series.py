"""Series of DICOM are read with the voxels and places of what was written, and of what other readers find."""

from __future__ import annotations

import doctest
import importlib
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.data import get_testdata_file

from deconvseg.data import image_from_itk, read_header, read_image
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations.dicom import find_series, list_folder, read_series, series_of, stack
from dicom_series import AXIAL, CORONAL, SAGITTAL, oblique, save_series

#: A folder with the public sets dcm_qa, dcm_qa_enh, dcm_qa_ct and dicom2nifti, as their repositories have them.
PUBLIC = os.environ.get("DECONVSEG_DICOM")


def numbers(slices=6, rows=9, columns=11):
    return np.random.default_rng(3).integers(-900, 2000, (slices, rows, columns))


def change(file, **attributes):
    """Set or (None) delete attributes of a file."""
    data = pydicom.dcmread(file)
    for name, value in attributes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(file)


@pytest.mark.parametrize("against", [False, True])
@pytest.mark.parametrize("multi_frame", [False, True])
@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, oblique((20, -35, 50))])
def test_any_order_and_orientation_has_the_places_that_were_written(tmp_path, orientation, multi_frame, against):
    made = save_series(
        tmp_path / "s", numbers(), orientation=orientation, multi_frame=multi_frame, against_normal=against
    )
    image = read_image(made.folder)
    # Slices are in the order of the normal, so the written volume may be reversed.
    pixels, affine = made.pixels, made.affine
    if against:
        pixels = pixels[:, :, ::-1]
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, pixels.shape[2] - 1], [0, 0, 0, 1.0]])
    np.testing.assert_array_equal(image.pixels[0], pixels)
    np.testing.assert_allclose(image.geometry.affine, affine, atol=1e-4)


@pytest.mark.parametrize("orientation", [AXIAL, oblique((10, 25, -15), SAGITTAL)])
def test_a_series_is_what_itk_reads(tmp_path, orientation):
    made = save_series(tmp_path / "s", numbers(), orientation=orientation)
    pixels, geometry = image_from_itk(sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(made.folder))))
    image = read_image(made.folder)
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.geometry.matches(geometry)


def test_any_file_stands_for_its_series(tmp_path):
    made = save_series(tmp_path, numbers(), prefix="a")
    other = save_series(tmp_path, numbers(4), prefix="b")
    assert sorted(len(series.files) for series in find_series(tmp_path).series) == [4, 6]
    assert series_of(made.files[3]).files == made.files
    assert read_header(other.files[2]).shape == (11, 9, 4)
    with pytest.raises(
        InputError, match=r"holds 2 series, where one is expected: CT 'CT generated' \(series 3, [46] files"
    ):
        read_image(tmp_path)


def test_each_slice_has_its_own_scale(tmp_path):
    slopes, intercepts = [1.0, 2.0, 0.5, 1.0, 3.0, 1.0], [0.0, -1024.0, 3.0, 0.0, 5.0, 7.0]
    made = save_series(tmp_path, numbers(), RescaleSlope=slopes, RescaleIntercept=intercepts)
    np.testing.assert_allclose(read_image(tmp_path).pixels[0], made.pixels * slopes + np.array(intercepts))


def thin_out(files, **attributes):
    """Remove every second slice, and set attributes of the others."""
    for place, file in enumerate(files):
        if place % 2:
            file.unlink()
        else:
            change(file, **attributes)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda files: files[2].unlink(), r"lacks 1 slice between IM\d+\.dcm \(.* mm\) and IM"),
        (lambda files: [file.unlink() for file in files[2:4]], "lacks 2 slices between"),
        (
            lambda files: change(shutil.copy(files[2], files[2].with_name("copy.dcm")), WindowCenter=7),
            "copy.dcm.* which are different files of the same images",
        ),
        (lambda files: change(files[2], ImagePositionPatient=[-30, -40, 53.4]), "has slices from .* to .* mm apart"),
        (lambda files: change(files[2], ImageOrientationPatient=[1, 0, 0, 0, 0, 1]), "has slices in 2 orientations"),
        (lambda files: change(files[2], FrameOfReferenceUID="1.2.3"), "has several frames of reference"),
        (lambda files: change(files[2], PixelSpacing=[1, 1]), "has several distances between pixels"),
        (lambda files: change(files[2], ImagePositionPatient=None), "1 frame of 6 without a position"),
        (lambda files: change(files[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "is a localiser"),
        (lambda files: change(files[0], ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "is a mosaic of Siemens"),
        (lambda files: files[2].write_bytes(files[2].read_bytes()[:-40]), "truncated"),
        (lambda files: files[2].write_bytes(files[2].read_bytes()[:300]), "truncated|no pixel data"),
        (lambda files: files[2].write_text("no image"), "is not DICOM"),
        (lambda files: change(files[2], ImagePositionPatient=[-10, -40, 55]), r"IM\d+\.dcm 20 mm beside the line"),
        (lambda files: change(files[2], RescaleSlope=0), "has the rescale slope 0 and intercept .*no image"),
        (lambda files: thin_out(files, SpacingBetweenSlices=2.5), "slices 5 mm apart, where their headers say 2.5 mm"),
        (lambda files: change(files[2], EchoTime=5, ImagePositionPatient=[-30, -40, 52.5]), "several slices at 1 of 5"),
    ],
)
def test_a_series_that_is_no_volume_is_refused(tmp_path, damage, text):
    made = save_series(tmp_path / "s", numbers())
    damage(made.files)
    with pytest.raises(InputError, match=text):
        read_image(made.folder)


@pytest.mark.parametrize(("thickness", "accepted"), [(2.5, True), (2.0, True), (1.0, False), (None, False)])
def test_two_slices_are_a_volume_if_their_thickness_says_that_they_are_neighbours(tmp_path, thickness, accepted):
    made = save_series(tmp_path, np.zeros((2, 4, 5), np.int16), SliceThickness=thickness)
    if accepted:
        assert read_image(made.folder).shape == (5, 4, 2)
        return
    with pytest.raises(InputError, match=r"has 2 slices 2.5 mm apart, with(out)? a thickness.*missing"):
        read_image(made.folder)


def test_a_copy_of_a_file_is_no_slice(tmp_path):
    made = save_series(tmp_path, numbers())
    copy = Path(shutil.copy(made.files[2], tmp_path / "AAA.dcm"))
    found = find_series(tmp_path)
    assert len(found.series[0].files) == 6
    assert [each.reason for each in found.skipped] == ["a copy of another file of its series"]
    for path in (tmp_path, copy, made.files[2]):
        np.testing.assert_array_equal(read_image(path).pixels[0], made.pixels)


def test_gaps_wider_than_slices_are_told_of(tmp_path):
    thin_out(save_series(tmp_path, numbers(), SliceThickness=2.5).files)
    (note,) = stack(series_of(tmp_path)).notes
    assert note == "has 3 slices 5 mm apart, with a thickness of 2.5 mm: if it was not taken so, slices are missing"


def test_a_tilted_gantry_is_refused(tmp_path):
    made = save_series(tmp_path / "s", numbers())
    for number, file in enumerate(made.files):
        change(file, ImagePositionPatient=[-30, -40 + 0.4 * number, 50 + 2.5 * number])
    with pytest.raises(InputError, match=r"sheared: .* by 2 mm sideways, 9\.09° \(a tilted gantry\); correct the tilt"):
        read_image(made.folder)


def test_other_objects_are_skipped_and_named(tmp_path):
    made = save_series(tmp_path, numbers())
    for name in ("test-SR.dcm", "SC_rgb_rle.dcm", "rtplan.dcm"):
        shutil.copy(get_testdata_file(name), tmp_path / name)
    found = find_series(tmp_path)
    assert [series.uid for series in found.series] == [made.uid]
    assert {each.path.name: each.reason for each in found.skipped} == {
        "test-SR.dcm": "a structured report",
        "SC_rgb_rle.dcm": "a secondary capture",
        "rtplan.dcm": "a treatment plan or its structures",
    }
    np.testing.assert_array_equal(read_image(tmp_path).pixels[0], made.pixels)


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", "SC_rgb_small_odd.dcm"])
def test_a_picture_in_colour_is_2d(tmp_path, name):
    file = Path(shutil.copy(get_testdata_file(name), tmp_path))
    image = read_image(file)
    expected = pydicom.pixels.pixel_array(file)
    np.testing.assert_array_equal(image.pixels, np.moveaxis(expected, -1, 0))
    assert read_header(file).shape == expected.shape[:2]


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm"]
)
def test_compressed_files_have_the_voxels_of_the_plain_one(tmp_path, name):
    plain = read_image(Path(shutil.copy(get_testdata_file("MR_small.dcm"), tmp_path)))
    (tmp_path / "packed").mkdir()
    packed = read_image(Path(shutil.copy(get_testdata_file(name), tmp_path / "packed")))
    np.testing.assert_array_equal(packed.pixels, plain.pixels)
    assert packed.geometry.matches(plain.geometry)


def test_a_compression_without_a_decoder_says_what_to_install(tmp_path, monkeypatch):
    file = Path(shutil.copy(get_testdata_file("MR_small_jp2klossless.dcm"), tmp_path))
    decoder = pydicom.pixels.get_decoder(pydicom.uid.JPEG2000Lossless)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(MissingPackageError, match=r"JPEG 2000 .*no decoder is installed.*deconvseg\[dicom\]"):
        read_image(file)


def test_small_numbers_that_are_white_are_inverted(tmp_path):
    made = save_series(tmp_path, numbers(1), Modality="OT", PhotometricInterpretation="MONOCHROME1")
    change(made.files[0], ImagePositionPatient=None, ImageOrientationPatient=None, Modality="DX")
    image, stored = read_image(made.files[0]), made.pixels[:, :, 0].T
    np.testing.assert_array_equal(image.pixels[0], -1 - stored)


@pytest.mark.parametrize("content", [b"", bytes(100)])
def test_a_slice_without_an_ending_that_lost_its_content_is_told_of(tmp_path, content):
    made = save_series(tmp_path, numbers())
    files = [file.rename(file.with_suffix("")) for file in made.files]
    (tmp_path / "VERSION").write_text("1.0\n")
    assert read_image(tmp_path).shape == made.pixels.shape
    files[-1].write_bytes(content)
    with pytest.raises(InputError, match=rf"{files[-1].name} (is|cannot)"):
        read_image(tmp_path)


def test_frames_that_are_not_described_are_refused(tmp_path):
    (file,) = save_series(tmp_path, numbers(), multi_frame=True).files
    whole = pydicom.dcmread(file)
    whole.PerFrameFunctionalGroupsSequence = whole.PerFrameFunctionalGroupsSequence[:4]
    whole.save_as(file)
    with pytest.raises(InputError, match="has 6 frames, and describes 4;"):
        read_image(file)
    del whole.PerFrameFunctionalGroupsSequence
    whole.NumberOfFrames = 30_000_000
    whole.save_as(file)
    with pytest.raises(InputError, match=r"says that \d+ bytes hold 30000000 frames"):
        read_image(file)


def test_small_numbers_that_are_white_are_inverted_with_a_place_too(tmp_path):
    made = save_series(tmp_path, numbers(1), Modality="OT", PhotometricInterpretation="MONOCHROME1")
    change(made.files[0], Modality="DX")
    np.testing.assert_array_equal(read_image(made.files[0]).pixels[0], -1 - made.pixels)


def test_a_file_without_its_first_part_is_read(tmp_path):
    made = save_series(tmp_path, numbers())
    for file in made.files:
        header = pydicom.dcmread(file)
        bare = pydicom.Dataset({element.tag: element for element in header})
        bare.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
    np.testing.assert_array_equal(read_image(made.folder).pixels[0], made.pixels)


def test_distances_between_pixels_may_be_rounded(tmp_path):
    made = save_series(tmp_path, numbers())
    for number, file in enumerate(made.files):
        change(file, PixelSpacing=[0.68365 + 1e-6 * (number % 3 - 1)] * 2)
    assert read_image(made.folder).shape == made.pixels.shape


def test_a_folder_is_listed_with_its_grids(tmp_path):
    save_series(tmp_path / "one", numbers(), SeriesDescription="T1", SeriesNumber=2)
    bad = save_series(tmp_path / "two", numbers(), SeriesDescription="T2", SeriesNumber=5)
    bad.files[1].unlink()
    found = {each.series.description: each for each in list_folder(tmp_path).series}
    assert (found["T1"].shape, found["T1"].spacing) == ((11, 9, 6), pytest.approx((0.7, 0.8, 2.5)))
    assert found["T2"].shape is None
    assert found["T2"].problem.startswith("lacks 1 slice between")
    assert [each.series.description for each in list_folder(tmp_path, "t2*").series] == ["T2"]


@pytest.mark.parametrize("module", ["listing", "reading", "series", "stacking"])
def test_the_examples_of_the_docstrings_give_what_they_show(tmp_path, monkeypatch, module):
    for number, name in enumerate(("T1", "FLAIR"), 1):
        save_series(
            tmp_path / "STUDY" / name,
            numbers(12, 20, 24),
            spacing=(2, 1, 1),
            Modality="MR",
            SeriesDescription=name,
            SeriesNumber=number,
            study_uid="1.2.3",
        )
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(f"deconvseg.integrations.dicom.{module}"))
    assert (found.failed, found.attempted > 0) == (0, True)


def in_the_same_world(first, first_affine, second, second_affine):
    """Return whether two volumes have the same voxels at the same places, whatever the order of their axes."""
    ours = nib.as_closest_canonical(nib.Nifti1Image(first, first_affine))
    theirs = nib.as_closest_canonical(nib.Nifti1Image(second, second_affine))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=2e-2)
    np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(PUBLIC is None, reason="DECONVSEG_DICOM names no folder of public series")
@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_public_series_are_what_dcm2niix_makes_of_them(tmp_path):
    compared = 0
    for listed in list_folder(PUBLIC).series:
        if listed.shape is None or len(listed.shape) != 3 or listed.series.modality not in ("CT", "MR"):
            continue
        source, out = tmp_path / f"in{compared}", tmp_path / f"out{compared}"
        source.mkdir(), out.mkdir()
        for number, file in enumerate(listed.series.files):
            shutil.copy(file, source / f"{number:05d}.dcm")
        subprocess.run(["dcm2niix", "-z", "n", "-p", "n", "-o", out, source], capture_output=True, check=False)
        made = list(out.glob("*.nii"))
        if len(made) != 1 or len(nib.load(made[0]).shape) != 3:
            continue
        image, theirs = read_series(listed.series), nib.load(made[0])
        in_the_same_world(image.pixels[0], image.geometry.affine, theirs.get_fdata(), theirs.affine)
        compared += 1
    assert compared
