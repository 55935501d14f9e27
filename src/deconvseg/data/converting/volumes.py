"""Write volumes as NIfTI: a file that fits is copied, the stored numbers of others are kept where possible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data.converting.files import WrittenFile, compress_file, copy_file, is_gzip
from deconvseg.data.formats.nifti import NiftiVolume, open_nifti, save_nifti_stored
from deconvseg.data.formats.registry import find_format
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Image
from deconvseg.system import atomic_write

# Units of length that ITK and nibabel take for millimetres: none, and millimetres.
_UNITS = (0, 2)
_WHOLE = (np.uint8, np.int16, np.uint16, np.int32)
# Entries of the affines of qform and sform (mm) that count as equal.
_SAME_PLACE = 1e-3


def write_volumes(paths: Sequence[Path], image: Image, targets: Sequence[Path], *, link: bool) -> list[WrittenFile]:
    """Write the channels of an image that was read from ``paths``: a file each, or all in one file."""
    opened = {path: _open(path) for path in paths}
    sources = [(path, place) for path in paths for place in range(image.channels if len(paths) == 1 else 1)]
    if len(targets) == 1:
        return [_write(sources, opened, image, range(image.channels), targets[0], link)]
    return [_write([sources[k]], opened, image, [k], target, link) for k, target in enumerate(targets)]


def why_not_copied(path: Path, geometry: Geometry, axes: int) -> str:
    """Return why a file cannot be taken as it is; an empty string if it is a NIfTI with this place and these axes."""
    volume = _open(path)
    if volume is None:
        return f"{_format(path)} to NIfTI"
    return _why_not_copied(volume, geometry, axes)


def _open(path: Path) -> NiftiVolume | None:
    return open_nifti(path, path, path) if _format(path) == "nifti" else None


def _format(path: Path) -> str:
    known = find_format(path)
    return "" if known is None else known.name


def _write(
    sources: Sequence[tuple[Path, int]],
    opened: dict[Path, NiftiVolume | None],
    image: Image,
    channels: Sequence[int],
    target: Path,
    link: bool,
) -> WrittenFile:
    path, volume = sources[0][0], opened[sources[0][0]]
    files = dict.fromkeys(source for source, _ in sources)
    if len(files) > 1:
        reason = f"{len(files)} files joined"
    elif len(sources) < (1 if volume is None else int(np.prod(volume.shape[3:]))):
        reason = f"channel {channels[0]} of a file with several"
    else:
        reason = why_not_copied(path, image.geometry, 3 if len(sources) == 1 else 4)
    if not reason:
        return copy_file(path, target, link=link) if is_gzip(path) else compress_file(path, target)
    volumes = [opened[source] for source in files]
    stored = _stored(sources, volumes)
    with atomic_write(target) as temporary:
        if stored is not None and volume is not None:
            numbers, like = stored, path if not _misplaced(volume, image.geometry) else None
            save_nifti_stored(numbers, image.geometry, temporary, like=like, slope=volume.slope, inter=volume.inter)
        else:
            numbers = smallest_exact(np.moveaxis(image.pixels[list(channels)], 0, -1))
            save_nifti_stored(numbers[..., 0] if len(channels) == 1 else numbers, image.geometry, temporary, like=None)
    return WrittenFile(target, "written", reason)


def _stored(sources: Sequence[tuple[Path, int]], volumes: Sequence[NiftiVolume | None]) -> npt.NDArray[Any] | None:
    """Return the stored numbers (X, Y, Z) or (X, Y, Z, C) of NIfTI files of one type and scaling; None for others."""
    known = [volume for volume in volumes if volume is not None]
    kinds = {(volume.dtype.newbyteorder("="), volume.slope, volume.inter) for volume in known}
    if len(known) < len(volumes) or len(kinds) != 1 or known[0].dtype.itemsize > 8:
        return None
    numbers = {volume.path: volume.read().reshape((*volume.shape[:3], -1), order="F") for volume in known}
    parts = [numbers[path][..., place] for path, place in sources]
    joined = parts[0] if len(parts) == 1 else np.stack(parts, axis=-1)
    return joined.astype(joined.dtype.newbyteorder("="))


def _why_not_copied(volume: NiftiVolume, geometry: Geometry, axes: int) -> str:
    if volume.header.sizeof_hdr != 348:
        return "NIfTI-2 to NIfTI-1"
    if (found := int(volume.header["dim"][0])) != axes:
        return f"{found} axes, where {axes} are expected"
    return _misplaced(volume, geometry)


def _misplaced(volume: NiftiVolume, geometry: Geometry) -> str:
    """Return why the header of a file does not give this place to every reader; empty if it does."""
    header = volume.header
    if header.sizeof_hdr != 348 or int(header["xyzt_units"]) & 7 not in _UNITS:
        return "lengths in millimetres"
    if volume.notes:
        return volume.notes[0]
    if not np.array_equal(volume.affine, geometry.affine):
        return "the place of the first channel"
    # ITK and nibabel choose differently.
    both = header["sform_code"] > 0 and header["qform_code"] > 0
    if both and np.abs(header.get_sform() - header.get_qform()).max() > _SAME_PLACE:
        return "its sform and qform differ: the sform is kept"
    return ""


def smallest_exact(pixels: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Return whole numbers in the smallest integer type of at most 32 bits that holds them, others in float32."""
    if not (np.rint(pixels) == pixels).all():
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    fitting = (kind for kind in _WHOLE if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    kind = next(fitting, None)
    return pixels if kind is None else pixels.astype(kind)
