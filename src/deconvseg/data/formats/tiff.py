"""Read TIFF files with one picture, in the usual compressions, depths and layouts."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.decoding import check_described, check_number_type
from deconvseg.data.formats.orientation import ORIENTATION_TAG, as_shown, defined, shape_as_shown
from deconvseg.data.types import Header
from deconvseg.errors import InputError

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# PhotometricInterpretation
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NAMES = {
    **{4: "a transparency mask", 6: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"},
    **{32803: "a Bayer mosaic", 32844: "LogL", 32845: "LogLuv", 34892: "raw linear values"},
}
_JPEG = (6, 7, 33007)
_ODD_BITS = (2, 4, *range(9, 16))  # bits per sample besides 1, 8 and 16
_FAX = (2, 3, 4)  # 1-bit compressions, in which 0 is white by convention
_SUBFILE, _OLD_SUBFILE = 254, 255
_REDUCED_OR_MASK = 1 | 4
_ALPHA = {1, 2}  # ExtraSamples: associated and unassociated
_MOST_PACKED = 100_000  # largest expansion of one compressed byte; the best TIFF compressions reach a few thousand
_MOST_PAGES = 100_000


@dataclass(frozen=True)
class _Picture:
    """The page of a TIFF that contains the picture, with its tags."""

    page: Any
    photometric: int
    bits: int
    samples: int
    orientation: int

    @property
    def colormap(self) -> npt.NDArray[np.uint8]:
        """The palette (entries, 3) in 8 bits."""
        stored = np.asarray(self.page.colormap).T
        return np.asarray(stored >> 8 if stored.max() > 255 else stored, np.uint8)

    @property
    def is_grey(self) -> bool:
        if self.photometric == _PALETTE:
            return bool((self.colormap == self.colormap[:, :1]).all())
        return self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and self.samples < 3

    @property
    def has_alpha(self) -> bool:
        colours = 3 if self.photometric in (_RGB, _YCBCR) else 4 if self.photometric == _CMYK else 1
        extra = tuple(int(kind) for kind in self.page.extrasamples)
        return self.samples == colours + 1 and (colours > 1 or not _ALPHA.isdisjoint(extra[:1]))


def read_tiff_header(path: Path) -> Header:
    """Read the header of a TIFF from its tags."""
    with _open(path) as picture:
        rows, columns = picture.page.imagelength, picture.page.imagewidth
        notes: tuple[str, ...] = ()
        if picture.photometric == _WHITE_IS_ZERO and int(picture.page.compression) not in _FAX:
            notes = ("says that 0 is white (PhotometricInterpretation 0): its stored numbers are taken for the labels",)
        return Header(
            1 if picture.is_grey else 3,
            shape_as_shown((rows, columns), picture.orientation),
            1 if picture.photometric == _PALETTE else picture.page.dtype.itemsize,
            mask_notes=notes,
            orientation=defined(picture.orientation),
            white=2**picture.bits - 1 if picture.photometric == _BLACK_IS_ZERO and picture.bits in _ODD_BITS else None,
        )


def read_tiff(path: Path, *, labels: bool) -> npt.NDArray[Any]:
    """Read the picture (rows, columns) or (rows, columns, 3) of a TIFF as displayed, without alpha.

    With ``labels``, palette pictures give their indices, and grey values keep their stored numbers: they are not
    scaled from 2 or 4 bits to 8, and not inverted if 0 is white, except in fax compressions.
    """
    with _open(path) as picture:
        pixels = _samples_last(path, picture)
        if picture.photometric == _PALETTE:
            pixels = pixels if labels else _paint(pixels, picture)
        elif picture.photometric == _CMYK:
            pixels = _from_cmyk(pixels)
        elif picture.samples > 1:
            pixels = pixels[..., 0] if picture.is_grey else pixels[..., :3]
    inverted = pixels.dtype.kind in "bu" and (not labels or int(picture.page.compression) in _FAX)
    if picture.photometric == _WHITE_IS_ZERO and inverted:
        pixels = ~pixels if pixels.dtype == np.bool_ else (2**picture.bits - 1) - pixels
    if not labels and picture.bits in (2, 4) and picture.photometric != _PALETTE:
        pixels = pixels * np.uint8(255 // (2**picture.bits - 1))  # to 8 bits, as PNG does
    return as_shown(pixels, picture.orientation)


def read_tiff_alpha(path: Path) -> npt.NDArray[Any] | None:
    """Return the alpha channel of a TIFF, or None."""
    with _open(path) as picture:
        return _samples_last(path, picture)[..., -1] if picture.has_alpha else None


@contextmanager
def _open(path: Path) -> Iterator[_Picture]:
    import tifffile

    with _unlogged(), tifffile.TiffFile(path) as tiff:
        page = _choose_page(path, tiff)
        photometric = 1 if page.photometric is None else int(page.photometric)
        bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
        tag = page.tags.get(ORIENTATION_TAG)
        orientation = tag.value if tag is not None and isinstance(tag.value, int) else 1
        picture = _Picture(page, photometric, int(bits), int(page.samplesperpixel), orientation)
        _check_colours(path, picture)
        yield picture


@contextmanager
def _unlogged() -> Iterator[None]:
    """Suppress tifffile's log messages: relevant defects are reported as errors or notes of this package."""
    log = logging.getLogger("tifffile")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def _choose_page(path: Path, tiff: Any) -> Any:
    """Return the only page that is not a preview; `InputError` if there are several."""
    if (count := len(tiff.pages)) > _MOST_PAGES:
        raise pages_error(path, count)
    pages = [page.aspage() for page in tiff.pages]
    if not pages:
        raise OSError("it has no page")
    pictures = [page for page in pages if not _is_preview(page)] or pages[:1]
    largest = max(pictures, key=lambda page: page.imagelength * page.imagewidth)
    pictures = [page for page in pictures if page is largest or not _is_smaller_copy(page, largest)]
    if len(pictures) > 1:
        raise pages_error(path, len(pictures))
    stacked = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    if stacked > 1:
        raise pages_error(path, int(stacked))
    return largest


def _is_preview(page: Any) -> bool:
    new, old = page.tags.get(_SUBFILE), page.tags.get(_OLD_SUBFILE)
    return bool((new is not None and int(new.value) & _REDUCED_OR_MASK) or (old is not None and int(old.value) == 2))


def _is_smaller_copy(page: Any, largest: Any) -> bool:
    """Return whether a page has at most half the size of another and its proportions, like an unmarked preview."""
    rows, columns = page.imagelength / largest.imagelength, page.imagewidth / largest.imagewidth
    return bool(max(rows, columns) <= 0.5) and bool(abs(rows - columns) <= 0.1 * max(rows, columns))


def _check_colours(path: Path, picture: _Picture) -> None:
    page, photometric = picture.page, picture.photometric
    converted = photometric == _YCBCR and int(page.compression) in _JPEG
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK) and not converted:
        name = _NAMES.get(photometric, f"of the unknown kind {photometric}")
        raise InputError(f"{path} has colours that are {name}, where grey or RGB is expected; convert it to RGB")
    if page.dtype is None:
        raise InputError(
            f"{path} stores {picture.bits}-bit numbers of a kind that is not read; convert it to 8 or 16 bits"
        )
    check_number_type(path, page.dtype)
    least = {_RGB: 3, _YCBCR: 3, _CMYK: 4}.get(photometric, 1)
    grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    allowed = picture.samples in (1, 3) or (picture.samples == 2 and picture.has_alpha) if grey else True
    if picture.samples < least or not allowed or (photometric == _PALETTE and picture.samples > 1):
        raise InputError(
            f"{path} has {picture.samples} numbers per pixel, where grey, RGB or RGBA is expected; write one file per "
            "channel"
        )
    if photometric == _CMYK and page.dtype.kind != "u":
        raise InputError(f"{path} has CMYK colours as {page.dtype}; convert it to RGB")


def _samples_last(path: Path, picture: _Picture) -> npt.NDArray[Any]:
    """Return the decoded page (rows, columns) or (rows, columns, samples); `OSError` if parts are missing."""
    page = picture.page
    size = path.stat().st_size
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not parts or any(count <= 0 or offset <= 0 or offset + count > size for offset, count in parts):
        raise OSError("parts of its picture lie beyond its end")
    plain = int(page.compression) == 1
    decoded = math.prod(page.shape) * page.dtype.itemsize
    check_described(path, decoded, min(size, sum(count for _, count in parts)), 8 if plain else _MOST_PACKED)
    # One worker: threads of the decoder would outlive the call and break a later fork.
    pixels = np.asarray(page.asarray(maxworkers=1))
    axes = str(page.axes)
    if axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    elif axes not in ("YX", "YXS"):
        raise InputError(f"{path} has the axes {axes} {pixels.shape}, where grey, RGB or RGBA is expected")
    shape = (page.imagelength, page.imagewidth, *([picture.samples] if picture.samples > 1 else []))
    if pixels.shape != shape:
        raise OSError(f"it is decoded as {pixels.shape}, where its tags describe {shape}")
    return pixels


def _paint(pixels: npt.NDArray[Any], picture: _Picture) -> npt.NDArray[Any]:
    """Map palette indices to colours, or to greys for a grey palette."""
    painted: npt.NDArray[Any] = picture.colormap[pixels]
    return painted[..., 0] if picture.is_grey else painted


def _from_cmyk(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert CMYK (rows, columns, 4) to RGB without a colour profile."""
    white = np.iinfo(pixels.dtype).max
    share = (white - pixels[..., :3].astype(np.float64)) * (white - pixels[..., 3:4].astype(np.float64)) / white
    return np.rint(share).astype(pixels.dtype)


def pages_error(path: Path, pages: int, what: str = "pages") -> InputError:
    """Return the error for a file with several pictures."""
    return InputError(f"{path} holds {pages} {what}, where one 2D image is expected; split it, or write .nii.gz")
