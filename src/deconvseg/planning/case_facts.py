"""Facts about one case for the fingerprint: a few kilobytes for any case size."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from deconvseg.data import AxisOrder, Case, Dataset, count_values, list_names, nonzero_box
from deconvseg.errors import InputError
from deconvseg.planning.appearance import look_at
from deconvseg.planning.symmetry import occupancy

# Far fewer values determine a percentile of the foreground's intensities; 10,000 values take 40 kB per channel.
_SAMPLES_PER_CASE = 10_000
# A noisy mask can have a million components; a thousand suffice for the distribution of their sizes.
_COMPONENTS_PER_CASE = 1_000
# More distinct undeclared values than this are taken for instances, not classes.
MOST_CLASSES = 64


@dataclass(frozen=True)
class ClassFacts:
    """One class in one case: number of voxels, number of connected components, and a sample of their sizes.

    ``occupancy`` is its location in cells along the canonical axes; None for the background.
    """

    voxels: int
    components: int
    component_voxels: NDArray[np.int64]
    occupancy: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class CaseFacts:
    """Facts about a case: shape and spacing (mm) on canonical axes, axis codes, classes, foreground sample (C, n).

    ``zero_fractions`` are the shares of exact zeros, one per channel; ``extremes`` (C, 2) are the smallest and largest
    value of each channel; ``foreground_outside`` is the number of foreground voxels outside the bounding box of all
    voxels that are nonzero in any channel; ``look`` are the features of :func:`~deconvseg.planning.appearance.look_at`.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    classes: Mapping[int, ClassFacts]
    intensities: NDArray[np.float32]
    zero_fractions: tuple[float, ...]
    extremes: NDArray[np.float32]
    expanded_grey: bool
    foreground_outside: int
    look: tuple[float, ...]


def measuring_bytes(facts: CaseFacts) -> int:
    """Return the number of bytes that reading and measuring a case needs temporarily.

    Per voxel: two float32 values per channel (as read, and a copy), the mask value, and two int64 while values and
    components are counted.
    """
    return math.prod(facts.shape) * (2 * 4 * len(facts.intensities) + 3 * 8)


def measure_case(dataset: Dataset, case: Case) -> CaseFacts:
    """Read a case and return its facts; :class:`InputError` if it is broken or its mask contains instances."""
    image, labels = dataset.load(case)
    if labels is None:
        raise InputError(f"{case.images[0]}: has no mask; only cases with a mask can be trained on")
    order = image.geometry.axis_order()
    ids = (labels.pixels > 0).astype(np.uint8) if dataset.foreground else labels.pixels
    if dataset.ignore_label is not None:
        ids = np.where(labels.pixels == dataset.ignore_label, 0, ids)
    counts = count_values(ids)
    if dataset.label_names is None:
        refuse_instances(len(counts), case)
    elif not dataset.foreground:
        _refuse_undeclared(dataset, counts, case)
    rng = np.random.default_rng([len(case.name), *case.name.encode()])
    pixels = image.pixels.reshape(image.channels, -1)
    return CaseFacts(
        shape=tuple(image.shape[axis] for axis in order.permutation),
        spacing=order.apply_geometry(image.geometry, image.shape).spacing,
        orientation="".join(nib.aff2axcodes(image.geometry.affine)) if len(image.shape) == 3 else "",
        classes={
            value: _class_facts(ids == value, count, order, rng) if value else ClassFacts(count, 0, _NONE)
            for value, count in counts.items()
        },
        intensities=_sample(pixels, ids.reshape(-1) > 0, rng),
        zero_fractions=tuple(float((channel == 0).mean()) for channel in pixels),
        extremes=np.stack([pixels.min(axis=1), pixels.max(axis=1)], axis=1),
        expanded_grey=dataset.expands_grey(case),
        foreground_outside=_count_outside(ids > 0, nonzero_box(image), order),
        look=tuple(round(float(figure), 6) for figure in look_at(image)),
    )


def _count_outside(foreground: NDArray[np.bool_], box: tuple[range, ...] | None, order: AxisOrder) -> int:
    inside = 0
    if box is not None:
        inside = int(np.count_nonzero(order.view(foreground)[tuple(slice(part.start, part.stop) for part in box)]))
    return int(np.count_nonzero(foreground)) - inside


def refuse_instances(values: int, case: Case) -> None:
    """Raise an :class:`InputError` for more distinct values than classes are plausible."""
    if values > MOST_CLASSES:
        raise InputError(
            f"{case.label}: the masks hold more than {MOST_CLASSES} different values, as instance maps do; "
            "use `foreground=True` to take every label above zero as one class"
        )


def _refuse_undeclared(dataset: Dataset, values: Iterable[int], case: Case) -> None:
    known = dataset.label_names or {}
    if unknown := [value for value in values if value and value not in known]:
        raise InputError(
            f"{case.label}: has the label values {list_names(unknown)}, but the dataset declares "
            f"{', '.join(map(str, known))}; correct the mask, or declare them"
        )


_NONE: NDArray[np.int64] = np.zeros(0, np.int64)


def _class_facts(mask: NDArray[np.bool_], voxels: int, order: AxisOrder, rng: np.random.Generator) -> ClassFacts:
    """Find the connected components of a class in its bounding box; voxels that touch at a corner are connected."""
    from scipy import ndimage

    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    labelled, components = ndimage.label(mask[box], structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(labelled.reshape(-1))[1:]
    if components > _COMPONENTS_PER_CASE:
        sizes = rng.choice(sizes, _COMPONENTS_PER_CASE, replace=False)
    cells = order.apply(occupancy(mask[box], [part.start for part in box], mask.shape, rng))
    return ClassFacts(voxels, int(components), sizes.astype(np.int64), cells)


def _sample(pixels: NDArray[np.float32], inside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a sample (C, n) of the foreground."""
    values = pixels[:, inside]
    if values.shape[1] > _SAMPLES_PER_CASE:
        values = values[:, rng.choice(values.shape[1], _SAMPLES_PER_CASE, replace=False)]
    return np.array(values)
