"""Images given as Python objects: arrays, tensors, and the images of nibabel and SimpleITK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from deconvseg.data import Image, LabelMap, image_from_itk
from deconvseg.errors import InputError
from deconvseg.inference.array_geometry import checked_geometry, geometry_of, own_affine
from deconvseg.planning import Plan

# More channels than this are treated as the planes of a volume.
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class GivenImage:
    """An image, and the conversions of its mask and of its probabilities (K, \\*S) to the matching type."""

    image: Image
    give_back: Callable[[LabelMap], Any]
    give_maps: Callable[[NDArray[np.float32]], Any] = lambda maps: maps


def image_of(
    given: Any,
    plan: Plan,
    *,
    spacing: Sequence[float] | None = None,
    affine: Any = None,
) -> GivenImage:
    """Convert an array, a tensor or an image of nibabel, SimpleITK or this package to an image for a plan.

    Arrays and tensors are (C, *S) or (*S), in nibabel's order of axes (2D: row, column); ``affine`` maps their
    voxels to RAS millimetres, as nibabel's does. A MONAI ``MetaTensor`` has its own. Images have a geometry
    and take neither ``spacing`` nor ``affine``.

    Without an affine the axes are those of the training files if these all had one orientation, otherwise RAS; a log
    message states the assumption if it affects the result. Raises :class:`~deconvseg.errors.InputError` for
    unsupported types, shapes, numbers and geometries.
    """
    if isinstance(given, Image):
        _refuse_geometry(spacing, affine, "an Image")
        return GivenImage(given, lambda mask: mask, lambda maps: Image(maps, given.geometry))
    if isinstance(given, SpatialImage):
        _refuse_geometry(spacing, affine, "an image of nibabel")
        return _from_nibabel(given, plan)
    if type(given).__module__.partition(".")[0] == "SimpleITK" and hasattr(given, "GetDirection"):
        _refuse_geometry(spacing, affine, "an image of SimpleITK")
        return _from_itk(given, plan)
    if isinstance(given, torch.Tensor):
        if affine is None and spacing is None:
            affine = own_affine(given, plan.spatial_dims)
        pixels = _numbers_of_tensor(given)
        return GivenImage(
            Image(_channels_first(pixels, plan), geometry_of(plan, spacing, affine)),
            lambda mask: torch.from_numpy(np.ascontiguousarray(mask.pixels)),
            torch.from_numpy,
        )
    if isinstance(given, np.ndarray):
        pixels = _channels_first(_numbers(given), plan)
        return GivenImage(Image(pixels, geometry_of(plan, spacing, affine)), lambda mask: mask.pixels)
    if isinstance(given, list | tuple):
        raise InputError(
            f"images: a {type(given).__name__} of {len(given)} is several images or several channels; call predict for "
            "each image, and stack channels in one array (numpy.stack)"
        )
    raise InputError(
        "images: give an array, a tensor, an image of deconvseg, nibabel or SimpleITK, or a path, not "
        f"{type(given).__module__}.{type(given).__name__}"
    )


def _refuse_geometry(spacing: object, affine: object, what: str) -> None:
    if spacing is not None or affine is not None:
        name = "spacing" if affine is None else "affine"
        raise InputError(f"{name}: {what} has a geometry of its own; omit {name}, or give its array")


def _from_nibabel(given: Any, plan: Plan) -> GivenImage:
    if given.affine is None:
        raise InputError("images: this image of nibabel has no affine; give its array with an affine")
    if plan.spatial_dims != 3:
        raise InputError("images: an image of nibabel is a volume, but the run needs 2D images; give arrays of slices")
    pixels = np.asanyarray(given.dataobj)
    while pixels.ndim > 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 4:
        pixels = np.moveaxis(pixels, -1, 0)
    units = given.header.get_xyzt_units()[0] if hasattr(given.header, "get_xyzt_units") else "mm"
    scale = {"meter": 1000.0, "micron": 0.001}.get(units, 1.0)
    affine = np.diag([scale, scale, scale, 1.0]) @ given.affine

    def image_of(numbers: NDArray[Any]) -> Any:
        # NIfTI has no bool, and nibabel stores 64-bit integers only on request; label values fit into smaller types.
        made = nib.Nifti1Image(numbers, given.affine, dtype=numbers.dtype)
        made.header.set_xyzt_units(units)
        return made

    return GivenImage(
        Image(_channels_first(_numbers(pixels), plan), checked_geometry(affine)),
        lambda mask: image_of(mask.pixels),
        lambda maps: image_of(np.moveaxis(maps, 0, -1)),
    )


def _from_itk(given: Any, plan: Plan) -> GivenImage:
    import SimpleITK as sitk  # noqa: N813

    pixels, geometry = image_from_itk(given)
    if geometry.spatial_dims != plan.spatial_dims:
        raise InputError(
            f"images: this image of SimpleITK has {geometry.spatial_dims} dimensions, but the run needs "
            f"{plan.spatial_dims}D images"
        )

    dims = geometry.spatial_dims

    def image_of(numbers: NDArray[Any], *, vector: bool = False) -> Any:
        # Array axes of SimpleITK are (z, y, x); of 2D images (row, column), as here. Components come last.
        made = sitk.GetImageFromArray(np.ascontiguousarray(numbers), isVector=vector)
        made.SetSpacing(given.GetSpacing()[:dims])
        made.SetOrigin(given.GetOrigin()[:dims])
        direction = np.reshape(given.GetDirection(), (given.GetDimension(),) * 2)[:dims, :dims]
        made.SetDirection(direction.ravel().tolist())
        return made

    def turn(numbers: NDArray[Any]) -> NDArray[Any]:
        return numbers.transpose() if dims == 3 else np.moveaxis(numbers, 0, -1) if numbers.ndim > dims else numbers

    return GivenImage(
        Image(_numbers(pixels), geometry),
        lambda mask: image_of(turn(mask.pixels)),
        lambda maps: image_of(turn(maps), vector=True),
    )


def _numbers_of_tensor(tensor: torch.Tensor) -> NDArray[np.float32]:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise InputError("images: a sparse or quantised tensor; give a dense one, by tensor.to_dense() or dequantize()")
    tensor = tensor.detach().cpu().as_subclass(torch.Tensor)
    if tensor.is_complex():
        raise InputError("images: the tensor has complex numbers; give its magnitude (abs), or parts as channels")
    return _numbers((tensor.float() if tensor.is_floating_point() else tensor).resolve_conj().resolve_neg().numpy())


def _numbers(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return an array as float32; refuse one whose numbers would change by more than rounding."""
    if isinstance(pixels, np.ma.MaskedArray):
        if np.ma.getmaskarray(pixels).any():
            raise InputError("images: the array has masked elements; fill them first (numpy.ma.filled)")
        pixels = pixels.data
    if pixels.dtype.kind == "c":
        raise InputError(
            "images: the array has complex numbers; give its magnitude (numpy.abs), or its parts as channels"
        )
    if pixels.dtype.kind not in "biuf":
        raise InputError(f"images: the array has elements of type {pixels.dtype}; give real numbers, such as float32")
    # Numbers beyond the range of float32 become infinite, which is refused below.
    with np.errstate(over="ignore"):
        numbers: NDArray[np.float32] = np.array(pixels, np.float32, order="C", subok=False)
    if not np.isfinite(numbers).all():
        raise InputError("the array has NaN or infinite values (in float32); replace them first")
    return numbers


def _channels_first(pixels: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
    """Return (C, *S); another shape is refused, and the error suggests the intended one."""
    dims, channels = plan.spatial_dims, len(plan.channels)
    if pixels.ndim == dims and pixels.size:
        if channels > 1 and dims == 3 and channels in (pixels.shape[0], pixels.shape[-1]):
            raise InputError(
                f"the array has shape {pixels.shape}: {channels} channels of a 2D image, or one channel of a volume; "
                f"the run needs {channels} channels of a volume"
            )
        return pixels[None]
    if pixels.ndim != dims + 1 or pixels.size == 0:
        batch = ", without an axis for the batch" if pixels.ndim == dims + 2 else ""
        raise InputError(
            f"the array has shape {pixels.shape}; give (channels, *size), channels first{batch}, or (*size), "
            f"with {dims} spatial axes"
        )
    if len(pixels) != channels and pixels.shape[-1] in (channels, 1, 3, 4) and len(pixels) not in (1, 3):
        raise InputError(
            f"the array has shape {pixels.shape}, which looks like channels last; give (channels, *size): "
            "numpy.moveaxis(array, -1, 0)"
        )
    if len(pixels) > max(channels, _MOST_CHANNELS):
        raise InputError(
            f"the array has shape {pixels.shape}: {len(pixels)} channels of a {dims}D image, where the run needs "
            f"{channels}; give (channels, *size)" + (", a volume slice by slice" if dims == 2 else "")
        )
    return pixels
