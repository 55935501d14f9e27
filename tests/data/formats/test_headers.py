"""What a file says before it is read: how large its image is, and that it does not fit into memory."""

import math
import re

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
import tifffile

from deconvseg.data import Header, read_header, read_image
from deconvseg.errors import InputError

RNG = np.random.default_rng(0)


def save(path, pixels):
    """Write (C, *S) by suffix, as other software does."""
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(np.moveaxis(pixels, 0, -1) if len(pixels) > 1 else pixels[0], np.eye(4)), path)
    elif path.suffix in (".mha", ".nrrd"):
        vector = len(pixels) > 1
        numbers = np.moveaxis(pixels, 0, -1) if vector else pixels[0]
        spatial = range(pixels.ndim - 1)
        # SimpleITK's arrays have the axes of a volume in reverse, those of rows and columns as they are.
        order = [*(reversed(spatial) if pixels.ndim == 4 else spatial), *([pixels.ndim - 1] if vector else [])]
        sitk.WriteImage(sitk.GetImageFromArray(numbers.transpose(order), isVector=vector), str(path))
    elif path.suffix == ".tif":
        tifffile.imwrite(path, np.moveaxis(pixels, 0, -1) if len(pixels) > 1 else pixels[0])
    else:
        PIL.Image.fromarray(np.moveaxis(pixels, 0, -1) if len(pixels) > 1 else pixels[0]).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("a.nii.gz", (1, 5, 6, 7), np.int16),
        ("a.nii", (3, 5, 6, 7), np.float64),
        ("a.mha", (1, 5, 6, 7), np.uint8),
        ("a.nrrd", (4, 5, 6, 7), np.float32),
        ("a.mha", (1, 5, 6), np.uint16),
        ("a.nrrd", (2, 5, 6), np.int16),
        ("a.png", (1, 5, 6), np.uint8),
        ("a.png", (3, 5, 6), np.uint8),
        ("a.png", (1, 5, 6), np.uint16),
        ("a.tif", (1, 5, 6), np.float32),
        ("a.tif", (3, 5, 6), np.uint16),
    ],
)
def test_a_header_tells_the_image_that_is_read(tmp_path, name, shape, dtype):
    path = save(tmp_path / name, RNG.integers(0, 99, shape).astype(dtype))
    header, image = read_header(path), read_image(path, channels_last=True)
    assert (header.channels, header.shape) == (image.channels, image.shape) == (shape[0], shape[1:])
    assert header.itemsize == np.dtype(dtype).itemsize
    assert header.numbers == math.prod(shape)


def test_reading_takes_what_the_header_says_or_is_refused(tmp_path):
    path = save(tmp_path / "scan.nii.gz", RNG.integers(0, 99, (1, 20, 30, 40)).astype(np.int16))
    needed = 24_000 * (2 + 4)
    assert read_image(path, memory=needed).shape == (20, 30, 40)
    with pytest.raises(InputError, match=re.escape(f"{path}: an image of 20 x 30 x 40 voxels takes")):
        read_image(path, memory=needed - 1)
    # Beside what was read of both, the second one as it is stored and in float32.
    both = 24_000 * (2 * 4 + 2 + 4)
    assert read_image([path, path], memory=both).channels == 2
    with pytest.raises(InputError, match="2 channels takes 328 KiB of memory to read"):
        read_image([path, path], memory=both - 1)


def test_an_image_that_is_too_large_is_refused_before_its_voxels_are_looked_for(tmp_path):
    path = save(tmp_path / "scan.nii", np.zeros((1, 2, 2, 2), np.int16))
    header = bytearray(path.read_bytes()[:352])
    header[42:48] = np.array([30_000] * 3, np.int16).tobytes()
    path.write_bytes(header)
    assert read_header(path) == Header(1, (30_000,) * 3, 2)
    with pytest.raises(InputError, match=r"takes 150874\.\d GiB of memory to read, more than the 1\.0 GiB"):
        read_image(path, memory=2**30)
