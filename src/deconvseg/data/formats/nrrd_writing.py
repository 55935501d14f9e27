"""Write label maps as NRRD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from gzip import GzipFile
from pathlib import Path
from typing import Any

import numpy.typing as npt

from deconvseg.data.colours import colour_numbers
from deconvseg.data.formats.nrrd import NRRD_SUFFIXES, NrrdHeader, anatomical_space, space_signs
from deconvseg.data.formats.reader import Segment
from deconvseg.data.formats.worlds import itk_axes, itk_bytes, itk_size, join_numbers
from deconvseg.data.geometry import Geometry


def save_nrrd(
    pixels: npt.NDArray[Any],
    geometry: Geometry,
    path: Path,
    *,
    like: Path | None,
    segments: Sequence[Segment] = (),
) -> None:
    """Write labels (X, Y, Z) or (rows, columns), gzipped, in the space and unit of ``like`` if that is a NRRD.

    ``segments`` are named in the fields of 3D Slicer's ``.seg.nrrd``.
    """
    source = None if like is None or not like.name.lower().endswith(NRRD_SUFFIXES) else NrrdHeader(like)
    unit, scale = ("", 1.0) if source is None else source.unit()
    axes, origin = (part / scale for part in itk_axes(geometry))
    dims = len(origin)
    world = [f"space dimension: {dims}"]
    if dims == 3:
        space = anatomical_space("" if source is None else source.fields.get("space", ""))
        signs = space_signs(space)
        axes, origin = signs[:, None] * axes, signs * origin
        world = [f"space: {space}"]
    directions = " ".join("(" + join_numbers(axis, ",") + ")" for axis in axes.T)
    header = [
        "NRRD0004",
        f"type: {pixels.dtype.name}",
        f"dimension: {dims}",
        *world,
        f"sizes: {' '.join(map(str, itk_size(pixels)))}",
        f"space directions: {directions}",
        f"kinds: {' '.join(['domain'] * dims)}",
        "endian: little",
        "encoding: gzip",
        *([f"space units: {' '.join([chr(34) + unit + chr(34)] * dims)}"] if scale != 1 else []),
        f"space origin: ({join_numbers(origin, ',')})",
        *_segment_fields(segments, itk_size(pixels)),
    ]
    with path.open("wb") as stream:
        stream.write("\n".join([*header, "", ""]).encode())
        with GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as compressed:
            compressed.write(itk_bytes(pixels))


def _segment_fields(segments: Sequence[Segment], size: Sequence[int]) -> Iterator[str]:
    """The lines by which Slicer knows the segments of a label map."""
    extent = " ".join(f"0 {length - 1}" for length in size)
    for number, segment in enumerate(segments):
        fields = {"ID": f"Segment_{segment.value}", "Name": " ".join(segment.name.split())}
        if segment.colour is not None:
            fields["Color"] = " ".join(f"{part / 255:.6g}" for part in colour_numbers(segment.colour))
        fields |= {"LabelValue": str(segment.value), "Layer": "0", "Extent": extent}
        yield from (f"Segment{number}_{name}:={text}" for name, text in fields.items())
