"""Damaged files of every format are read or refused by an error of our own: no crash, no hang, no foreign exception."""

import gzip
import io
from functools import partial

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile

from deconvseg.data import read_header, read_image, read_label_map
from mutations import foreign_failures, mutate_bytes

pytestmark = pytest.mark.faults

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 99, (6, 5, 4), dtype=np.int16)
GREY = RNG.integers(0, 256, (9, 8), dtype=np.uint8)
DEEP = np.repeat(GREY[..., None], 3, 2).astype(np.uint16) * 200
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"

READS = (read_header, partial(read_image, channels_last=True), read_label_map)


def volume(suffix, kind=nib.Nifti1Image):
    content = kind(VOLUME, np.diag([1, 2, 3, 1])).to_bytes()
    return gzip.compress(content) if suffix.endswith(".gz") else content


def pair(folder, name, kind):
    nib.save(kind(VOLUME, np.diag([-1, 2, 3, 1])), folder / f"{name}.img")
    return (folder / f"{name}.hdr").read_bytes()


def by_itk(folder, suffix, compressed):
    path = folder / f"itk{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME.T), str(path), compressed)
    return path.read_bytes()


def picture(kind, pixels, **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


# Name of the file, and what makes its content; the last ones leave their voxels in a file beside them.
FORMATS = {
    "nifti.nii": lambda folder: volume(".nii"),
    "nifti.nii.gz": lambda folder: volume(".nii.gz"),
    "nifti2.nii": lambda folder: volume(".nii", nib.Nifti2Image),
    "gzip.nrrd": lambda folder: by_itk(folder, ".nrrd", True),
    "raw.nrrd": lambda folder: by_itk(folder, ".nrrd", False),
    "zlib.mha": lambda folder: by_itk(folder, ".mha", True),
    "raw.mha": lambda folder: by_itk(folder, ".mha", False),
    "grey.png": lambda folder: picture("PNG", GREY),
    "exif.png": lambda folder: picture("PNG", np.repeat(GREY[..., None], 3, 2), exif=EXIF),
    "grey.jpg": lambda folder: picture("JPEG", GREY, exif=EXIF),
    "webp.png": lambda folder: picture("WEBP", GREY, lossless=True),
    "lossy.webp": lambda folder: picture("WEBP", GREY, exif=EXIF),
    "grey.gif": lambda folder: picture("GIF", GREY),
    "scan.mgh": lambda folder: volume(".mgh", nib.MGHImage),
    "scan.mgz": lambda folder: gzip.compress(volume(".mgh", nib.MGHImage)),
    "grey.bmp": lambda folder: picture("BMP", GREY),
    "plain.tif": lambda folder: tiff(GREY),
    "zlib.tif": lambda folder: tiff(GREY, compression="zlib"),
    "lzw.tif": lambda folder: tiff(DEEP, photometric="rgb", compression="lzw", predictor=True),
    "jpeg.tif": lambda folder: tiff(GREY, photometric="minisblack", compression="jpeg"),
    "bits.tif": lambda folder: tiff(GREY > 99, photometric="miniswhite", rowsperstrip=2),
    "pillow.tif": lambda folder: picture("TIFF", GREY, compression="tiff_lzw"),
    "spm.hdr": lambda folder: pair(folder, "spm", nib.Spm99AnalyzeImage),
    "nifti_pair.hdr": lambda folder: pair(folder, "nifti_pair", nib.Nifti1Pair),
    "detached.nhdr": lambda folder: by_itk(folder, ".nhdr", False),
    "detached.mhd": lambda folder: by_itk(folder, ".mhd", True),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FORMATS[name](tmp_path))
    mutants = mutate_bytes(path.read_bytes(), 20, seed=len(name))
    for read in READS:
        read(path)
        assert foreign_failures(partial(read, path), path, mutants) == []


def test_a_decoder_in_another_language_does_not_end_the_process(tmp_path):
    path = tmp_path / "lzw.tif"
    path.write_bytes(FORMATS["lzw.tif"](tmp_path))
    read = partial(read_image, path)
    assert foreign_failures(read, path, mutate_bytes(path.read_bytes(), 40, seed=7), apart=True) == []
