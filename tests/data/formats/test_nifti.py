"""What NIfTI headers say is taken as it is meant: units, forms, scaling, axes; what they cannot say is named."""

import gzip
import os
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import (
    Geometry,
    LabelMap,
    check_dataset,
    check_same_grid,
    open_dataset,
    read_header,
    read_image,
    read_label_map,
    report_problems,
    write_label_map,
)
from deconvseg.errors import InputError

RNG = np.random.default_rng(0)
OBLIQUE = np.array([[0.1, -2, 0.2, 5], [0.9, 0.1, 0, -7], [0, 0.3, 3, 11], [0, 0, 0, 1]])


def save(path, pixels, affine=OBLIQUE, units="mm", forms=(0, 2), **fields):
    """A NIfTI with these codes of qform and sform; fields are written into its header as they are."""
    volume = nib.Nifti1Image(pixels, affine)
    volume.header.set_xyzt_units(units)
    nib.save(volume, path)
    raw = path.read_bytes()
    content = bytearray(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    header["qform_code"], header["sform_code"] = forms
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def flip_until_only_the_checksum_tells(content):
    """The gzip stream with one bit flipped so that it can be unpacked and only its checksum differs."""
    for place in range(len(content) // 2, len(content) - 8):
        changed = bytearray(content)
        changed[place] ^= 4
        plain = zlib.decompressobj(-15)
        try:
            plain.decompress(bytes(changed[10:]))
        except zlib.error:
            continue
        if len(plain.unused_data) == 8:
            return bytes(changed)
    raise AssertionError


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["bit", "checksum", "length", "cut", "behind"])
def test_a_compressed_file_is_read_to_its_checksum(tmp_path, damage):
    path = save(tmp_path / "scan.nii.gz", RNG.integers(0, 99, (9, 8, 7), dtype=np.int16))
    content = path.read_bytes()
    changed = {
        "bit": flip_until_only_the_checksum_tells(content),
        "checksum": content[:-8] + bytes(4) + content[-4:],
        "length": content[:-4] + bytes(4),
        "cut": content[:-3],
        "behind": content + b"more",
    }[damage]
    path.write_bytes(changed)
    for read in (read_image, read_label_map):
        with pytest.raises(InputError, match=r"scan\.nii\.gz is truncated or not a readable NIfTI file"):
            read(path)
    path.write_bytes(content + gzip.compress(b"") + bytes(8))  # another member and zeros are part of the format
    assert read_image(path).shape == (9, 8, 7)


@pytest.mark.parametrize(("units", "scale"), [("mm", 1.0), ("unknown", 1.0), ("meter", 1e-3), ("micron", 1e3)])
@pytest.mark.parametrize("forms", [(0, 2), (1, 0), (1, 1), (0, 0)])
def test_lengths_are_millimetres_and_a_mask_has_the_unit_of_its_image(tmp_path, units, scale, forms):
    path = tmp_path / "scan.nii"
    millimetres = np.diag([0.8, 1.1, 2.5, 1])
    volume = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([scale, scale, scale, 1]) @ millimetres)
    volume.header.set_xyzt_units(units)
    volume.set_qform(volume.affine, forms[0])
    volume.set_sform(volume.affine, forms[1])
    nib.save(volume, path)
    image = read_image(path)
    assert image.geometry.spacing == pytest.approx((0.8, 1.1, 2.5), rel=1e-6)
    assert read_header(path).notes == ()
    write_label_map(LabelMap(np.ones((4, 5, 6), np.uint8), image.geometry), tmp_path / "mask.nii.gz", like=path)
    source, mask = nib.load(path), nib.load(tmp_path / "mask.nii.gz")
    for name in ("pixdim", "xyzt_units", "qform_code", "sform_code", "srow_x", "quatern_b", "qoffset_z"):
        assert np.array_equal(mask.header[name], source.header[name]), name
    assert read_label_map(tmp_path / "mask.nii.gz").geometry.matches(image.geometry, tolerance=0)


def test_an_image_and_a_mask_in_different_units_lie_on_one_grid(tmp_path):
    image = save(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), np.diag([0.5, 0.5, 2, 1]))
    mask = save(tmp_path / "mask.nii", np.zeros((4, 5, 6), np.uint8), np.diag([500, 500, 2000, 1]), units="micron")
    check_same_grid(read_image(image), image, read_label_map(mask), mask)


def test_a_unit_that_makes_impossible_voxels_is_noted(tmp_path):
    path = save(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), np.diag([500, 1, 1, 1]), units="meter")
    assert "is in metres, which makes voxels of (500000, 1000, 1000) mm" in read_header(path).notes[0]


def test_a_header_without_forms_has_a_spacing_and_no_place(tmp_path):
    """ITK puts such an image at zero and nibabel centres it: its masks, written by ITK, are at ITK's place."""
    scan = save(
        tmp_path / "scan.nii", RNG.integers(0, 9, (4, 5, 6), dtype=np.int16), np.diag([2, 2, 3, 1]), forms=(0, 0)
    )
    mask = sitk.ReadImage(str(scan)) > 4
    sitk.WriteImage(mask, str(tmp_path / "mask.nii.gz"))
    check_same_grid(read_image(scan), scan, read_label_map(tmp_path / "mask.nii.gz"), tmp_path / "mask.nii.gz")
    other = save(tmp_path / "other.nii", np.zeros((4, 5, 6), np.uint8), np.diag([2, 2, 4, 1]))
    with pytest.raises(InputError, match="has the spacing"):
        check_same_grid(read_image(scan), scan, read_label_map(other), other)


@pytest.mark.parametrize("size", [0.0, -2.0])
def test_a_voxel_size_that_is_none_is_told_by_check(tmp_path, size):
    for folder, dtype in (("images", np.int16), ("masks", np.uint8)):
        (tmp_path / folder).mkdir()
        sizes = [1, 2, 2, size, 0, 0, 0, 0]
        save(tmp_path / folder / "a.nii", np.eye(4, dtype=dtype)[..., None], forms=(0, 0), pixdim=sizes)
    dataset = open_dataset(tmp_path)
    assert any("voxel sizes" in line and "a.nii" in line for line in report_problems(dataset, dataset.names))
    problems = check_dataset(dataset).problems
    assert [problem.severity for problem in problems if "voxel sizes" in problem.message] == ["warning", "warning"]
    assert problems[0].file.endswith("a.nii")


@pytest.mark.parametrize("size", [np.nan, np.inf, 1e-42, 1e30])
def test_a_voxel_size_that_cannot_be_is_refused(tmp_path, size):
    path = save(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), forms=(0, 0), pixdim=[1, 2, 2, size, 0, 0, 0, 0])
    for read in (read_image, read_label_map, read_header):
        with pytest.raises(InputError, match=r"scan\.nii.*(voxel sizes|voxels of|singular|has the entry)"):
            read(path)


def test_forms_of_one_space_that_disagree_are_noted(tmp_path):
    fields = {"quatern_b": 0, "quatern_c": 0, "quatern_d": 0, "qoffset_x": 90}
    same = save(tmp_path / "same.nii", np.zeros((4, 5, 6), np.int16), forms=(1, 1), **fields)
    assert "its sform and its qform place it differently" in read_header(same).notes[0]
    aligned = save(tmp_path / "aligned.nii", np.zeros((4, 5, 6), np.int16), forms=(1, 4), **fields)
    assert read_header(aligned).notes == ()


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 200), min_size=1, max_size=6, unique=True),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.int8, np.int32]),
)
def test_labels_that_were_saved_from_floats_are_whole_again(tmp_path_factory, labels, dtype):
    path = tmp_path_factory.mktemp("scaled") / "mask.nii.gz"
    pixels = np.resize(labels, (5, 4, 3)).astype(float)
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(pixels, np.eye(4), header), path)
    assert np.array_equal(read_label_map(path).pixels, pixels)


def test_a_scaled_probability_is_no_label(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    nib.save(nib.Nifti1Image(np.linspace(0, 3, 60).reshape(5, 4, 3), np.eye(4), header), tmp_path / "mask.nii")
    with pytest.raises(InputError, match=r"mask\.nii is not a label map: \d+ voxels are not whole numbers \(0\.0"):
        read_label_map(tmp_path / "mask.nii")


def test_float_noise_is_rounded_off_labels(tmp_path):
    path = save(tmp_path / "mask.nii", np.array([[[0, 0.9999999, 2.00001]]], np.float32))
    assert read_label_map(path).pixels.ravel().tolist() == [0, 1, 2]


def test_a_nifti_of_two_axes_is_one_slice_and_its_mask_has_two_axes(tmp_path):
    pixels = RNG.integers(0, 99, (4, 5), dtype=np.int16)
    path = save(tmp_path / "slice.nii.gz", pixels, np.diag([0.5, 0.5, 1, 1]))
    image = read_image(path)
    assert (image.shape, read_header(path).shape) == ((4, 5, 1), (4, 5, 1))
    assert np.array_equal(image.pixels[0, :, :, 0], pixels)
    write_label_map(LabelMap((image.pixels[0] > 50).astype(np.uint8), image.geometry), tmp_path / "mask.nii", like=path)
    assert np.array_equal(nib.load(tmp_path / "mask.nii").get_fdata(), pixels > 50)
    assert np.array_equal(read_label_map(tmp_path / "mask.nii").pixels[..., 0], pixels > 50)


def test_a_vector_image_of_itk_has_its_numbers_as_channels(tmp_path):
    pixels = RNG.normal(size=(6, 5, 4, 3)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "vector.nii.gz"))
    assert nib.load(tmp_path / "vector.nii.gz").shape == (4, 5, 6, 1, 3)
    image = read_image(tmp_path / "vector.nii.gz", channels_last=True)
    assert np.array_equal(image.pixels, pixels.transpose(3, 2, 1, 0))
    assert (read_header(tmp_path / "vector.nii.gz").channels, image.channels) == (3, 3)


def test_a_name_does_not_say_whether_a_file_is_compressed(tmp_path):
    path = save(tmp_path / "scan.nii.gz", RNG.integers(0, 99, (4, 5, 6), dtype=np.int16))
    expected, content = read_image(path).pixels, path.read_bytes()
    path.write_bytes(gzip.decompress(content))
    (tmp_path / "scan.nii").write_bytes(content)
    assert np.array_equal(read_image(path).pixels, expected)
    assert np.array_equal(read_label_map(tmp_path / "scan.nii").pixels, expected[0])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "field", [{"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, {"vox_offset": 1e9}, {"vox_offset": np.nan},
              {"vox_offset": 12}, {"dim": [3, 4, 0, 6, 1, 1, 1, 1]}, {"dim": [99, 4, 5, 6, 1, 1, 1, 1]},
              {"datatype": 9999}]
)  # fmt: skip
def test_a_header_that_its_file_cannot_hold_takes_no_memory(tmp_path, suffix, field):
    path = save(tmp_path / f"scan{suffix}", np.zeros((4, 5, 6), np.int16), **field)
    for read in (read_image, read_label_map):
        with pytest.raises(InputError, match=rf"scan{suffix} is truncated or not a readable NIfTI file"):
            read(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    for name in ("scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha", "scan.png", "scan.tif"):
        os.mkfifo(tmp_path / name)
        for read in (read_image, read_label_map, read_header):
            with pytest.raises(InputError, match=f"{name} is a pipe or a device"):
                read(tmp_path / name)


@pytest.mark.parametrize("voxel", [1.0, 0.1, 1e-3, 1e-5])
def test_grids_are_compared_in_voxels(voxel):
    """Mirrored, shifted and doubled grids differ at any size of voxel; rounding does not count."""
    affine = np.diag([voxel, voxel, 2 * voxel, 1])
    affine[:3, 3] = (100, -50, 20)
    geometry = Geometry(affine)
    for change in (np.diag([-1, 1, 1, 1]), np.diag([1, 1, 2, 1]), np.diag([1.03, 1, 1, 1])):
        assert not geometry.matches(Geometry(affine @ change))
    if voxel * 0.5 > 1e-4:  # the origin in float32 is good to some hundredths of a micrometre
        moved = affine.copy()
        moved[1, 3] += 0.5 * voxel
        assert not geometry.matches(Geometry(moved))
    assert geometry.matches(Geometry(affine.astype(np.float32)))
    if voxel >= 0.1:
        assert geometry.matches(Geometry(affine + 0.9e-3 * np.eye(4)[:, [3, 0, 1, 2]] * [1, 1, 1, 0]))


def test_what_lies_before_the_numbers_is_not_held_in_memory(tmp_path):
    path = save(tmp_path / "case.nii.gz", np.zeros((2, 2, 2), np.uint8), vox_offset=2**38)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(2**25), compresslevel=1))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"case\.nii\.gz is truncated"):
            read_image(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**23
