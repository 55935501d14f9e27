"""FreeSurfer's volumes are what nibabel reads, and lie where FreeSurfer puts them."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import (
    LabelMap,
    mask_suffix,
    open_dataset,
    read_header,
    read_image,
    read_label_map,
    read_mask_pair,
    write_label_map,
)
from deconvseg.errors import InputError

OBLIQUE = np.array([[0.1, -2, 0.2, 5], [0.9, 0.1, 0, -7], [0, 0.3, 3, 11], [0, 0, 0, 1]])


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.MGHImage(pixels, OBLIQUE), path)
    return path


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    frames=st.integers(1, 3),
    dtype=st.sampled_from([np.uint8, np.int16, np.int32, np.float32]),
    suffix=st.sampled_from([".mgz", ".mgh", ".MGZ"]),
)
def test_mgh_is_what_nibabel_reads(tmp_path_factory, shape, frames, dtype, suffix):
    pixels = np.random.default_rng(1).integers(0, 100, (*shape, frames)).astype(dtype)
    path = save(tmp_path_factory.mktemp("mgh") / f"scan{suffix.lower()}", pixels if frames > 1 else pixels[..., 0])
    reference = nib.load(path)
    path = path.rename(path.with_suffix(suffix))
    image = read_image(path, channels_last=True)
    assert np.array_equal(image.pixels, np.moveaxis(pixels, 3, 0).astype(np.float32))
    assert np.array_equal(image.geometry.affine, reference.affine)
    assert read_header(path).channels == frames
    assert read_header(path).notes == ()
    if frames == 1:
        assert np.array_equal(read_label_map(path).pixels, pixels[..., 0])
        assert read_label_map(path).pixels.dtype.isnative


def test_a_volume_without_a_place_has_freesurfer_s_and_says_so(tmp_path):
    path = save(tmp_path / "scan.mgh", np.zeros((4, 6, 8), np.uint8))
    content = bytearray(path.read_bytes())
    content[28:30] = bytes(2)
    path.write_bytes(content)
    geometry = read_image(path).geometry
    assert np.array_equal(geometry.affine @ [2, 3, 4, 1], [0, 0, 0, 1])  # the middle
    assert nib.aff2axcodes(geometry.affine) == ("L", "I", "A")
    assert not geometry.placed
    assert read_header(path).notes == (
        "its header gives no place: coronal slices of 1 mm are assumed, as FreeSurfer does",
    )


@pytest.mark.faults
def test_a_damaged_mgz_is_named(tmp_path):
    path = save(tmp_path / "scan.mgz", np.random.default_rng(0).integers(0, 99, (9, 9, 9)).astype(np.int32))
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-6] + b"\0\0" + content[-4:], b"text" * 100):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"scan\.mgz is truncated or not a readable MGH file"):
            read_image(path)


def test_freesurfer_s_segmentations_are_masks_of_their_scans(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.int32) * 1000
    save(tmp_path / "images" / "a.mgz", np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32))
    save(tmp_path / "masks" / "a.mgz", labels)
    dataset = open_dataset(tmp_path)
    image, mask = dataset.load(dataset.cases[0])
    assert np.array_equal(mask.pixels, labels)
    assert mask_suffix(dataset.cases[0].images[0]) == ".nii.gz"
    write_label_map(LabelMap(labels, image.geometry), tmp_path / "a.nii.gz", like=dataset.cases[0].images[0])
    truth, written = read_mask_pair(tmp_path / "masks" / "a.mgz", tmp_path / "a.nii.gz")
    assert np.array_equal(truth.pixels, written.pixels)
