"""PNG, JPEG, TIFF and BMP files to arrays and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from deconvseg.data.decoding import naming
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError

TIFF_SUFFIXES = (".tif", ".tiff")
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES, ".bmp")

# The names that colour channels are given, and that a dataset may declare them by.
RGB = ("red", "green", "blue")

_GREY_MODES = ("1", "L", "I", "F", "LA", "La")


def is_rgb(channel_names: Sequence[str]) -> bool:
    """Whether these are the channels of a colour image, by their names."""
    return tuple(name.lower() for name in channel_names) in (RGB, ("r", "g", "b"))


class RasterReader:
    """Reads 2D images: grey of any depth, RGB, RGBA (alpha is dropped), palette.

    16-bit colour keeps its depth in TIFF; in PNG it is read at 8 bits, as Pillow decodes it.
    """

    def accepts(self, path: Path) -> bool:
        """Whether the name has one of the raster suffixes."""
        return path.suffix.lower() in RASTER_SUFFIXES

    def read_header(self, path: Path) -> Header:
        """Grey has 1 channel, colour 3."""
        with naming(path, "image"):
            opened = _open(path)
            if opened is None:
                pixels = _read_tiff(path)
                return Header(1 if pixels.ndim == 2 else 3, pixels.shape[:2], pixels.itemsize)
            with opened:
                channels, (width, height) = 1 if _is_grey(opened) else 3, opened.size
                return Header(channels, (height, width), _itemsize(opened))

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Intensities (1, H, W) or (3, H, W)."""
        with naming(path, "image"):
            opened = _open(path)
            if opened is None:
                pixels = _read_tiff(path)
            else:
                with opened:
                    pixels = _pixels(opened, "L" if _is_grey(opened) else "RGB")
        return (pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)), Geometry.identity(2)

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Labels (H, W): grey values, palette indices, or a colour whose channels are equal."""
        with naming(path, "image"):
            opened = _open(path)
            if opened is None:
                pixels = _read_tiff(path)
            else:
                with opened:
                    indexed = opened.mode in ("P", "PA")
                    pixels = (
                        np.asarray(opened.getchannel(0))
                        if indexed
                        else _pixels(opened, "L" if _is_grey(opened) else "RGB")
                    )
        if pixels.ndim == 3:
            differing = (pixels != pixels[..., :1]).any(axis=-1)
            if differing.any():
                colour = tuple(int(value) for value in pixels[differing][0])
                raise InputError(
                    f"{path} is a colour image, not a label map: in {int(differing.sum())} pixels "
                    f"the channels differ, such as {colour}; give a mask with one integer per class"
                )
            pixels = pixels[..., 0]
        return pixels, Geometry.identity(2)


def save_raster(pixels: npt.NDArray[Any], path: Path, *, name: Path) -> None:
    """Write labels (H, W) losslessly, by suffix; ``name`` is the file that an error speaks of.

    Raises `InputError` for values that the format cannot hold, a lossy format, and arrays that are not 2D.
    """
    suffix = path.suffix.lower()
    if pixels.ndim != 2:
        raise InputError(f"{name} cannot hold a mask of shape {pixels.shape}; write it as .nii.gz")
    if suffix in TIFF_SUFFIXES:
        import tifffile

        tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib")
        return
    allowed: dict[str, tuple[type[np.unsignedinteger[Any]], ...]] = {
        ".png": (np.uint8, np.uint16),
        ".bmp": (np.uint8,),
    }
    if suffix not in allowed:
        raise InputError(f"{name}: {suffix} is lossy and would change the labels; write .png, .bmp or .tif")
    if pixels.dtype not in allowed[suffix]:
        limit = np.iinfo(allowed[suffix][-1]).max
        raise InputError(
            f"{name} cannot hold the labels {int(pixels.min())} … {int(pixels.max())} "
            f"({suffix} holds 0 … {limit}); write it as .tif"
        )
    PIL.Image.fromarray(pixels).save(path)


def _open(path: Path) -> PIL.Image.Image | None:
    """The opened file, or None for a TIFF that Pillow can't read at its own depth (16-bit colour, float64)."""
    try:
        opened = PIL.Image.open(path)
    except PIL.UnidentifiedImageError:
        if path.suffix.lower() in TIFF_SUFFIXES:
            return None
        raise
    frames = getattr(opened, "n_frames", 1)
    if frames > 1:
        opened.close()
        raise _pages_error(path, frames)
    if isinstance(opened, TiffImageFile) and opened.mode in ("RGB", "RGBA", "RGBX", "LA"):
        bits = opened.tag_v2.get(BITSPERSAMPLE, (8,))
        if max(bits) > 8:
            opened.close()
            return None
    return opened


def _is_grey(opened: PIL.Image.Image) -> bool:
    if opened.mode in ("P", "PA"):
        palette = np.asarray(opened.getpalette("RGB")).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return opened.mode in _GREY_MODES or opened.mode.startswith("I;16")


def _itemsize(opened: PIL.Image.Image) -> int:
    return 2 if opened.mode.startswith("I;16") else 4 if opened.mode in ("I", "F") else 1


def _pixels(opened: PIL.Image.Image, mode: str) -> npt.NDArray[Any]:
    """The array of ``opened`` as grey ("L", at the file's own depth) or colour ("RGB")."""
    keeps_depth = opened.mode in ("1", "I", "F") or opened.mode.startswith("I;16")
    return np.asarray(opened if keeps_depth else opened.convert(mode))


def _read_tiff(path: Path) -> npt.NDArray[Any]:
    """A TIFF's single page as (H, W) or (H, W, 3), alpha dropped."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if len(tiff.pages) > 1:
            raise _pages_error(path, len(tiff.pages))
        page = tiff.pages[0]
        pixels = np.asarray(page.asarray())
        axes = str(page.axes)
    if axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim != 3 or pixels.shape[-1] not in (2, 3, 4):
        raise InputError(f"{path} has the axes {axes} {pixels.shape}, where grey, RGB or RGBA is expected")
    return pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :3]


def _pages_error(path: Path, pages: int) -> InputError:
    return InputError(f"{path} holds {pages} pages, where one 2D image is expected; split it, or write .nii.gz")
