"""Choices that depend only on the data: labels, regions, normalisation, sampling and loss."""

import math
from collections.abc import Sequence

import numpy as np

from deconvseg.catalog import PRESETS
from deconvseg.data import Augment, Dataset, LabelEncoding
from deconvseg.errors import InputError
from deconvseg.planning.fingerprint import ChannelStatistics, Fingerprint
from deconvseg.planning.parts import ChannelPlan, LabelPlan, RegionPlan
from deconvseg.planning.preset_regions import preset_regions
from deconvseg.planning.recipes import Recipe
from deconvseg.text import number_of

# A channel with this share of exact zeros was masked (skull-stripped or padded): its zeros are not tissue.
_MASKED = 0.25
# If a class fills less than this share of some cases (5th percentile), patches without it are frequent.
_RARE = 0.1
# Below this share of foreground, uniform patches hardly ever contain it; then more patches are centred on it.
_SPARSE, _SPARSE_SAMPLING = 1e-3, 2 / 3

# Fraction of a channel's range: with a smaller spread of foreground intensities, clipping leaves a constant.
_NO_CONTRAST = 1e-4
# Spacings that differ from the median by this factor are probably in another unit, not from another protocol.
_OTHER_UNIT = 10.0
# Ratio between the spacings of two axes above which a warning is given.
_FLAT = 25.0

# Most bytes of the summed logits during the prediction of a case.
_MOST_SUMS = 10**9

# nnU-Net rotates 2D patches that are longer than this, relative to their width, only a little.
_ELONGATED = 1.5

# Axes along which at least this share of the cases is asymmetric are not mirrored; needs at least this many cases.
_ASYMMETRIC, _CASES_THAT_TELL = 0.9, 10


def plan_labels(dataset: Dataset, fingerprint: Fingerprint) -> tuple[LabelPlan, str, list[str]]:
    """Return the classes, the reason and warnings; :class:`InputError` if every mask is empty."""
    if dataset.foreground:
        encoding = LabelEncoding.foreground(ignore=dataset.ignore_label, name=dataset.foreground_name)
        reason = "every value above zero is one class, as requested"
    elif dataset.label_names is not None:
        encoding = LabelEncoding.from_values(dataset.label_names, dataset.label_names, ignore=dataset.ignore_label)
        reason = "declared by the dataset"
    else:
        encoding, reason = LabelEncoding.from_values(fingerprint.label_voxels), "the values that the masks hold"
    if not any(value in fingerprint.label_voxels for value in encoding.values if value != 0):
        raise InputError(f"{dataset.root}: every mask is empty; there is no class to learn")
    absent = [
        name
        for value, name in zip(encoding.values, encoding.names, strict=True)
        if value not in fingerprint.label_voxels
    ]
    warnings = [f"no training or validation mask has a voxel of {', '.join(absent)}"] if absent else []
    if absent:
        reason += f"; warning: {warnings[0]}"
    if encoding.ignore is not None:
        reason += f"; voxels of {encoding.ignore} are ignored"
    labels = LabelPlan(
        values=encoding.values,
        names=encoding.names,
        foreground_only=encoding.foreground_only,
        ignore=encoding.ignore,
        merged={value: other for value, other in dataset.merged_labels.items() if other in encoding.values},
    )
    return labels, reason, warnings


def plan_regions(
    dataset: Dataset, labels: LabelPlan, recipe: Recipe, preset: str | None = None
) -> tuple[tuple[RegionPlan, ...] | None, str]:
    """Return the regions that the dataset declares or the preset or the recipe requests, or None, and the reason.

    Raises :class:`InputError` if the dataset cannot have the regions of the preset.
    """
    ids = {value: index for index, value in enumerate(labels.values)}
    declared, reason = dataset.regions, "declared by the dataset: they overlap, so each has a sigmoid of its own"
    if preset is not None and PRESETS[preset].regions is not None:
        foreground = dict(zip(labels.values[1:], labels.names[1:], strict=True))
        declared, reason = preset_regions(preset, dataset, foreground)
    if declared is not None:
        regions = tuple(
            RegionPlan(name=r.name, labels=tuple(ids[v] for v in r.labels), paints=ids[r.written_as]) for r in declared
        )
        return regions, reason
    if not recipe.regions:
        return None, "classes exclude each other: softmax"
    single = tuple(RegionPlan(name=name, labels=(i,), paints=i) for i, name in enumerate(labels.names) if i > 0)
    return single, f"recipe {recipe.name}: a sigmoid for each class"


def plan_channel(name: str, statistics: ChannelStatistics, spatial_dims: int, colour: bool) -> tuple[ChannelPlan, str]:
    """Return the normalisation of a channel and the reason."""
    low, high = statistics.percentile_0_5, statistics.percentile_99_5
    if name.upper() == "CT" and high - low <= _NO_CONTRAST * (statistics.maximum - statistics.minimum):
        reason = (
            f"CT, but the foreground has hardly more than the value {low:g}, which clipping would leave alone: z-score"
        )
        return ChannelPlan(name=name, normalisation="zscore"), reason
    if name.upper() == "CT":
        plan = ChannelPlan(
            name=name,
            normalisation="ct",
            clip=(low, high),
            mean=statistics.mean,
            std=max(statistics.std, 1e-6),
        )
        return plan, (
            "CT has one scale for all scanners: clipped to the foreground's percentiles 0.5 and 99.5, then the "
            "foreground's mean and standard deviation in all training cases"
        )
    if spatial_dims == 3 and statistics.zero_fraction > _MASKED:
        reason = f"{statistics.zero_fraction:.0%} of the voxels are exactly zero, background: the others' z-score"
        return ChannelPlan(name=name, normalisation="zscore_nonzero"), reason
    reason = "no scale of its own: each image's z-score"
    if colour:
        reason = "colour: each image's z-score of each channel, which evens out staining and exposure"
    return ChannelPlan(name=name, normalisation="zscore"), reason


def plan_sampling(recipe: Recipe, fingerprint: Fingerprint, labels: LabelPlan, whole: bool) -> tuple[Recipe, str, str]:
    """Return the recipe with its foreground sampling and kind of Dice, and a reason for each.

    A paper's recipe is not changed. ``whole`` is true if a patch covers a whole median case.
    """
    if recipe.name != "default":
        return recipe, f"recipe {recipe.name}", f"recipe {recipe.name}"
    present = [entry for entry in fingerprint.classes if entry.value in labels.values and entry.value]
    foreground = sum(entry.share.median for entry in present)
    sampling = recipe.foreground_oversampling
    if whole:
        sampling_reason = "the recipe's; a patch is about as large as a case, so it decides little here"
    elif foreground < _SPARSE:
        sampling = round(_SPARSE_SAMPLING, 3)
        sampling_reason = (
            f"the foreground is {foreground:.2%} of a case (median): patches anywhere would rarely meet it"
        )
    else:
        sampling_reason = (
            f"the foreground is {foreground:.1%} of a case (median): half the patches are centred on a class"
        )
    cases = len(fingerprint.shapes)
    # In a case without the class its share is zero.
    rarest = min(present, key=lambda entry: entry.share.low * (entry.cases == cases))
    batch_dice = rarest.share.low < _RARE or rarest.cases < cases
    if batch_dice:
        dice_reason = (
            f"over the batch: value {rarest.value} is in {rarest.cases} of {number_of(cases, 'case')} and fills "
            f"{rarest.share.low:.2%} of those with least of it, so patches without it would count as failures"
        )
    else:
        dice_reason = f"of each patch: every class fills at least {_RARE:.0%} of nearly every case"
    changed = recipe.model_copy(update={"foreground_oversampling": sampling, "batch_dice": batch_dice})
    return changed, sampling_reason, dice_reason


def plan_mirroring(recipe: Recipe, fingerprint: Fingerprint) -> tuple[Recipe, str]:
    """Return the recipe with the axes of mirroring, and the reason; a paper's recipe is not changed."""
    if recipe.name != "default":
        return recipe, f"recipe {recipe.name}"
    cases, shares = len(fingerprint.shapes), fingerprint.asymmetry
    if cases < _CASES_THAT_TELL or not shares:
        few = f"{number_of(cases, 'case')} {'is' if cases == 1 else 'are'} too few"
        return recipe, f"all: {few} to tell whether the dataset looks the same in a mirror"
    axes = tuple(axis for axis, share in enumerate(shares) if share < _ASYMMETRIC)
    listed = ", ".join(f"{share:.0%}" for share in shares)
    found = f"of the cases, {listed} (axis by axis) lie nearer to the others than their mirror images do"
    rule = f"mirrored where it is less than {_ASYMMETRIC:.0%}"
    augmentation = recipe.augmentation.model_copy(update={"flip_axes": axes})
    return recipe.model_copy(update={"augmentation": augmentation}), f"{found}: {rule}"


def plan_rotation(recipe: Recipe, spacing: Sequence[float], patch: Sequence[int]) -> tuple[Recipe, str]:
    """Return the recipe with the angles of rotations, and the reason; nnU-Net's rotates by any angle in a plane."""
    turned = Augment(spacing, patch, recipe.augmentation).axes
    if recipe.name != "nnunet" or len(turned) != 2:
        return recipe, f"recipe {recipe.name}"
    # Of an elongated 2D patch nnU-Net rotates little, because its corners would leave the image.
    elongated = len(patch) == 2 and max(patch) > _ELONGATED * min(patch)
    angle = math.pi / 12 if elongated else math.pi
    augmentation = recipe.augmentation.model_copy(update={"rotation": angle})
    reason = (
        f"recipe nnunet: only in the plane of the axes {', '.join(map(str, turned))}, up to {math.degrees(angle):g}°"
    )
    return recipe.model_copy(update={"augmentation": augmentation}), reason


def plan_cropping(fingerprint: Fingerprint) -> tuple[bool, str]:
    """Return whether prediction may be restricted to the bounding box of non-zero voxels, and the reason."""
    cases, outside = len(fingerprint.shapes), fingerprint.foreground_outside
    if outside:
        masks = f"{outside} of {number_of(cases, 'mask')} {'has' if outside == 1 else 'have'}"
        return False, f"{masks} a class where the image is zero to its border: all is predicted"
    elements = "pixels" if fingerprint.spatial_dims == 2 else "voxels"
    return True, (
        f"none of {number_of(cases, 'mask')} has a class outside the box of the image's non-zero {elements}: that is "
        "background"
    )


def spacing_warnings(fingerprint: Fingerprint, spacing: Sequence[float]) -> list[str]:
    """Return warnings about spacings: cases that seem to use another unit, and strongly anisotropic voxels."""
    found = []
    ratios = np.array(fingerprint.spacings) / np.array(fingerprint.median_spacing)
    odd = np.flatnonzero((np.maximum(ratios, 1 / ratios) >= _OTHER_UNIT).any(axis=1))
    if odd.size:
        example, usual = fingerprint.spacings[int(odd[0])], fingerprint.median_spacing
        found.append(
            f"{odd.size} of {len(ratios)} cases have spacings ten times off the median {_lengths(usual)}, as "
            f"{_lengths(example)}; look at the units of their headers"
        )
    if max(spacing) / min(spacing) >= _FLAT:
        found.append(
            f"voxels of {_lengths(spacing)} are {max(spacing) / min(spacing):.0f} times as long along one axis as "
            "along another; look at the headers, or set spacing"
        )
    return found


def _lengths(spacing: Sequence[float]) -> str:
    return f"{' x '.join(f'{length:g}' for length in spacing)} mm"


def case_bytes(shape: Sequence[int], channels: int, outputs: int) -> int:
    """Estimate the bytes of a whole case during preparation or validation.

    Per voxel: the image before and after resampling (float32) and the mask (int64). Per output: the summed logits and a
    working copy of a part (float32), which validation frees slab by slab, so that they need at most 1 GB.
    """
    voxels = math.prod(shape)
    return voxels * (2 * 4 * channels + 8) + min(_MOST_SUMS, voxels * 2 * 4 * outputs)
