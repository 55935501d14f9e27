"""Read and write ITK's formats NRRD and MetaImage.

Headers are not parsed by ITK, which crashes or hangs on some damaged headers, opens any file that a header names, and
does not check the checksums of MetaImage. The tests compare the results with ITK's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from deconvseg.data.formats.decoding import naming_file
from deconvseg.data.formats.metaimage import METAIMAGE_SUFFIXES, MetaImageHeader, save_metaimage
from deconvseg.data.formats.nrrd import NRRD_SUFFIXES, NrrdHeader
from deconvseg.data.formats.nrrd_writing import save_nrrd
from deconvseg.data.formats.reader import Reader, Segment
from deconvseg.data.formats.registry import register_reader
from deconvseg.data.formats.voxels import Voxels
from deconvseg.data.formats.worlds import other_world
from deconvseg.data.geometry import Geometry
from deconvseg.data.types import Header
from deconvseg.errors import InputError


class ItkReader(Reader):
    """Reads a format of ITK in 2D and 3D, and with ``channels_last`` several numbers per voxel."""

    kind: ClassVar[str]
    parse: ClassVar[type[NrrdHeader] | type[MetaImageHeader]]
    written_as: ClassVar[str]
    detached: ClassVar[str]

    def read_header(self, path: Path) -> Header:
        """Return the header; the numbers per voxel, or a fourth axis, are the channels."""
        with naming_file(path, self.kind):
            header = self.parse(path)
            voxels = header.voxels
            _geometry(header, voxels)
            shape = voxels.domain[:3] if len(voxels.domain) > 2 else voxels.domain[::-1]
            return Header(voxels.channels, shape, voxels.dtype.itemsize, _notes(header))

    def read_channels(self, path: Path, *, channels_last: bool = False) -> tuple[npt.NDArray[Any], Geometry]:
        """Return intensities (C, X, Y, Z) or (C, rows, columns) in float32."""
        with naming_file(path, self.kind):
            header = self.parse(path)
            voxels = header.voxels
            _check_axes(path, voxels, channels_last=channels_last)
            geometry = _geometry(header, voxels)
            return _channels_first(voxels.read()).astype(np.float32, order="C"), geometry

    def read_labels(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Return labels (X, Y, Z) or (rows, columns), in the type of the file."""
        with naming_file(path, self.kind):
            header = self.parse(path)
            voxels = header.voxels
            if voxels.numbers_per_voxel > 1:
                raise InputError(
                    f"{path} has {voxels.numbers_per_voxel} numbers per voxel (overlapping segments or colours), where "
                    "a mask has one; export it as a single label map"
                )
            _check_axes(path, voxels, channels_last=False)
            geometry = _geometry(header, voxels)
            return np.ascontiguousarray(_channels_first(voxels.read())[0]), geometry

    def mask_suffix(self, values: Iterable[int]) -> str:
        """Return the suffix of the single-file variant, which holds any integers."""
        return self.written_as

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the header and its data files; only the header if it cannot be read."""
        try:
            with naming_file(path, self.kind):
                return (path, *(file for file in self.parse(path).files if file != path))
        except InputError:
            return (path,)  # reading the image reports the error

    def _refuse_detached(self, name: Path) -> None:
        if name.name.lower().endswith(self.detached):
            raise InputError(f"{name} would be two files, which cannot appear at once; use .nrrd or .mha")


@register_reader("nrrd", reads=NRRD_SUFFIXES)
class NrrdReader(ItkReader):
    """Reads and writes NRRD, including segmentations of 3D Slicer."""

    kind, parse, written_as, detached = "NRRD file", NrrdHeader, ".nrrd", ".nhdr"

    def write_labels(
        self, pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, name: Path, like: Path | None
    ) -> None:
        """Write labels in the world and the unit of a ``like`` that is a NRRD."""
        self.write_segments(pixels, geometry, path, name=name, like=like, segments=())

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
        """Write labels as `write_labels` does, with the segments in the fields that Slicer reads them from."""
        self._refuse_detached(name)
        save_nrrd(pixels, geometry, path, like=like, segments=segments)

    def may_be_cropped(self, path: Path) -> bool:
        """Return True for ``.seg.nrrd``: Slicer writes only the bounding box of the segments."""
        return path.name.lower().endswith(".seg.nrrd")


@register_reader("metaimage", reads=METAIMAGE_SUFFIXES)
class MetaImageReader(ItkReader):
    """Reads and writes MetaImage."""

    kind, parse, written_as, detached = "MetaImage", MetaImageHeader, ".mha", ".mhd"

    def write_labels(
        self, pixels: npt.NDArray[Any], geometry: Geometry, path: Path, *, name: Path, like: Path | None
    ) -> None:
        """Write labels in the unit of a ``like`` that is a MetaImage."""
        self._refuse_detached(name)
        save_metaimage(pixels, geometry, path, like=like)


def image_from_itk(image: Any) -> tuple[npt.NDArray[Any], Geometry]:
    """Return the intensities (C, X, Y, Z) or (C, rows, columns) of a SimpleITK image, in its type, and their geometry.

    Example:
        >>> import SimpleITK as sitk
        >>> from deconvseg.data import image_from_itk
        >>> pixels, geometry = image_from_itk(sitk.ReadImage("scan.nii.gz"))
        >>> pixels.shape, geometry.spacing
        ((1, 20, 24, 12), (1.0, 1.0, 2.0))

    """
    return _array_of(image).copy(order="C"), _geometry_of(image)


def _geometry(header: NrrdHeader | MetaImageHeader, voxels: Voxels) -> Geometry:
    affine = header.affine(voxels)
    _, scale = header.unit()
    affine[:-1] *= scale
    if not np.isfinite(affine).all() or not affine[:-1, :-1].any(axis=0).all():
        raise OSError("its spacing, directions or origin are zero, NaN or infinite")
    return Geometry(other_world(affine))


def _notes(header: NrrdHeader | MetaImageHeader) -> tuple[str, ...]:
    notes = [f"its lengths are in {unit!r}, which is unknown: mm is assumed" for unit in header.unknown_units()]
    if isinstance(header, MetaImageHeader) and not header.has_spacing():
        notes.append("its header gives no spacing: 1 mm is assumed")
    return tuple(notes)


def _check_axes(path: Path, voxels: Voxels, *, channels_last: bool) -> None:
    """Raise an `InputError` for more than 3 axes and for several numbers per voxel, unless these are the channels."""
    size, components = voxels.domain, voxels.numbers_per_voxel
    found = f"has {components} numbers per voxel" if components > 1 else f"is {len(size)}D {size}"
    if len(size) not in (2, 3, 4):
        raise InputError(f"{path} {found}, where a 2D or 3D image is expected")
    if voxels.channels > 1 and not channels_last:
        raise InputError(
            f"{path} {found}, where a 2D or 3D image with one is expected; write one file per channel "
            f"(CASE_0000{path.suffix}, CASE_0001{path.suffix}, …)"
        )


def _channels_first(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Reshape (components, *domain) to (C, X, Y, Z) or (C, rows, columns); a fourth axis becomes channels."""
    if numbers.ndim == 3:
        swapped: npt.NDArray[Any] = numbers.transpose(0, 2, 1)
        return swapped
    if numbers.ndim == 5:
        moved = np.moveaxis(numbers, 4, 1)
        joined: npt.NDArray[Any] = moved.reshape(-1, *moved.shape[2:])
        return joined
    return numbers


def _array_of(image: Any) -> npt.NDArray[Any]:
    """Return a view (C, X, Y, Z) or (C, rows, columns) of ``image``, valid only while ``image`` exists."""
    import SimpleITK as sitk  # noqa: N813

    view: npt.NDArray[Any] = sitk.GetArrayViewFromImage(image)  # slowest axis first, numbers per voxel last
    view = np.moveaxis(view, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else view
    dims = min(image.GetDimension(), 3)
    channels = view.reshape(-1, *view.shape[-dims:])
    return channels.transpose(0, 3, 2, 1) if dims == 3 else channels


def _geometry_of(image: Any) -> Geometry:
    every = image.GetDimension()
    dims = min(every, 3)
    direction = np.reshape(image.GetDirection(), (every, every))[:dims, :dims]
    affine = np.eye(dims + 1)
    affine[:-1, :-1] = direction * np.array(image.GetSpacing()[:dims])
    affine[:-1, -1] = image.GetOrigin()[:dims]
    return Geometry(other_world(affine))
