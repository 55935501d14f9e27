"""Masks come back exactly, on the grid they were given, and a failed write leaves nothing behind."""

import errno
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deconvseg.data import Geometry, LabelMap, Segment, mask_suffix, read_label_map, read_mask, write_label_map
from deconvseg.errors import DeconvsegError, InputError

OBLIQUE = np.array([[0.1, -2, 0.2, 5], [0.9, 0.1, 0, -7], [0, 0.3, 3, 11], [0, 0, 0, 1]])


@settings(deadline=None, max_examples=60)
@given(
    pixels=hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.int64]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.integers(0, 100),
    ),
    offset=st.sampled_from([0, -3, 300, 70000, 2**33]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_nifti_round_trip(tmp_path_factory, pixels, offset, suffix):
    pixels = pixels.astype(np.int64) + offset
    path = tmp_path_factory.mktemp("written") / f"mask{suffix}"
    write_label_map(LabelMap(pixels, Geometry(OBLIQUE)), path)
    read = read_label_map(path)
    assert np.array_equal(read.pixels, pixels)
    assert np.allclose(read.geometry.affine, OBLIQUE, atol=1e-6)
    low, high = pixels.min(), pixels.max()
    expected = np.uint8 if low >= 0 and high < 256 else np.uint16 if low >= 0 and high < 65536 else np.int32
    expected = expected if high < 2**31 else np.int64
    assert nib.load(path).get_data_dtype() == expected


@settings(deadline=None, max_examples=40)
@given(
    pixels=hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 255)),
    suffix_and_scale=st.sampled_from(
        [(".png", 1), (".png", 257), (".bmp", 1), (".tif", 1), (".tiff", 257), (".tif", -5)]
    ),
)
def test_raster_round_trip(tmp_path_factory, pixels, suffix_and_scale):
    suffix, scale = suffix_and_scale
    path = tmp_path_factory.mktemp("written") / f"mask{suffix}"
    write_label_map(LabelMap(pixels * scale, Geometry.identity(2)), path)
    assert np.array_equal(read_label_map(path).pixels, pixels * scale)


@pytest.mark.parametrize("codes", [(1, 1), (2, 4), (0, 1), (1, 0), (0, 0)])
def test_a_mask_carries_the_placement_of_its_image_exactly(tmp_path, codes):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    turned = nib.affines.from_matvec(np.diag([-0.7, 1.1, 2.3]), (3, 4, 5))
    image.set_qform(turned, code=codes[0])
    image.set_sform(turned if codes[0] == 0 else OBLIQUE, code=codes[1])
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "image.nii.gz")
    source = nib.load(tmp_path / "image.nii.gz")
    label_map = LabelMap(np.ones((4, 5, 6), np.uint8), Geometry(source.affine))
    write_label_map(label_map, tmp_path / "mask.nii.gz", like=tmp_path / "image.nii.gz")
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(mask.affine, source.affine)
    assert mask.header["qform_code"] == codes[0]
    assert mask.header["sform_code"] == codes[1]
    assert np.array_equal(mask.get_qform(), source.get_qform())
    assert np.array_equal(mask.get_sform(), source.get_sform())
    assert mask.header.get_xyzt_units() == ("mm", "sec")
    assert mask.header.get_zooms() == source.header.get_zooms()
    assert mask.get_data_dtype() == np.uint8
    assert (mask.get_fdata() == 1).all()


def test_a_mask_on_another_grid_keeps_its_own_affine(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "image.nii")
    label_map = LabelMap(np.ones((4, 5, 6), np.uint8), Geometry(OBLIQUE))
    write_label_map(label_map, tmp_path / "mask.nii", like=tmp_path / "image.nii")
    assert np.allclose(nib.load(tmp_path / "mask.nii").affine, OBLIQUE, atol=1e-6)


def test_masks_are_readable_by_others_as_the_umask_says(tmp_path):
    write_label_map(LabelMap(np.zeros((2, 2), np.uint8), Geometry.identity(2)), tmp_path / "mask.png")
    (tmp_path / "plain").touch()
    assert (tmp_path / "mask.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("m.png", [0, 70000], r"m\.png cannot hold the labels 0 … 70000 \(\.png holds 0 … 65535\); write it as \.tif"),
        ("m.png", [-1, 3], r"m\.png cannot hold the labels -1 … 3"),
        ("m.bmp", [0, 256], r"m\.bmp cannot hold the labels 0 … 256 \(\.bmp holds 0 … 255\)"),
        ("m.jpg", [0, 1], r"m\.jpg: \.jpg is lossy"),
        ("m.pdf", [0, 1], r"m\.pdf has no suffix that a mask can be written as"),
        ("m.dcm", [0, 1], r"m\.dcm: a mask is not written as \.dcm"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, values, message):
    with pytest.raises(InputError, match=message):
        write_label_map(LabelMap(np.array([values]), Geometry.identity(2)), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_volume_is_no_raster(tmp_path):
    with pytest.raises(InputError, match=r"m\.png cannot hold a mask of shape \(2, 2, 2\)"):
        write_label_map(LabelMap(np.zeros((2, 2, 2), np.uint8), Geometry.identity(3)), tmp_path / "m.png")


def test_a_raster_mask_is_no_nifti(tmp_path):
    with pytest.raises(InputError, match=r"m\.nii\.gz .*2D"):
        write_label_map(LabelMap(np.zeros((2, 2), np.uint8), Geometry.identity(2)), tmp_path / "m.nii.gz")


def test_missing_folders_are_made(tmp_path):
    write_label_map(LabelMap(np.eye(3, dtype=np.uint8), Geometry.identity(2)), tmp_path / "a" / "b" / "mask.png")
    assert read_label_map(tmp_path / "a" / "b" / "mask.png").pixels.trace() == 3


@pytest.mark.faults
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch):
    for name, dims in (("mask.nii.gz", 3), ("mask.png", 2), ("mask.tif", 2)):
        path = tmp_path / name
        path.write_bytes(b"the old state")

        def full(*args, **kwargs):
            target = next(arg for arg in args if isinstance(arg, (str, Path)))
            Path(target).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(nib, "save", lambda volume, target: full(target))
            patch.setattr(PIL.Image.Image, "save", lambda self, target: full(target))
            patch.setattr("tifffile.imwrite", full)
            with pytest.raises(DeconvsegError, match=rf"the disk is full while writing .*{name}; free") as failure:
                write_label_map(LabelMap(np.zeros((2,) * dims, np.uint8), Geometry.identity(dims)), path)
        assert failure.value.exit_code == 1
        assert path.read_bytes() == b"the old state"
        assert sorted(file.name for file in tmp_path.glob("*") if file.name.startswith(".")) == []


def test_an_output_below_a_file_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file" / "mask.png", tmp_path / "file" / "deeper" / "mask.png"):
        with pytest.raises(InputError, match=rf"cannot write {target}: {tmp_path / 'file'} is a file") as failure:
            write_label_map(LabelMap(np.zeros((2, 2), np.uint8), Geometry.identity(2)), target)
        assert failure.value.exit_code == 2
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"folder\.png: it is a folder"):
        write_label_map(LabelMap(np.zeros((2, 2), np.uint8), Geometry.identity(2)), tmp_path / "folder.png")


def test_mask_suffixes_follow_the_image():
    assert mask_suffix("a.nii") == mask_suffix("a.NII.GZ") == ".nii.gz"
    assert mask_suffix("a.jpg") == mask_suffix("b.tif", [0, 65535]) == ".png"
    assert mask_suffix("a.png", [0, 65536]) == mask_suffix("a.png", [0, -1]) == ".tif"
    assert mask_suffix("a.nii.gz", [-1, 2**40]) == ".nii.gz"


@pytest.mark.parametrize("image", ["a.png", "a.nii.gz"])
@pytest.mark.parametrize("value", [1, 255, 65535, 65536, -1, 2**31, -(2**40), 2**53])
def test_a_mask_of_any_values_can_be_written_under_its_suffix(tmp_path, image, value):
    dims = 3 if image.endswith("gz") else 2
    pixels = np.zeros((3, 4, 5)[:dims], np.int64)
    pixels[1, 2] = value
    path = tmp_path / f"mask{mask_suffix(image, [0, value])}"
    write_label_map(LabelMap(pixels, Geometry.identity(dims)), path)
    assert np.array_equal(read_label_map(path).pixels, pixels)


SEGMENTS = (Segment(1, "organ", "#ff8000"), Segment(3, "left lesion", "#0000ff"))


def test_a_png_keeps_the_colours_of_its_labels_as_its_palette(tmp_path):
    labels = LabelMap(np.arange(12).reshape(3, 4).astype(np.uint8) % 4, Geometry.identity(2))
    write_label_map(labels, tmp_path / "mask.png", segments=SEGMENTS)
    with PIL.Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == "P"
        assert (np.asarray(picture) == labels.pixels).all()
        shown = np.asarray(picture.convert("RGB"))
    expected = np.array([[0, 0, 0], [255, 128, 0], [0, 0, 0], [0, 0, 255]])
    assert (shown == expected[labels.pixels]).all()
    assert (read_mask(tmp_path / "mask.png").pixels == labels.pixels).all()
    write_label_map(labels, tmp_path / "names.png", segments=[Segment(1, "organ")])
    write_label_map(labels, tmp_path / "plain.png")
    assert (tmp_path / "names.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_a_nrrd_keeps_names_and_colours_as_slicer_reads_them(tmp_path):
    labels = LabelMap(np.arange(24).reshape(2, 3, 4).astype(np.uint8) % 4, Geometry.identity(3))
    write_label_map(labels, tmp_path / "mask.seg.nrrd", segments=SEGMENTS)
    image = SimpleITK.ReadImage(str(tmp_path / "mask.seg.nrrd"))
    found = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}
    assert {key: found[f"Segment1_{key}"] for key in ("Name", "LabelValue", "Color", "Layer", "Extent")} == {
        "Name": "left lesion",
        "LabelValue": "3",
        "Color": "0 0 1",
        "Layer": "0",
        "Extent": "0 1 0 2 0 3",
    }
    assert found["Segment0_Color"] == "1 0.501961 0"
    assert (SimpleITK.GetArrayFromImage(image).transpose() == labels.pixels).all()
    assert (read_mask(tmp_path / "mask.seg.nrrd").pixels == labels.pixels).all()
