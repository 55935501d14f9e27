"""Read PNG, JPEG, BMP, WebP and GIF files with Pillow's decoders."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImagePalette
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from deconvseg.data.formats.decoding import CHUNK, DEFLATE_RATIO, check_described
from deconvseg.data.formats.orientation import ORIENTATION_TAG, as_shown, defined, shape_as_shown
from deconvseg.data.formats.tiff import pages_error
from deconvseg.data.types import Header

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY_MODES = ("1", "L", "I", "F", "LA", "La")
# PNG chunks that may contain an orientation.
_DESCRIBING = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")


def read_picture_header(path: Path) -> Header:
    """Read the header of a picture."""
    with _open(path) as opened:
        columns, rows = opened.size
        orientation, notes = _orientation(path, opened)
        deep = _is_deep_colour(opened)
        return Header(
            1 if _is_grey(opened) else 3,
            shape_as_shown((rows, columns), orientation),
            2 if deep else _itemsize(opened),
            notes,
            orientation=defined(orientation),
            white=255 // step if (step := _step_of_grey(opened)) > 1 else None,
        )


def read_picture(path: Path, *, labels: bool) -> npt.NDArray[Any]:
    """Read a picture (rows, columns) or (rows, columns, 3) as displayed, without alpha.

    With ``labels``, palette pictures give their indices (if the palette is white and black in that order: white 1,
    black 0), and grey pictures of 2 and 4 bits their stored numbers. A grey GIF gives its grey values, because
    programs renumber its palette. Raises `OSError` for a wrong checksum and a truncated file.
    """
    _check_whole(path)
    with _open(path) as opened:
        orientation, _ = _orientation(path, opened)
        if _is_deep_colour(opened):
            pixels = _deep_png(path)
            pixels = pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :3]
        elif labels and opened.mode in ("P", "PA") and not (isinstance(opened, GifImageFile) and _is_grey(opened)):
            pixels = _indices(opened)
        elif labels and (step := _step_of_grey(opened)) > 1:
            pixels = np.asarray(opened) // np.uint8(step)
        else:
            pixels = _pixels(opened, "L" if _is_grey(opened) else "RGB")
    return as_shown(pixels, orientation)


def read_picture_alpha(path: Path) -> npt.NDArray[Any] | None:
    """Return the alpha channel of a picture, or None."""
    with _open(path) as opened:
        if _is_deep_colour(opened):
            deep = _deep_png(path)
            return deep[..., -1] if deep.shape[-1] in (2, 4) else None
        if "A" not in opened.mode and "transparency" not in opened.info:
            return None
        return np.asarray(opened.convert("RGBA").getchannel("A"))


def lossy_picture(path: Path) -> str:
    """Return the name of a picture's lossy compression, or an empty string."""
    with path.open("rb") as stream:
        start = stream.read(12)
        if start[:3] == b"\xff\xd8\xff":
            return "JPEG"
        if start[:4] != b"RIFF" or start[8:12] != b"WEBP":
            return ""
        # In a WebP with alpha, a profile or EXIF the picture is one of several chunks.
        while len(head := stream.read(8)) == 8:
            kind, length = head[:4], int.from_bytes(head[4:], "little")
            if kind in (b"VP8 ", b"VP8L"):
                return "lossy WebP" if kind == b"VP8 " else ""
            stream.seek(length + length % 2, 1)
    return ""


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a picture with the Pillow class for its content, after a check of the free memory.

    `PIL.Image.open` is not used: it refuses large pictures regardless of memory, reads previews of photographs, and
    tries every format that it knows.
    """
    with path.open("rb") as stream:
        start = stream.read(16)
        stream.seek(0)
        with _recognise(start)(stream, str(path)) as opened:
            if isinstance(opened, BmpImageFile):
                _set_stored_bits(opened, stream)
            columns, rows = opened.size
            numbers = rows * columns * max(_itemsize(opened), len(opened.getbands()))
            png = isinstance(opened, PngImageFile)
            check_described(path, numbers, path.stat().st_size if png else numbers, 8 * DEFLATE_RATIO)
            if (frames := getattr(opened, "n_frames", 1)) > 1:
                raise pages_error(path, frames, "frames")
            yield opened


def _set_stored_bits(opened: Any, stream: IO[bytes]) -> None:
    """Correct the bit depth of a BMP of 4 or 8 bits, independent of its palette.

    Pillow takes a BMP with a black and white palette for 1 bit, and one of 4 bits with a grey palette for 8 bits.
    """
    place = stream.tell()
    stream.seek(28)
    bits = int.from_bytes(stream.read(2), "little")
    stream.seek(place)
    if (opened.mode, bits) not in (("1", 4), ("1", 8), ("L", 4)):
        return
    greys = (0, 255) if opened.mode == "1" else range(16)
    opened.palette = PIL.ImagePalette.raw("RGB", bytes(grey for grey in greys for _ in range(3)))
    opened._mode = "P"
    tile = opened.tile[0]
    if tile[0] == "raw":
        arguments = ("P;4" if bits == 4 else "P", *tile[3][1:])
        # A plain tuple before Pillow 11.
        opened.tile = [tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)]


def _recognise(start: bytes) -> Any:
    if start.startswith(_PNG):
        return PngImageFile
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImageFile  # reads the first picture of an MPO file
    if start.startswith(b"BM"):
        return BmpImageFile
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WebPImageFile
    if start.startswith((b"GIF87a", b"GIF89a")):
        return GifImageFile
    raise OSError("its content is not an image in a known format")


def _orientation(path: Path, opened: Any) -> tuple[int, tuple[str, ...]]:
    """Return the EXIF orientation, and a note if the EXIF data cannot be read."""
    if isinstance(opened, PngImageFile) and _describes_itself_late(path):
        with _open(path) as read:  # a second object: reading to the end changes the attributes of the first
            read.load()
            return _exif_orientation(read)
    return _exif_orientation(opened)


def _exif_orientation(opened: Any) -> tuple[int, tuple[str, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of Pillow about truncated tags
        try:
            found = PIL.Image.Image.getexif(opened).get(ORIENTATION_TAG, 1)
        except (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error):
            return 1, ("has EXIF data that cannot be read: it is taken as it is stored, without an orientation",)
    return (found if isinstance(found, int) else 1), ()


def _check_whole(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(8)
        if start == _PNG:
            _check_png(stream)
        elif start[:3] == b"\xff\xd8\xff":
            _check_jpeg(start + stream.read())


def _check_png(stream: IO[bytes]) -> None:
    """Compare the checksums of all chunks and of the compressed picture inside them."""
    unpacking = zlib.decompressobj()
    kind = b""
    for kind, content in _png_chunks(stream):
        if kind == b"IDAT" and not unpacking.eof:
            while content:
                unpacking.decompress(content, CHUNK)
                content = unpacking.unconsumed_tail
    if kind != b"IEND":
        raise OSError("it ends before its last chunk")
    if not unpacking.eof:
        raise OSError("its compressed picture ends before its checksum")


def _png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks after the signature; `OSError` for a truncated chunk or a wrong checksum."""
    while head := stream.read(8):
        if len(head) < 8:
            raise OSError("it ends within a chunk")
        length, kind = struct.unpack(">I4s", head)
        content, checksum = stream.read(length), stream.read(4)
        if len(content) < length or len(checksum) < 4:
            raise OSError(f"it ends within the chunk {kind.decode('latin-1')!r}")
        if zlib.crc32(kind + content) != int.from_bytes(checksum, "big"):
            raise OSError(f"the checksum of its chunk {kind.decode('latin-1')!r} differs")
        yield kind, content
        if kind == b"IEND":
            return


def _describes_itself_late(path: Path) -> bool:
    """Return whether a PNG has chunks after its picture that may contain an orientation."""
    with path.open("rb") as stream:
        stream.seek(8)
        picture = False
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            picture |= kind == b"IDAT"
            if picture and kind in _DESCRIBING:
                return True
            stream.seek(length + 4, 1)
    return False


def _check_jpeg(content: bytes) -> None:
    """Check for the end mark after the first scan, because decoders silently fill in the missing part of a scan."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == 0xDA:
            break
        place += (
            2 if marker == 1 or 0xD0 <= marker <= 0xD8 else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        )
    if content.find(b"\xff\xd9", place) < 0:
        raise OSError("it ends before its end-of-image mark")


def _is_deep_colour(opened: Any) -> bool:
    """Return whether this is a 16-bit PNG in colour or with alpha, which Pillow reduces to 8 bits."""
    if not isinstance(opened, PngImageFile) or not opened.tile:
        return False
    return str(opened.tile[0][3]) in ("RGB;16B", "RGBA;16B", "LA;16B")


def _deep_png(path: Path) -> npt.NDArray[Any]:
    import imagecodecs

    pixels = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise OSError(f"it is decoded as {pixels.dtype} {pixels.shape}")
    return pixels


def _is_grey(opened: Any) -> bool:
    if opened.mode in ("P", "PA"):
        palette = np.asarray(opened.getpalette("RGB")).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    if _is_deep_colour(opened):
        return str(opened.tile[0][3]).startswith("L")
    return opened.mode in _GREY_MODES or opened.mode.startswith("I;16")


def _step_of_grey(opened: Any) -> int:
    """Return the factor by which Pillow scales grey pictures of 2 and 4 bits to 8 bits; 1 otherwise."""
    stored = str(opened.tile[0][3]) if isinstance(opened, PngImageFile) and opened.tile else ""
    return {"L;2": 85, "L;4": 17}.get(stored, 1)


def _indices(opened: Any) -> npt.NDArray[Any]:
    """Return the palette indices; for a palette of white and black, white is 1 in either order."""
    palette = opened.getpalette("RGB")[:6]
    indices: npt.NDArray[Any] = np.asarray(opened.getchannel(0))
    if palette == [255, 255, 255, 0, 0, 0] and indices.max(initial=0) <= 1:
        return np.asarray(1 - indices, np.uint8)
    return indices


def _itemsize(opened: Any) -> int:
    return 2 if opened.mode.startswith("I;16") else 4 if opened.mode in ("I", "F") else 1


def _pixels(opened: Any, mode: str) -> npt.NDArray[Any]:
    """Return the pixels of ``opened`` as grey ("L", at the depth of the file) or colour ("RGB")."""
    keeps_depth = opened.mode in ("1", "I", "F") or opened.mode.startswith("I;16")
    return np.asarray(opened if keeps_depth else opened.convert(mode))
