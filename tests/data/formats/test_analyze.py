"""Pairs of .hdr and .img: what nibabel reads, what Analyze does not say, and which of the two files a listing has."""

import struct

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import (
    Geometry,
    LabelMap,
    check_dataset,
    check_same_grid,
    list_image_files,
    mask_suffix,
    open_dataset,
    open_images,
    read_header,
    read_image,
    read_label_map,
    read_mask_pair,
    write_label_map,
)
from deconvseg.data.file_names import files_of
from deconvseg.errors import InputError

OBLIQUE = np.array([[0.1, -2, 0.2, 5], [0.9, 0.1, 0, -7], [0, 0.3, 3, 11], [0, 0, 0, 1]])
SPACED = np.diag([-2.0, 1.5, 3.0, 1.0])  # what Analyze can say: voxel sizes, x from right to left
SIDES = "does not say which side is left"


def save(path, pixels, kind=nib.Spm99AnalyzeImage, affine=SPACED):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(kind(pixels, affine), path)
    path.with_suffix(".mat").unlink(missing_ok=True)
    return path


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    dtype=st.sampled_from([np.uint8, np.int16, np.int32, np.float32, np.float64]),
    kind=st.sampled_from([nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage]),
)
def test_analyze_is_what_nibabel_reads(tmp_path_factory, shape, dtype, kind):
    pixels = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    path = save(tmp_path_factory.mktemp("analyze") / "scan.img", pixels, kind)
    image, reference = read_image(path), nib.load(path)
    assert np.array_equal(image.pixels[0], reference.get_fdata(dtype=np.float32))
    assert np.array_equal(image.geometry.affine, reference.affine)
    assert nib.aff2axcodes(image.geometry.affine) == ("L", "A", "S")
    assert np.array_equal(read_label_map(path).pixels, pixels)


@settings(deadline=None, max_examples=15)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    kinds=st.sampled_from([(nib.Nifti1Pair, nib.Nifti1Image), (nib.Nifti2Pair, nib.Nifti2Image)]),
    slope=st.sampled_from([1.0, 0.25]),
    ending=st.sampled_from([".img", ".hdr"]),
)
def test_a_nifti_in_two_files_is_the_one_in_one_file(tmp_path_factory, shape, kinds, slope, ending):
    folder = tmp_path_factory.mktemp("pair")
    pixels = np.random.default_rng(1).integers(0, 100, shape).astype(np.int16)
    for kind, name in zip(kinds, ("scan.img", "scan.nii"), strict=True):
        volume = kind(pixels, OBLIQUE)
        volume.header.set_slope_inter(slope, 3.0)
        nib.save(volume, folder / name)
    pair, single = read_image(folder / f"scan{ending}"), read_image(folder / "scan.nii")
    assert np.array_equal(pair.pixels, single.pixels)
    assert np.array_equal(pair.geometry.affine, single.geometry.affine)
    assert read_header(folder / f"scan{ending}").notes == ()


def test_what_analyze_does_not_say_is_a_warning_of_its_file(tmp_path):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.img", np.random.default_rng(ord(name)).normal(size=(4, 5, 6)))
        save(tmp_path / "masks" / f"{name}.img", np.ones((4, 5, 6), np.uint8))
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.diag([2, 1.5, 3, 1])), tmp_path / "masks" / "a.nii")
    for part in ("img", "hdr"):
        (tmp_path / "masks" / f"a.{part}").unlink()
    report = check_dataset(open_dataset(tmp_path))
    told = [problem for problem in report.problems if SIDES in problem.message]
    assert {problem.file.rsplit("/", 2)[-1] for problem in told} == {"a.img", "b.img"}
    assert {problem.severity for problem in told} == {"warning"}
    assert "read by   analyze 3, nifti 1 (a.nii)" in report.to_text()
    assert report.to_json()["readers"] == {"analyze": 3, "nifti": 1}


def test_orientations_and_files_that_are_not_used_are_named(tmp_path):
    path = save(tmp_path / "scan.img", np.zeros((4, 5, 6), np.int16))
    header = bytearray(path.with_suffix(".hdr").read_bytes())
    header[252] = 2
    path.with_suffix(".hdr").write_bytes(header)
    path.with_suffix(".mat").write_bytes(b"place")
    notes = read_header(path).notes
    assert any("orientation 'sagittal'" in note for note in notes)
    assert any("scan.mat, which is not read" in note for note in notes)


def test_voxel_sizes_of_zero_are_one_and_said(tmp_path):
    path = save(tmp_path / "scan.img", np.zeros((4, 5, 6), np.int16))
    header = bytearray(path.with_suffix(".hdr").read_bytes())
    header[80:92] = struct.pack("<3f", 0, -2, 3)
    path.with_suffix(".hdr").write_bytes(header)
    assert read_image(path).geometry.spacing == (1, 2, 3)
    assert any("(0, -2, 3): 0 is taken for 1" in note for note in read_header(path).notes)


def test_a_compressed_half_is_to_be_unpacked(tmp_path):
    path = save(tmp_path / "scan.img", np.zeros((4, 5, 6), np.int16))
    path.rename(tmp_path / "scan.img.gz")
    with pytest.raises(InputError, match=r"scan\.hdr is one of a pair of files, and scan\.img\.gz is compressed"):
        read_image(tmp_path / "scan.hdr")


@pytest.mark.parametrize("endings", [(".IMG", ".HDR"), (".Img", ".Hdr"), (".img", ".HDR"), (".Img", ".hdr")])
def test_endings_of_a_pair_may_be_in_capitals(tmp_path, endings):
    path = save(tmp_path / "scan.img", np.ones((4, 5, 6), np.int16))
    for old, new in zip((".img", ".hdr"), endings, strict=True):
        path.with_suffix(old).rename(path.with_suffix(new))
    assert read_image(path.with_suffix(endings[1])).shape == (4, 5, 6)
    assert [file.name for file in list_image_files(tmp_path)] == [f"scan{endings[0]}"]


def test_half_a_pair_names_the_other_half(tmp_path):
    for left, missing in ((".img", "scan.hdr"), (".hdr", "scan.img")):
        path = save(tmp_path / "scan.img", np.zeros((4, 5, 6), np.int16))
        (tmp_path / missing).unlink()
        with pytest.raises(
            InputError, match=rf"scan\{left} is one of a pair of files, but {missing} is not next to it"
        ):
            read_image(path.with_suffix(left))


def test_capitals_are_the_same_pair(tmp_path):
    path = save(tmp_path / "scan.img", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    for part in (".img", ".hdr"):
        path.with_suffix(part).rename(tmp_path / f"SCAN{part.upper()}")
    assert np.array_equal(read_image(tmp_path / "SCAN.HDR").pixels[0], np.arange(24).reshape(2, 3, 4))
    cases, problems = open_images(tmp_path)
    assert [case.images[0].name for case in cases] == ["SCAN.IMG"]
    assert problems == ()


def test_a_pair_is_one_image_by_either_name(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"{name}.img", np.zeros((2, 3, 4), np.int16))
    cases, problems = open_images(tmp_path)
    assert [[path.name for path in case.images] for case in cases] == [["a.img"], ["b.img"]]
    assert problems == ()
    (case,), _ = open_images(tmp_path / "a.hdr")
    assert (case.name, case.images) == ("a", (tmp_path / "a.img",))
    assert set(case.files) == {tmp_path / "a.img", tmp_path / "a.hdr"} == set(files_of(tmp_path / "a.hdr"))


def test_a_pair_beside_another_format_is_its_copy(tmp_path):
    save(tmp_path / "a.img", np.zeros((2, 3, 4), np.int16))
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    cases, problems = open_images(tmp_path)
    assert [case.images[0].name for case in cases] == ["a.nii.gz"]
    assert problems == ()


def test_channels_may_be_pairs(tmp_path):
    for channel in range(2):
        save(tmp_path / "imagesTr" / f"c_{channel:04d}.img", np.full((2, 3, 4), channel, np.int16), nib.Nifti1Pair)
    save(tmp_path / "labelsTr" / "c.img", np.ones((2, 3, 4), np.uint8), nib.Nifti1Pair)
    dataset = open_dataset(tmp_path)
    image, labels = dataset.load(dataset.cases[0])
    assert image.pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert labels is not None
    assert dataset.problems == ()


def test_masks_of_pairs_are_nifti_and_lie_on_their_image(tmp_path):
    path = save(tmp_path / "scan.img", np.zeros((4, 5, 6), np.int16))
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    assert mask_suffix(path) == mask_suffix("scan.hdr") == ".nii.gz"
    write_label_map(LabelMap(labels, read_image(path).geometry), tmp_path / "mask.nii.gz", like=path)
    save(tmp_path / "truth.img", labels)
    truth, mask = read_mask_pair(tmp_path / "truth.img", tmp_path / "mask.nii.gz")
    assert np.array_equal(truth.pixels, mask.pixels)
    assert np.array_equal(nib.load(tmp_path / "mask.nii.gz").affine, nib.load(path).affine)
    with pytest.raises(InputError, match=r"mask\.img: a mask is not written as \.img; use \.nii\.gz"):
        write_label_map(LabelMap(labels, Geometry.identity(3)), tmp_path / "mask.img")


def test_a_mask_of_an_image_without_a_place_fits_a_true_mask_with_one(tmp_path):
    """Training and evaluation compare them: the true mask may be a NIfTI that a viewer has given a place."""
    path = save(tmp_path / "scan.img", np.zeros((4, 5, 6), np.int16))
    affine = np.array(nib.load(path).affine)
    affine[:3, 3] += (3, -40, 7)
    labels = np.ones((4, 5, 6), np.uint8)
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "truth.nii.gz")
    image = read_image(path)
    check_same_grid(image, path, read_label_map(tmp_path / "truth.nii.gz"), tmp_path / "truth.nii.gz")
    write_label_map(LabelMap(labels, image.geometry), tmp_path / "mask.nii.gz", like=path)
    read_mask_pair(tmp_path / "truth.nii.gz", tmp_path / "mask.nii.gz")
    placed = nib.Nifti1Image(labels, np.diag([2, 1.5, 3, 1]))
    nib.save(placed, tmp_path / "other.nii.gz")
    write_label_map(LabelMap(labels, read_image(tmp_path / "other.nii.gz").geometry), tmp_path / "second.nii.gz")
    assert nib.load(tmp_path / "second.nii.gz").header["sform_code"] > 0


def test_another_hdr_file_is_no_pair(tmp_path):
    (tmp_path / "scan.img").write_bytes(bytes(100))
    (tmp_path / "scan.hdr").write_text("ENVI\nsamples = 10\n" * 40)
    with pytest.raises(InputError, match=r"scan\.img is truncated or not a readable Analyze or NIfTI pair"):
        read_image(tmp_path / "scan.img")
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "picture.png")
    cases, _ = open_images(tmp_path)
    assert [case.name for case in cases] == ["picture", "scan"]
