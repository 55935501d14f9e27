"""Parse MetaImage headers and write label maps as MetaImage."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.voxels import Voxels, data_files, numbers_of, read_header_lines, sizes_of
from deconvseg.data.formats.worlds import itk_axes, itk_bytes, itk_size, join_numbers
from deconvseg.data.geometry import Geometry
from deconvseg.errors import InputError

METAIMAGE_SUFFIXES = (".mha", ".mhd")

_WRITTEN = {
    **{"uint8": "MET_UCHAR", "int16": "MET_SHORT", "uint16": "MET_USHORT", "int32": "MET_INT"},
    **{"int64": "MET_LONG_LONG", "float32": "MET_FLOAT"},
}
_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_MILLIMETRES = {"um": 0.001, "mm": 1.0, "cm": 10.0}


class MetaImageHeader:
    """The fields of a MetaImage header; `OSError` for an invalid header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, str] = {}
        self.listed: list[str] = []
        with path.open("rb") as stream:
            lines = read_header_lines(path, stream)
            for line in lines:
                name, equals, value = line.partition("=")
                if not equals:
                    if line.strip():
                        raise OSError(f"its header has the line {line[:60]!r}, which is not a field of a MetaImage")
                    continue
                if name.strip() in self.fields:
                    raise OSError(f"its header has the field {name.strip()[:60]!r} twice")
                self.fields[name.strip()] = value.strip()
                if name.strip() == "ElementDataFile":
                    break
            self.end = stream.tell()
            if self.fields.get("ElementDataFile", "").startswith("LIST"):
                self.listed = list(lines)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files with the voxels: the header file itself for LOCAL data."""
        named = self._require("ElementDataFile")
        return (self.path,) if named.upper() == "LOCAL" else data_files(self.path, named, self.listed)

    @property
    def voxels(self) -> Voxels:
        """Return how the numbers are stored."""
        sizes = sizes_of(self._require("DimSize"), self._axes(), "DimSize")
        named = self._require("ElementType").removesuffix("_ARRAY")
        if named not in _TYPES:
            raise OSError(f"its ElementType is {named[:60]!r}, which no image of numbers has")
        big = self._is_true("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
        dtype = np.dtype(f"{'>' if big else '<'}{_TYPES[named]}")
        components = sizes_of(self.fields.get("ElementNumberOfChannels", "1"), 1, "ElementNumberOfChannels")[0]
        files, local = self.files, self._require("ElementDataFile").upper() == "LOCAL"
        skip = int(numbers_of(self.fields.get("HeaderSize", "0"), 1, "HeaderSize")[0])
        if skip < -1:
            raise OSError(f"its HeaderSize is {skip}")
        return Voxels(
            *(self.path, (components, *sizes) if components > 1 else sizes, dtype),
            "zlib" if self._is_true("CompressedData") else "raw" if self._is_true("BinaryData") else "text",
            files,
            start=-1 if skip == -1 and not local else self.end if local else max(0, skip),
            components=0 if components > 1 else None,
        )

    def affine(self, voxels: Voxels) -> npt.NDArray[np.float64]:
        """Return the affine in ITK's world (left, posterior, superior) and the file's unit, for at most three axes."""
        dims, used = self._axes(), min(len(voxels.domain), 3)
        spacing = np.array(
            numbers_of(self._first("ElementSpacing", "ElementSize", default="1 " * dims), dims, "spacing")
        )
        if not (spacing > 0).all():
            raise OSError(f"its spacing is {tuple(map(float, spacing))}, where positive numbers are expected")
        identity = join_numbers(np.eye(dims).ravel())
        matrix = self._first("TransformMatrix", "Rotation", "Orientation", default=identity)
        axes = np.array(numbers_of(matrix, dims * dims, "TransformMatrix")).reshape(dims, dims).T
        origin = np.array(numbers_of(self._first("Offset", "Position", "Origin", default="0 " * dims), dims, "Offset"))
        affine = np.eye(used + 1)
        affine[:used, :used] = (axes * spacing)[:used, :used]
        affine[:used, -1] = origin[:used]
        return affine

    def unit(self) -> tuple[str, float]:
        """Return the unit of length in the header and its factor to millimetres; 1 if there is no unit."""
        named = self.fields.get("DistanceUnits", "")
        return (named, _MILLIMETRES[named]) if named in _MILLIMETRES else ("", 1.0)

    def unknown_units(self) -> list[str]:
        """Return the unit of length in the header if it is unknown to this reader."""
        named = self.fields.get("DistanceUnits", "?")
        return [] if named in (*_MILLIMETRES, "?", "") else [named]

    def has_spacing(self) -> bool:
        """Return whether the header gives the distances between voxels."""
        return "ElementSpacing" in self.fields or "ElementSize" in self.fields

    def _axes(self) -> int:
        dims = numbers_of(self._require("NDims"), 1, "NDims")[0]
        if dims not in (2, 3, 4):
            raise InputError(f"{self.path} has {dims:g} axes, where a 2D or 3D image is expected")
        return int(dims)

    def _first(self, *names: str, default: str) -> str:
        return next((self.fields[name] for name in names if name in self.fields), default)

    def _is_true(self, *names: str) -> bool:
        value = self._first(*names, default="False").lower()
        if value not in ("true", "false", "t", "f", "1", "0"):
            raise OSError(f"its {names[0]} is {value[:60]!r}, where True or False is expected")
        return value in ("true", "t", "1")

    def _require(self, name: str) -> str:
        if name not in self.fields:
            raise OSError(f"its header has no field {name}")
        return self.fields[name]


def save_metaimage(pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, like: Path | None) -> None:
    """Write numbers (X, Y, Z) or (rows, columns) and a header to one file, in the unit of the MetaImage ``like``."""
    source = None if like is None or not like.name.lower().endswith(METAIMAGE_SUFFIXES) else MetaImageHeader(like)
    unit, scale = ("", 1.0) if source is None else source.unit()
    axes, origin = (part / scale for part in itk_axes(geometry))
    spacing = np.linalg.norm(axes, axis=0)
    voxels = zlib.compress(itk_bytes(pixels))
    header = {
        "ObjectType": "Image",
        "NDims": len(origin),
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": len(voxels),
        "TransformMatrix": join_numbers((axes / spacing).T.ravel()),
        "Offset": join_numbers(origin),
        "ElementSpacing": join_numbers(spacing),
        **({"DistanceUnits": unit} if scale != 1 else {}),
        "DimSize": " ".join(map(str, itk_size(pixels))),
        "ElementType": _WRITTEN[pixels.dtype.name],
        "ElementDataFile": "LOCAL",
    }
    with path.open("wb") as stream:
        stream.write("".join(f"{name} = {value}\n" for name, value in header.items()).encode())
        stream.write(voxels)
