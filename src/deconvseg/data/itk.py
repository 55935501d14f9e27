"""NRRD and MetaImage files to arrays and back: read through SimpleITK, written here."""

from __future__ import annotations

import math
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.decoding import naming
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError

NRRD_SUFFIXES = (".nrrd", ".nhdr", ".seg.nrrd")
METAIMAGE_SUFFIXES = (".mha", ".mhd")

_LONGEST_HEADER = 2**16  # bytes in which a header is looked through for what SimpleITK does not tell
_DATA_FILE = re.compile(rb"^(?:data ?file:|ElementDataFile *=)[ \t]*([^\r\n]+?)[ \t]*\r?$", re.MULTILINE)
_NO_PLAIN_VOXELS = re.compile(
    rb"^(?:encoding:(?! *raw)|(?:byte|line) ?skip:|CompressedData *= *True|HeaderSize *=)", re.MULTILINE | re.IGNORECASE
)

# The worlds of NRRD that are anatomical, as signs of their axes in SimpleITK's (left, posterior, superior).
_SPACES = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
}
_SPACE_ABBREVIATIONS = {
    "lps": "left-posterior-superior",
    "ras": "right-anterior-superior",
    "las": "left-anterior-superior",
}
_METAIMAGE_TYPES = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT", "int32": "MET_INT", "int64": "MET_LONG_LONG"}


class ItkReader:
    """Reads NRRD and MetaImage in 2D and 3D, and several numbers per voxel where channels last are asked for."""

    def accepts(self, path: Path) -> bool:
        """Whether the name ends in .nrrd, .nhdr, .mha or .mhd."""
        return path.name.lower().endswith((*NRRD_SUFFIXES, *METAIMAGE_SUFFIXES))

    def read_header(self, path: Path) -> Header:
        """The numbers per voxel, or a fourth axis, are the channels."""
        import SimpleITK as sitk  # noqa: N813

        with _decoding(path):
            header = _open(path)
            # Of a number, whatever the voxels have of them.
            number = sitk.Image([1] * header.GetDimension(), header.GetPixelID(), header.GetNumberOfComponents())
            dims = min(header.GetDimension(), 3)
            shape = tuple(header.GetSize())[:dims]
            shape = shape if dims == 3 else shape[::-1]
            return Header(_count_channels(header), shape, number.GetSizeOfPixelComponent())

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Intensities (C, X, Y, Z) or (C, rows, columns) in float32."""
        with _decoding(path):
            header = _open(path)
            _check_axes(path, header, channels_last=channels_last)
            image = _execute(path, header)
            pixels = _channels_first(image).astype(np.float32, order="C")
            return pixels, _geometry(image)

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Labels (X, Y, Z) or (rows, columns), in the type of the file."""
        with _decoding(path):
            header = _open(path)
            components = header.GetNumberOfComponents()
            if components > 1:
                raise InputError(
                    f"{path} has {components} numbers per voxel (overlapping segments, or colours), where a mask has "
                    "one; export it as a single label map"
                )
            _check_axes(path, header, channels_last=False)
            image = _execute(path, header)
            return _channels_first(image)[0].copy(order="C"), _geometry(image)


def image_from_itk(image: Any) -> tuple[npt.NDArray[Any], Geometry]:
    """Intensities (C, X, Y, Z) or (C, rows, columns) of SimpleITK's image, in its own type, and their geometry."""
    return _channels_first(image).copy(order="C"), _geometry(image)


def voxel_files(path: Path) -> tuple[Path, ...]:
    """The other files that hold the voxels of a NRRD or MetaImage, where it names them; not those of a pattern."""
    header = _header_text(path)
    named = _DATA_FILE.search(header)
    if named is None or named[1].split(b" ")[0] != b"LIST":
        single = _data_file(path, header)
        return () if single is None else (single,)
    names = header[named.end() :].decode("utf-8", "replace").splitlines()
    return tuple(path.parent / name.strip() for name in names if name.strip())


def save_nrrd(pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, like: Path | None) -> None:
    """Write labels (X, Y, Z) or (rows, columns), gzipped, in the world (RAS, LPS, LAS) of a ``like`` that is a NRRD."""
    axes, origin = _itk_axes(geometry)
    dims = len(origin)
    if dims == 3:
        space = _nrrd_space(like)
        signs = np.array(_SPACES[space])
        axes, origin = signs[:, None] * axes, signs * origin
        world = f"space: {space}"
    else:
        world = f"space dimension: {dims}"
    directions = " ".join("(" + _numbers(axis, ",") + ")" for axis in axes.T)
    header = [
        "NRRD0004",
        f"type: {pixels.dtype.name}",
        f"dimension: {dims}",
        world,
        f"sizes: {' '.join(map(str, _itk_size(pixels)))}",
        f"space directions: {directions}",
        f"kinds: {' '.join(['domain'] * dims)}",
        "endian: little",
        "encoding: gzip",
        f"space origin: ({_numbers(origin, ',')})",
    ]
    with path.open("wb") as stream:
        stream.write("\n".join([*header, "", ""]).encode())
        with GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as compressed:
            compressed.write(_itk_bytes(pixels))


def save_metaimage(pixels: npt.NDArray[Any], geometry: Geometry, path: Path) -> None:
    """Write labels (X, Y, Z) or (rows, columns) and their header into one compressed file."""
    axes, origin = _itk_axes(geometry)
    spacing = np.linalg.norm(axes, axis=0)
    voxels = zlib.compress(_itk_bytes(pixels))
    header = {
        "ObjectType": "Image",
        "NDims": len(origin),
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": len(voxels),
        "TransformMatrix": _numbers((axes / spacing).T.ravel()),
        "Offset": _numbers(origin),
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(map(str, _itk_size(pixels))),
        "ElementType": _METAIMAGE_TYPES[pixels.dtype.name],
        "ElementDataFile": "LOCAL",
    }
    with path.open("wb") as stream:
        stream.write("".join(f"{name} = {value}\n" for name, value in header.items()).encode())
        stream.write(voxels)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Errors of SimpleITK, which are all RuntimeErrors of many lines, in one line that names the file."""
    nrrd = path.name.lower().endswith(NRRD_SUFFIXES)
    with naming(path, "NRRD file" if nrrd else "MetaImage"):
        try:
            yield
        except RuntimeError as error:
            data = _data_file(path, _header_text(path))
            if data is not None and not data.is_file():
                raise InputError(f"{path} keeps its voxels in {data}, which does not exist; copy both files") from error
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # MetaImage's own reason is the state of errno, whatever happened.
            reason = re.sub(r"^\[nrrd\] \w+: ", "", lines[-1]) if nrrd else "its header and its voxels do not fit"
            raise OSError(reason) from error


def _open(path: Path) -> Any:
    """SimpleITK's reader of a file whose header has been read."""
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.GlobalWarningDisplayOff()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if path.name.lower().endswith(NRRD_SUFFIXES) else "MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise InputError(f"{path} stores complex numbers, where real ones are expected; write one real image per part")
    return reader


def _count_channels(header: Any) -> int:
    components, size = header.GetNumberOfComponents(), header.GetSize()
    return math.prod((components, *size[3:]))


def _check_axes(path: Path, header: Any, *, channels_last: bool) -> None:
    """Raise an `InputError` for more than 3 axes and for several numbers per voxel, unless these are the channels."""
    size, components = tuple(header.GetSize()), header.GetNumberOfComponents()
    found = f"has {components} numbers per voxel" if components > 1 else f"is {len(size)}D {size}"
    if len(size) not in (2, 3, 4):
        raise InputError(f"{path} {found}, where a 2D or 3D image is expected")
    if _count_channels(header) > 1 and not channels_last:
        raise InputError(
            f"{path} {found}, where a 2D or 3D image with one is expected; write one file per channel "
            f"(CASE_0000{path.suffix}, CASE_0001{path.suffix}, …)"
        )


def _execute(path: Path, header: Any) -> Any:
    """SimpleITK's image; `InputError` where plain voxels in a file of their own are more than the header describes."""
    image = header.Execute()
    text = _header_text(path)
    data = _data_file(path, text)
    if data is not None and not _NO_PLAIN_VOXELS.search(text):
        described = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
        if data.stat().st_size != described:
            raise InputError(
                f"{path} describes {described} bytes of voxels, but {data} has {data.stat().st_size}: it belongs to "
                "another image; copy both files again"
            )
    return image


def _header_text(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_LONGEST_HEADER).partition(b"\n\n")[0]


def _data_file(path: Path, header: bytes) -> Path | None:
    """The file that holds the voxels, where that is another one; None for a list or a pattern of files too."""
    named = _DATA_FILE.search(header)
    name = named[1].decode("utf-8", "replace") if named else "LOCAL"
    several = name.split(" ")[0] == "LIST" or "%" in name
    return None if name == "LOCAL" or several or "\0" in name else path.parent / name


def _channels_first(image: Any) -> npt.NDArray[Any]:
    """A view (C, X, Y, Z) or (C, rows, columns) into ``image``, valid as long as that lives."""
    import SimpleITK as sitk  # noqa: N813

    view: npt.NDArray[Any] = sitk.GetArrayViewFromImage(image)  # slowest axis first, numbers per voxel last
    view = np.moveaxis(view, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else view
    dims = min(image.GetDimension(), 3)
    channels = view.reshape(-1, *view.shape[-dims:])
    return channels.transpose(0, 3, 2, 1) if dims == 3 else channels


def _geometry(image: Any) -> Geometry:
    every = image.GetDimension()
    dims = min(every, 3)
    direction = np.reshape(image.GetDirection(), (every, every))[:dims, :dims]
    affine = np.eye(dims + 1)
    affine[:-1, :-1] = direction * np.array(image.GetSpacing()[:dims])
    affine[:-1, -1] = image.GetOrigin()[:dims]
    return Geometry(_other_world(affine))


def _other_world(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From ITK's world to ours, or back: LPS ↔ RAS in 3D; in 2D (x, y) ↔ (row, column), of the array too."""
    if len(affine) == 4:
        flipped: npt.NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        return flipped
    swap = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    swapped: npt.NDArray[np.float64] = swap @ affine @ swap
    return swapped


def _itk_axes(geometry: Geometry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The steps of the file's axes, as columns, and the first voxel's place, in ITK's world."""
    affine = _other_world(geometry.affine)
    return affine[:-1, :-1], affine[:-1, -1]


def _itk_size(pixels: npt.NDArray[Any]) -> tuple[int, ...]:
    return pixels.shape if pixels.ndim == 3 else pixels.shape[::-1]


def _itk_bytes(pixels: npt.NDArray[Any]) -> bytes:
    little = pixels if sys.byteorder == "little" else pixels.astype(pixels.dtype.newbyteorder("<"))
    return little.tobytes(order="F" if pixels.ndim == 3 else "C")


def _numbers(values: npt.NDArray[np.float64], separator: str = " ") -> str:
    return separator.join(f"{value:.17g}" for value in values)


def _nrrd_space(like: Path | None) -> str:
    """The anatomical world of a NRRD; left-posterior-superior, which ITK takes all others for, where it has none."""
    default = "left-posterior-superior"
    if like is None or not like.name.lower().endswith(NRRD_SUFFIXES):
        return default
    named = re.search(rb"^space:[ \t]*([\w-]+)", _header_text(like), re.MULTILINE)
    space = named[1].decode().lower() if named else default
    space = _SPACE_ABBREVIATIONS.get(space, space)
    return space if space in _SPACES else default
