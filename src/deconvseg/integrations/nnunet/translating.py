"""A plan of this package whose predictions are those of a trained configuration of nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deconvseg.errors import InputError, check_choice
from deconvseg.integrations.nnunet.results import Configuration, Intensities, Results
from deconvseg.planning import RECIPES, Plan
from deconvseg.planning.schema import plan_errors

# How nnU-Net's readers hand on the axes of a volume: (z, y, x), as stored or in the nearest canonical orientation.
_READERS: Mapping[str, str] = {
    "SimpleITKIO": "stored",
    "NibabelIO": "stored",
    "SimpleITKIOWithReorient": "canonical",
    "NibabelIOWithReorient": "canonical",
    "NaturalImage2DIO": "canonical",
}
# nnU-Net's ratio of the largest to the smallest distance above which slices are interpolated one by one.
_THICK = 3.0
_FUNCTIONS = ("resample_data_or_seg_to_shape", "resample_torch_fornnunet")
_SCHEMES = (
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)


def translate(results: Results, name: str, mirrored: Sequence[int], model: Mapping[str, Any], epochs: int) -> Plan:
    """Return the plan of a configuration by name.

    ``mirrored`` are the axes of the network along which nnU-Net's prediction mirrors, ``model`` is the network of the
    plan, and ``epochs`` the number of epochs of its training. Raises :class:`~deconvseg.errors.InputError`, which names
    the entry, for plans that need code of their own.
    """
    plans, configuration = results.plans, results.configuration(name)
    where = str(results.folder / "plans.json")
    _check(results, configuration, where)
    volumes = not is_flat(results)
    slices = volumes and len(configuration.patch_size) == 2
    tree = {
        "dataset": plans.dataset_name,
        "spatial_dims": 3 if volumes else 2,
        "spacing": [*_depth(plans.original_median_spacing_after_transp, slices), *configuration.spacing],
        "patch_size": [*_depth([1], slices), *configuration.patch_size],
        "batch_size": configuration.batch_size,
        "channels": _channels(results, configuration, where),
        **labels_of(results),
        "crop_margin": 0,
        "normalise_first": True,
        "axes": {
            "orientation": _READERS[plans.image_reader_writer],
            "order": _order(plans.transpose_forward, volumes),
            "native": [0] if slices else [],
        },
        "resampling": _resampling(configuration, volumes, where),
        "inference": {"windows": "nnunet", "average": "logits", "tta": bool(mirrored)},
        "model": model,
        "recipe": {
            **RECIPES["nnunet"].model_dump(mode="json"),
            "epochs": max(1, epochs),
            "deep_supervision": False,
            "augmentation": {
                **RECIPES["nnunet"].augmentation.model_dump(mode="json"),
                "flip": 0.5 if mirrored else 0.0,
                "flip_axes": [axis + slices for axis in mirrored] if mirrored else None,
            },
        },
    }
    with plan_errors(f"{results.folder}: as a plan"):
        plan = Plan.model_validate_json(json.dumps(tree), strict=True)
    if plan.regions is not None and plan.painting_order != tuple(range(len(plan.regions))):
        names = ", ".join(region.name for region in plan.regions)
        raise InputError(
            f"{results.folder / 'dataset.json'}: nnU-Net writes the regions in the order {names}, in which a region is "
            "covered by one that contains it; put the outer ones first (labels and regions_class_order)"
        )
    return plan


def is_flat(results: Results) -> bool:
    """Whether the images are 2D: nnU-Net gives these a third axis with a spacing of 999 times the largest other."""
    first, *others = results.plans.original_median_spacing_after_transp
    return first > 500 * max(others)


def _depth(values: Sequence[Any], slices: bool) -> list[Any]:
    """Return the value along the axis across the slices that a 2D network sees."""
    return [values[0]] if slices else []


def _check(results: Results, configuration: Configuration, where: str) -> None:
    """Refuse what would need code of nnU-Net, or of its user."""
    plans = results.plans
    if configuration.previous_stage is not None:
        raise InputError(
            f"{where}: the configuration is the second stage of a cascade ({configuration.previous_stage} is the "
            "first), which takes the masks of the first as input; import 3d_fullres, 2d or 3d_lowres"
        )
    check_choice(plans.image_reader_writer, _READERS, f"{where}: image_reader_writer")
    for key, found, known in (
        ("preprocessor_name", configuration.preprocessor_name, "DefaultPreprocessor"),
        ("label_manager", plans.label_manager, "LabelManager"),
    ):
        if found != known:
            raise InputError(
                f"{where}: {key} is {found}, code that this package does not have, and none is loaded by name; only "
                f"{known} is imported"
            )
    if is_flat(results) and len(configuration.patch_size) != 2:
        raise InputError(f"{where}: a configuration for volumes, but the dataset has 2D images; import its 2d")
    if sorted(plans.transpose_forward) != [0, 1, 2]:
        raise InputError(f"{where}: transpose_forward is {plans.transpose_forward}; it must hold 0, 1 and 2")


def _order(forward: Sequence[int], volumes: bool) -> list[int] | None:
    """Return the axis of an image for each axis of the network; nnU-Net numbers those of a volume from the last one."""
    if volumes:
        return [2 - axis for axis in forward]
    return None if list(forward) == [0, 1, 2] else [axis - 1 for axis in forward[1:]]


def _channels(results: Results, configuration: Configuration, where: str) -> list[dict[str, Any]]:
    names = [results.labels.channel_names[key] for key in sorted(results.labels.channel_names, key=_number)]
    if not len(names) == len(configuration.normalization_schemes) == len(configuration.use_mask_for_norm):
        raise InputError(
            f"{where}: {len(configuration.normalization_schemes)} normalization_schemes, but dataset.json has "
            f"{len(names)} channels; both must be those of the training"
        )
    # Names of channels must differ here.
    unique = [name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names)]
    schemes = zip(configuration.normalization_schemes, configuration.use_mask_for_norm, strict=True)
    statistics = results.plans.foreground_intensity_properties_per_channel
    return [
        {"name": name, **_normalisation(scheme, masked, statistics.get(str(number), {}), where)}
        for number, (name, (scheme, masked)) in enumerate(zip(unique, schemes, strict=True))
    ]


def _number(key: str) -> tuple[int, str]:
    return (int(key), key) if key.isdecimal() else (0, key)


def _normalisation(scheme: str, masked: bool, statistics: Mapping[str, Any], where: str) -> dict[str, Any]:
    check_choice(scheme, _SCHEMES, f"{where}: normalization_schemes")
    if scheme == "ZScoreNormalization":
        return {"normalisation": "zscore_inside" if masked else "zscore"}
    if scheme == "RescaleTo01Normalization":
        return {"normalisation": "minmax"}
    if scheme != "CTNormalization":
        # Fixed shifts and scales are those of "ct" with other numbers.
        return {"normalisation": "ct", "mean": 0.0, "std": 255.0 if scheme == "RGBTo01Normalization" else 1.0}
    try:
        found = Intensities.model_validate(statistics)
    except ValueError as error:
        raise InputError(f"{where}: foreground_intensity_properties_per_channel lacks a channel's") from error
    clip = [found.percentile_00_5, found.percentile_99_5]
    return {"normalisation": "ct", "clip": clip, "mean": found.mean, "std": max(found.std, 1e-8)}


def _resampling(configuration: Configuration, volumes: bool, where: str) -> dict[str, Any]:
    """Return how images are interpolated; logits are always interpolated linearly, by the same rule of thick slices."""
    there = _interpolation(
        configuration.resampling_fn_data, configuration.resampling_fn_data_kwargs, f"{where}: resampling_fn_data"
    )
    back = _interpolation(
        configuration.resampling_fn_probabilities,
        configuration.resampling_fn_probabilities_kwargs,
        f"{where}: resampling_fn_probabilities",
    )
    if back != ("linear", there[1]):
        raise InputError(
            f"{where}: probabilities are interpolated by order {back[0]} and the rule {back[1]} for thick slices, "
            f"images by the rule {there[1]}; linear interpolation by the same rule is known"
        )
    return {"interpolation": there[0], "thick_slices": there[1] if volumes else None}


def _interpolation(function: str, given: Mapping[str, Any], where: str) -> tuple[str, float | None]:
    """Return the kind of an interpolation of nnU-Net, and the ratio of its rule for thick slices."""
    check_choice(function, _FUNCTIONS, f"no function is loaded by its name; {where}")
    spline = function == "resample_data_or_seg_to_shape"
    kinds = {1: "linear", 3: "cubic"}
    order = given.get("order", 3) if spline else 1
    force = given.get("force_separate_z", False if spline else None)
    # An axis apart is taken from the nearest voxels by both functions.
    usual = {"order_z": 0, "mode": "linear", "aniso_axis_mode": "nearest-exact"}
    if order not in kinds or force is True or any(given.get(key, value) != value for key, value in usual.items()):
        raise InputError(
            f"{where}_kwargs {json.dumps(dict(given))}: order 1 or 3, order_z 0, linear mode and force_separate_z null "
            "or false are known"
        )
    return kinds[order], None if force is False else float(given.get("separate_z_anisotropy_threshold", _THICK))


def labels_of(results: Results) -> dict[str, Any]:
    """Return labels and regions: ids in the order of their values, regions in nnU-Net's order of its outputs."""
    where, given = results.folder / "dataset.json", results.labels.labels
    single = {name: [value] if isinstance(value, int) else list(value) for name, value in given.items()}
    ignore = single.pop("ignore", None)
    values = sorted({value for group in single.values() for value in group} | {0})
    if values != list(range(len(values))):
        raise InputError(f"{where}: labels {values} are not consecutive, which nnU-Net's masks need")
    names = {group[0]: name for name, group in reversed(single.items()) if len(set(group)) == 1}
    names[0] = names.get(0, "background")
    entry = {
        "values": values,
        "names": [names.get(value, f"label {value}") for value in values],
        "ignore": None if ignore is None else ignore[0],
    }
    if all(len(set(group)) == 1 for group in single.values()):
        return {"labels": entry, "regions": None}
    structures = {name: group for name, group in single.items() if set(group) != {0}}
    order = results.labels.regions_class_order
    if order is None or len(order) != len(structures):
        raise InputError(f"{where}: regions_class_order needs {len(structures)} values, one per region")
    regions = [
        {"name": name, "labels": sorted(set(group)), "paints": paints}
        for (name, group), paints in zip(structures.items(), order, strict=True)
    ]
    return {"labels": entry, "regions": regions}
