"""The format of masks: that of their images, NIfTI, or DICOM segmentations, which a higher floor writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from deconvseg.data import Case, LabelMap, mask_suffix
from deconvseg.data.formats.registry import find_format
from deconvseg.errors import InputError
from deconvseg.options import PredictOptions
from deconvseg.planning import Plan
from deconvseg.progress import Console
from deconvseg.runs import file_sha256
from deconvseg.text import number_of

if TYPE_CHECKING:
    from deconvseg.inference.predictor import Predictor

# They need optional packages and belong to a higher floor, so they are imported by name when they are needed.
_WRITER = "deconvseg.integrations.dicom.writing"
_WEB = "deconvseg.integrations.dicom.web"
_DICOM_SUFFIX = ".dcm"


class SegmentationWriter(Protocol):
    """Writes masks as DICOM segmentations."""

    warnings: Sequence[str]

    @property
    def needs(self) -> Literal["labels", "regions", "probabilities"]:
        """The arrays that a segmentation is written from."""
        ...

    @property
    def identity(self) -> str:
        """A hash of what a segmentation depends on beside its mask."""
        ...

    def write(self, mask: LabelMap, maps: NDArray[Any] | None, case: Case, path: Path) -> None:
        """Write the mask of a case, from the masks of its regions or its probabilities if these are needed."""
        ...


@dataclass(frozen=True)
class MaskFormat:
    """What masks are written as and named: in the format ``to`` or that of their images, ``anonymise`` or by case."""

    to: str | None = None
    anonymise: bool = False

    def path(self, case: Case, plan: Plan, output: Path) -> Path:
        """Return the path of a case's mask; :class:`InputError` for a format that does not fit the image."""
        image, stem = case.images[0], case.name
        if self.anonymise:
            # The content of a scan cannot be guessed, as a name can.
            stem = sha256(file_sha256(image).encode()).hexdigest()[:16]
        if self.to == "nifti":
            if plan.spatial_dims != 3:
                raise InputError("`to='nifti'`: the masks of 2D images are pictures; omit it")
            return output / f"{stem}.nii.gz"
        known = find_format(image)
        if known is not None and known.name == "dicom":
            return output / f"{stem}{_DICOM_SUFFIX}"
        if self.to is not None:
            raise InputError(
                f"`to={self.to!r}`: {image} is no DICOM, and a DICOM segmentation belongs to a series; omit it"
            )
        return output / f"{stem}{mask_suffix(image, plan.labels.values)}"


AS_IMAGES = MaskFormat()


def is_segmentation(mask: Path) -> bool:
    """Return whether a mask is written as a DICOM segmentation, by its path."""
    return mask.suffix == _DICOM_SUFFIX


def open_writer(predictor: Predictor, cases: Sequence[Case], asked: PredictOptions) -> SegmentationWriter | None:
    """Return what writes masks as DICOM segmentations; None if the images are no DICOM, or their masks NIfTI."""
    known = [find_format(case.images[0]) for case in cases]
    if asked.to == "nifti" or not any(one is not None and one.name == "dicom" for one in known):
        if asked.codes is not None or asked.seg_type != "binary":
            given = "codes" if asked.codes is not None else "seg_type"
            raise InputError(f"`{given}` is of DICOM segmentations, and no mask is written as one; omit it")
        return None
    writer: SegmentationWriter = import_module(_WRITER).SegmentationWriter(
        predictor.plan, predictor.runs, kind=asked.seg_type, codes=asked.codes
    )
    return writer


def is_server(place: object) -> bool:
    """Return whether a path is the address of a DICOMweb server."""
    return isinstance(place, str | PathLike) and str(place).startswith(("dicomweb:", "dicomweb+http:"))


@contextmanager
def fetched(images: Any, console: Console) -> Iterator[Any]:
    """Yield a temporary folder with the images of a server's study; anything else as it is."""
    if not is_server(images):
        yield images
        return
    web = import_module(_WEB)
    address = web.Address.parse(str(images))
    with TemporaryDirectory(prefix="deconvseg-") as folder:
        console.say(f"{number_of(web.fetch(address, Path(folder)), 'file')} fetched from {address.url}")
        yield folder


def store_masks(place: str, masks: Sequence[Path], console: Console) -> None:
    """Store masks on a server."""
    web = import_module(_WEB)
    address = web.Address.parse(place)
    web.store(address, masks)
    console.say(f"{number_of(len(masks), 'mask')} stored on {address.url}")
