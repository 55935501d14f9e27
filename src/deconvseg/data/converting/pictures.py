"""Write 2D images losslessly: PNG for 8 bits, TIFF for other depths, MetaImage for images with a spacing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL.PngImagePlugin import PngImageFile

from deconvseg.data.converting.files import WrittenFile, copy_file
from deconvseg.data.converting.volumes import smallest_exact
from deconvseg.data.formats.metaimage import save_metaimage
from deconvseg.data.headers import asking, read_header
from deconvseg.data.types import Image
from deconvseg.errors import InputError
from deconvseg.system import atomic_write


def write_pictures(paths: Sequence[Path], image: Image, targets: Sequence[Path], *, link: bool) -> list[WrittenFile]:
    """Write the channels of a 2D image that was read from ``paths``: a file each, or three as one picture in colour."""
    if targets[0].suffix == ".mha":
        return [_write_metaimage(image, channel, target) for channel, target in enumerate(targets)]
    if len(paths) == len(targets):
        colour = len(targets) == 1 and image.channels == 3
        return [_write(path, colour, target, link) for path, target in zip(paths, targets, strict=True)]
    pixels = _read(paths[0])
    return [_save(pixels[k], paths[0], target, f"channel {k}") for k, target in enumerate(targets)]


def is_plain_png(path: Path) -> bool:
    """Return whether a file is a PNG that all readers show alike: 8-bit grey or RGB, upright, without transparency."""
    with path.open("rb") as stream:
        if stream.read(8) != b"\x89PNG\r\n\x1a\n":
            return False
    header = read_header(path)
    with path.open("rb") as stream, PngImageFile(stream) as opened:
        mode, transparent = opened.mode, "transparency" in opened.info
    plain = mode in ("L", "RGB") and not transparent
    return plain and header.itemsize == 1 and header.white is None and header.orientation == 1


def _write(path: Path, colour: bool, target: Path, link: bool) -> WrittenFile:
    channels = 3 if colour else 1
    if target.suffix == ".png" and is_plain_png(path) and read_header(path).channels == channels:
        return copy_file(path, target, link=link)
    pixels = _read(path)
    reason = f"{path.suffix.lower().lstrip('.')} to {target.suffix[1:]}"
    if len(pixels) < channels:
        pixels, reason = np.repeat(pixels, channels, axis=0), "grey as red, green and blue"
    return _save(np.moveaxis(pixels, 0, -1) if colour else pixels[0], path, target, reason)


def _read(path: Path) -> npt.NDArray[Any]:
    """Return the intensities (C, H, W) in the type of the file."""
    with asking(path) as reader:
        pixels, _ = reader.read_channels(path)
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def _save(pixels: npt.NDArray[Any], source: Path, target: Path, reason: str) -> WrittenFile:
    """Write (H, W) or (H, W, 3)."""
    pixels = np.ascontiguousarray(pixels)
    with atomic_write(target) as temporary:
        if target.suffix == ".png":
            if pixels.dtype != np.uint8:
                raise InputError(f"{source} holds {pixels.dtype}, which an 8-bit PNG cannot; save it as 16 bits")
            PIL.Image.fromarray(pixels).save(temporary)
        else:
            import tifffile

            photometric = "rgb" if pixels.ndim == 3 else "minisblack"
            tifffile.imwrite(temporary, pixels, photometric=photometric, compression="zlib")
    return WrittenFile(target, "written", reason)


def _write_metaimage(image: Image, channel: int, target: Path) -> WrittenFile:
    with atomic_write(target) as temporary:
        save_metaimage(smallest_exact(image.pixels[channel]), image.geometry, temporary, like=None)
    return WrittenFile(target, "written", "to MetaImage")
