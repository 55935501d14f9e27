"""Parse NRRD headers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.voxels import Encoding, Voxels, data_files, numbers_of, read_header_lines, sizes_of
from deconvseg.errors import InputError

NRRD_SUFFIXES = (".nrrd", ".nhdr", ".seg.nrrd")

# NRRD's anatomical spaces, as signs of their axes in ITK's world (left, posterior, superior).
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
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "txt": "text", "text": "text", "ascii": "text", "hex": "hex", "gz": "gzip", "gzip": "gzip",
    "bz2": "bzip2", "bzip2": "bzip2",
}  # fmt: skip
_FIELDS = {
    *("type", "dimension", "sizes", "encoding", "endian", "datafile", "lineskip", "byteskip", "space"),
    *("spacedimension", "spacedirections", "spaceorigin", "spaceunits", "measurementframe", "spacings", "thicknesses"),
    *("axismins", "axismaxs", "centers", "centerings", "labels", "units", "kinds", "min", "max", "oldmin", "oldmax"),
    *("content", "number", "blocksize", "sampleunits"),
}
# Kinds of domain axes; a fourth axis of time points is a domain axis too.
_DOMAIN_KINDS = ("domain", "space", "time", "???", "none")
_MILLIMETRES = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 0.001),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-6),
}


class NrrdHeader:
    """The fields of a NRRD header; `OSError` for unknown or repeated fields."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, str] = {}
        self.listed: list[str] = []
        with path.open("rb") as stream:
            if not re.fullmatch(rb"NRRD000[1-9]\s*", stream.readline(64)):
                raise OSError("it does not begin as a NRRD")
            for line in read_header_lines(path, stream):
                if not line.strip():
                    break
                if "LIST" in self.fields.get("datafile", "")[:4]:
                    self.listed.append(line)
                else:
                    self._take(line)
            self.end = stream.tell()

    def _take(self, line: str) -> None:
        if line.startswith("#") or ":=" in line:
            return
        name, colon, value = line.partition(":")
        field = name.replace(" ", "").lower()
        if not colon or field not in _FIELDS:
            raise OSError(f"its header has the line {line[:60]!r}, which is not a field of a NRRD")
        if field in self.fields:
            raise OSError(f"its header has the field {name!r} twice")
        self.fields[field] = value.strip()

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files with the voxels: the header file itself if the header names none."""
        named = self.fields.get("datafile")
        return (self.path,) if named is None else data_files(self.path, named, self.listed)

    @property
    def voxels(self) -> Voxels:
        """Return how the numbers are stored."""
        dimension = int(numbers_of(self._require("dimension"), 1, "dimension")[0])
        sizes = sizes_of(self._require("sizes"), dimension, "sizes")
        dtype = self._dtype()
        encoding = _ENCODINGS.get(self._require("encoding").lower())
        if encoding is None:
            raise OSError(f"its encoding is {self.fields['encoding']!r}, which no NRRD has")
        files = self.files
        line_skip, byte_skip = (
            int(numbers_of(self.fields.get(name, "0"), 1, name)[0]) for name in ("lineskip", "byteskip")
        )
        if line_skip < 0 or byte_skip < -1 or (byte_skip == -1 and encoding != "raw"):
            raise OSError(f"it skips {line_skip} lines and {byte_skip} bytes before its voxels")
        components = self._components(sizes)
        return Voxels(
            *(self.path, sizes, dtype, encoding, files),
            start=-1 if byte_skip == -1 else self.end if files == (self.path,) else 0,
            line_skip=line_skip,
            byte_skip=max(0, byte_skip),
            components=components,
        )

    def affine(self, voxels: Voxels) -> npt.NDArray[np.float64]:
        """Return the affine in ITK's world (left, posterior, superior) and the file's unit, for at most three axes."""
        dims = min(len(voxels.domain), 3)
        axes = [axis for axis in range(len(voxels.sizes)) if axis != voxels.components][:dims]
        affine = np.eye(dims + 1)
        vectors = self._directions(len(voxels.sizes))
        if vectors is None:
            affine[:dims, :dims] = np.diag(self._spacings(len(voxels.sizes), axes))
            affine[:dims, -1] = self._mins(len(voxels.sizes), axes, np.diag(affine)[:dims])
            return affine
        chosen = [vectors[axis] for axis in axes]
        if any(vector is None or len(vector) < dims for vector in chosen):
            raise OSError(f"its space directions are {self.fields['spacedirections'][:60]!r}, one of which is missing")
        columns = np.array(chosen, np.float64)
        if dims == 2 and columns.shape[1] == 3:  # a slice in 3D space: masks do not need its position
            affine[:2, :2] = np.diag(np.linalg.norm(columns, axis=1))
            return affine
        signs = space_signs(self.space)[:dims] if dims == 3 else np.ones(dims)
        affine[:dims, :dims] = signs[:, None] * columns[:, :dims].T
        affine[:dims, -1] = signs * self._origin(dims)
        return affine

    @property
    def space(self) -> str:
        """Return the anatomical space; left-posterior-superior, as in ITK, for any other."""
        return anatomical_space(self.fields.get("space", ""))

    def unit(self) -> tuple[str, float]:
        """Return the unit of length and its factor to millimetres (1 without unit); `OSError` for several units."""
        text = self.fields.get("spaceunits") or self.fields.get("units", "")
        named = {name.strip().lower() for name in re.findall(r'"([^"]*)"', text)} - {"", "???", "none"}
        known = {name: _MILLIMETRES[name] for name in named if name in _MILLIMETRES}
        if len(set(known.values())) > 1:
            raise OSError(f"its axes have different units ({text[:60]})")
        return next(iter(known.items()), ("", 1.0))

    def unknown_units(self) -> list[str]:
        """Return the units of length in the header that are unknown to this reader."""
        named = {name.strip().lower() for name in re.findall(r'"([^"]*)"', self.fields.get("spaceunits", ""))}
        return sorted(named - {"", "???", "none"} - set(_MILLIMETRES))

    def _require(self, name: str) -> str:
        if name not in self.fields:
            raise OSError(f"its header has no field {name!r}")
        return self.fields[name]

    def _dtype(self) -> np.dtype[Any]:
        named = self._require("type").lower()
        code = next((code for code, names in _TYPES.items() if named in names), None)
        if code is None:
            raise OSError(f"its type is {named[:60]!r}, which no image has")
        endian = self.fields.get("endian", "").lower()
        if endian not in ("", "little", "big"):
            raise OSError(f"its endian is {endian[:60]!r}")
        text = self.fields.get("encoding", "").lower() in ("txt", "text", "ascii")
        if not endian and code[1] != "1" and not text:
            raise OSError("its header does not say which byte of a number comes first (endian)")
        return np.dtype(f"{'>' if endian == 'big' else '<'}{code}")

    def _components(self, sizes: tuple[int, ...]) -> int | None:
        """Return the axis of components: its kind is not that of a domain, or it has no direction in space."""
        kinds = self.fields.get("kinds", "").lower().split()
        if kinds and len(kinds) != len(sizes):
            raise OSError(f"it has {len(kinds)} kinds, where {len(sizes)} are expected")
        found = [axis for axis, kind in enumerate(kinds) if kind not in _DOMAIN_KINDS]
        vectors = self._directions(len(sizes))
        if not kinds and vectors is not None:
            found = [axis for axis, vector in enumerate(vectors[:-1]) if vector is None]
        if len(found) > 1:
            raise InputError(
                f"{self.path} has {len(found)} axes that are not in space ({' '.join(kinds)}), where at most one is "
                "expected; export it with one number, or one list of numbers, per voxel"
            )
        if found and kinds and kinds[found[0]] == "complex":
            raise InputError(
                f"{self.path} stores complex numbers, where real ones are expected; write one real image per part"
            )
        return found[0] if found else None

    def _directions(self, axes: int) -> list[tuple[float, ...] | None] | None:
        text = self.fields.get("spacedirections")
        if text is None:
            return None
        words = re.findall(r"none|\([^()]*\)", text, re.IGNORECASE)
        if len(words) != axes or re.sub(r"none|\([^()]*\)", "", text, flags=re.IGNORECASE).strip():
            raise OSError(f"its space directions are {text[:60]!r}, where {axes} vectors are expected")
        return [None if word.lower() == "none" else _vector(word, "space directions") for word in words]

    def _origin(self, dims: int) -> npt.NDArray[np.float64]:
        text = self.fields.get("spaceorigin")
        if text is None:
            return np.zeros(dims)
        vector = _vector(text, "space origin")
        if len(vector) < dims:
            raise OSError(f"its space origin is {text[:60]!r}, where {dims} numbers are expected")
        return np.array([0.0 if np.isnan(number) else number for number in vector[:dims]])

    def _spacings(self, count: int, axes: list[int]) -> npt.NDArray[np.float64]:
        if "spacings" not in self.fields:
            return np.ones(len(axes))
        spacings = np.array(numbers_of(self.fields["spacings"], count, "spacings"))[axes]
        spacings = np.nan_to_num(spacings, nan=1.0)
        if not (spacings > 0).all():
            raise OSError(f"its spacings are {self.fields['spacings'][:60]!r}, where positive numbers are expected")
        return np.asarray(spacings, np.float64)

    def _mins(self, count: int, axes: list[int], spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if "axismins" not in self.fields:
            return np.zeros(len(axes))
        mins = np.array(numbers_of(self.fields["axismins"], count, "axis mins"))[axes]
        if np.isnan(mins).any():
            return np.zeros(len(axes))
        centers = self.fields.get("centers", self.fields.get("centerings", "")).lower().split()
        nodes = [len(centers) > axis and centers[axis] == "node" for axis in axes]
        return np.asarray(mins + np.where(nodes, 0, spacing / 2), np.float64)


def anatomical_space(named: str) -> str:
    """Return the full name of an anatomical NRRD space; left-posterior-superior for any other."""
    space = named.strip().lower().removesuffix("-time")
    space = _SPACE_ABBREVIATIONS.get(space, space)
    return space if space in _SPACES else "left-posterior-superior"


def space_signs(space: str) -> npt.NDArray[np.float64]:
    """Return the signs of a space's axes in ITK's world (left, posterior, superior)."""
    return np.array(_SPACES[space])


def _vector(text: str, what: str) -> tuple[float, ...]:
    if not re.fullmatch(r"\([^()]*\)", text.strip()):
        raise OSError(f"its {what} is {text[:60]!r}, where a vector is expected")
    return numbers_of(text.strip()[1:-1].replace(",", " "), None, what)
