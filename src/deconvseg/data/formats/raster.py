"""Read and write 2D pictures: PNG, JPEG, TIFF, BMP, WebP and GIF."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from deconvseg.data.colours import colour_numbers
from deconvseg.data.formats.decoding import naming_file
from deconvseg.data.formats.pictures import lossy_picture, read_picture, read_picture_alpha, read_picture_header
from deconvseg.data.formats.reader import Reader, Segment
from deconvseg.data.formats.registry import register_reader
from deconvseg.data.formats.tiff import TIFF_MAGIC, read_tiff, read_tiff_alpha, read_tiff_header
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError

TIFF_SUFFIXES = (".tif", ".tiff")
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES, ".bmp")

_LOSSY_TIFF = (6, 7, 33003, 33004, 33005, 34712)  # JPEG, JPEG 2000 and their relatives, as TIFF numbers them


@register_reader("raster", reads=RASTER_SUFFIXES)
class RasterReader(Reader):
    """Reads 2D images as displayed: grey of any depth, RGB, RGBA (without alpha), palette, and CMYK converted to RGB.

    The format is recognised by the content of a file; its name only shows that it is an image.
    """

    pictures = True

    def read_header(self, path: Path) -> Header:
        """Return the header: 1 channel for grey, 3 for colour."""
        with naming_file(path, "image"):
            return read_tiff_header(path) if _is_tiff(path) else read_picture_header(path)

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Return intensities (1, H, W) or (3, H, W)."""
        with naming_file(path, "image"):
            pixels = _read(path, labels=False)
        return (pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)), Geometry.identity(2)

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Return labels (H, W): grey values, palette indices, or colours with equal channels."""
        with naming_file(path, "image"):
            pixels = _read(path, labels=True)
        if pixels.ndim == 3:
            differing = (pixels != pixels[..., :1]).any(axis=-1)
            if differing.any() and not (_is_nearly_grey(pixels) and self.compression_with_losses(path)):
                colour = tuple(int(value) for value in pixels[differing][0])
                raise InputError(
                    f"{path} is a colour image, not a label map: in {int(differing.sum())} pixels "
                    f"the channels differ, such as {colour}; give a mask with one integer per class, or say what its "
                    f"colours mean (`labels`), as 1=organ:#{bytes(min(part, 255) for part in colour).hex()}"
                )
            pixels = pixels[..., 0]
        return pixels, Geometry.identity(2)

    def write_labels(
        self, pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, name: Path, like: Path | None
    ) -> None:
        """Write labels (H, W) losslessly, as `save_raster` does."""
        save_raster(pixels, path, name=name)

    def write_segments(
        self,
        pixels: npt.NDArray[Any],
        geometry: Geometry,
        path: Path,
        *,
        name: Path,
        like: Path | None,
        segments: Sequence[Segment],
    ) -> None:
        """Write labels as palette indices if they have colours and fit into an 8-bit PNG."""
        colours = {segment.value: segment.colour for segment in segments if segment.colour is not None}
        known = all(0 <= value < 256 for value in colours)
        if colours and known and path.suffix.lower() == ".png" and pixels.dtype == np.uint8 and pixels.ndim == 2:
            _save_palette(pixels, path, colours)
        else:
            self.write_labels(pixels, geometry, path, name=name, like=like)

    def mask_suffix(self, values: Iterable[int]) -> str:
        """Return ``.png``, or ``.tif`` if a value is negative or needs more than 16 bits."""
        return ".png" if all(0 <= value < 2**16 for value in values) else ".tif"

    def read_alpha(self, path: Path) -> npt.NDArray[Any] | None:
        """Return the stored alpha channel (H, W), or None if there is none."""
        with naming_file(path, "image"):
            return read_tiff_alpha(path) if _is_tiff(path) else read_picture_alpha(path)

    def read_colours(self, path: Path) -> tuple[npt.NDArray[Any], Geometry] | None:
        """Return the colours (H, W, 3) in 8 bits of a picture in true colour, or None for palettes and grey."""
        with naming_file(path, "image"):
            pixels = _read(path, labels=True)
        return (pixels, Geometry.identity(2)) if pixels.ndim == 3 and pixels.dtype == np.uint8 else None

    def compression_with_losses(self, path: Path) -> str:
        """Return the name of the lossy compression by the content: JPEG, lossy WebP, or JPEG in TIFF."""
        with naming_file(path, "image"):
            return _lossy_tiff(path) if _is_tiff(path) else lossy_picture(path)


@register_reader("web pictures", reads=(".webp", ".gif"))
class WebPictureReader(RasterReader):
    """Reads WebP, and GIF with one frame; next to a picture of the same name they count as previews."""

    copies = True


def save_raster(pixels: npt.NDArray[Any], path: Path, *, name: Path) -> None:
    """Write labels (H, W) losslessly in the format of the suffix; errors name the file ``name``.

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
    if suffix in (".jpg", ".jpeg"):
        raise InputError(f"{name}: {suffix} is lossy and would change the labels; write .png, .bmp or .tif")
    if suffix not in allowed:
        raise InputError(f"{name}: a mask is not written as {suffix}; write .png, .bmp or .tif")
    if pixels.dtype not in allowed[suffix]:
        limit = np.iinfo(allowed[suffix][-1]).max
        raise InputError(
            f"{name} cannot hold the labels {int(pixels.min())} … {int(pixels.max())} "
            f"({suffix} holds 0 … {limit}); write it as .tif"
        )
    PIL.Image.fromarray(pixels).save(path)


def _save_palette(pixels: npt.NDArray[Any], path: Path, colours: Mapping[int, str]) -> None:
    """Write a PNG with these colours in its palette, and black for every other label."""
    palette = bytearray(3 * 256)
    for value, colour in colours.items():
        palette[3 * value : 3 * value + 3] = colour_numbers(colour)
    picture = PIL.Image.fromarray(pixels)
    picture.putpalette(bytes(palette))
    picture.save(path)


def _is_nearly_grey(pixels: npt.NDArray[Any]) -> bool:
    """Return whether the colours are greys of a lossy WebP, which stores only colours and rounds them."""
    return bool(np.ptp(pixels, axis=-1).max() <= 1)


def _read(path: Path, *, labels: bool) -> npt.NDArray[Any]:
    return read_tiff(path, labels=labels) if _is_tiff(path) else read_picture(path, labels=labels)


def _lossy_tiff(path: Path) -> str:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        return "lossy TIFF" if int(tiff.pages.first.compression) in _LOSSY_TIFF else ""


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) in TIFF_MAGIC
