"""Read FreeSurfer volumes: MGH and its compressed form MGZ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from deconvseg.data.formats.decoding import check_number_type
from deconvseg.data.formats.registry import register_reader
from deconvseg.data.formats.volumes import Volume, VolumeReader, decompressed

_HEADER_BYTES = 284  # including reserved bytes; the numbers follow
_VERSION = 1
_PLACED = slice(28, 30)  # the bytes of the flag that the header contains a position and orientation
# FreeSurfer's default for a header without position: x to the left, y down, z to the front, around the origin.
_CORONAL = ((-1, 0, 0), (0, 0, -1), (0, 1, 0))


@register_reader("mgh", reads=(".mgz", ".mgh"))
class MghReader(VolumeReader):
    """Reads FreeSurfer volumes; a fourth axis (frames) is the channels.

    A volume next to a file of the same name in another format counts as a copy of it.
    """

    kind = "MGH file"
    copies = True

    def open(self, path: Path) -> Volume:
        """Return the header; FreeSurfer's default position is used, and noted, if the file has none."""
        with decompressed(path) as (stream, _):
            block = stream.read(_HEADER_BYTES)
        if len(block) < _HEADER_BYTES or int.from_bytes(block[:4], "big") != _VERSION:
            raise OSError("it does not begin with the header of a MGH file")
        header = MGHHeader(block, check=False)
        sizes = tuple(int(size) for size in header["dims"])
        if min(sizes) < 1:
            raise OSError(f"its header describes the shape {sizes}")
        dtype = np.dtype(header.get_data_dtype()).newbyteorder(">")
        check_number_type(path, dtype)
        placed = any(block[_PLACED])  # nibabel sets the flag, but with axes that differ from FreeSurfer's
        if not placed:
            header["delta"], header["Mdc"], header["Pxyz_c"] = 1, _CORONAL, 0
        notes = ("its header gives no place: coronal slices of 1 mm are assumed, as FreeSurfer does",)
        return Volume(
            *(path, path, sizes if sizes[3] > 1 else sizes[:3], dtype, _HEADER_BYTES),
            slope=None,
            inter=0.0,
            affine=np.array(header.get_affine(), np.float64),
            placed=placed,
            notes=() if placed else notes,
        )
