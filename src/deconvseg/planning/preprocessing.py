"""The preprocessing of a plan: that of a preset, and a size that is requested."""

from collections.abc import Mapping
from typing import Any

from deconvseg.catalog import PRESETS
from deconvseg.errors import InputError
from deconvseg.planning.drafting import Draft
from deconvseg.planning.request import ASKED

# The Deconver paper states no preprocessing; the authors' public configurations do, for all of its datasets but GlaS.
_AUTHORS = "the authors' public configuration"
_SOURCES = {
    "isles22": _AUTHORS,
    "brats23": _AUTHORS,
    "fives": _AUTHORS,
    "glas": f"{_AUTHORS} of FIVES",
    "btcv": "nnU-Net's own plan",
}
_RESIZED = "not used, as every image is resized; "


def choose_preprocessing(draft: Draft, preset: str | None, values: Mapping[str, Any]) -> None:
    """Set the preprocessing of a draft to that of a preset, and its size to a requested one, with reasons.

    What the preset leaves to the data, and all other requested values, which replace those of a finished plan, are
    not changed.
    """
    if preset is not None and PRESETS[preset].ends["spatial_dims"] == draft.fingerprint.spatial_dims:
        _take_preset(draft, preset)
    if "resize" in values:
        draft.resize = _size(values["resize"], draft.fingerprint.spatial_dims)
        draft.reasons["resize"] = ASKED
    if draft.resize is not None:
        draft.reasons["spacing"] = _RESIZED + draft.reasons["spacing"]


def _take_preset(draft: Draft, name: str) -> None:
    preset = PRESETS[name]
    reason = f"preset {name}: {_SOURCES.get(name, 'the paper')}"
    if preset.spacing is not None:
        draft.spacing, draft.reasons["spacing"] = preset.spacing, reason
    for key in ("resize", "crop_margin"):
        if (value := getattr(preset, key)) is not None:
            setattr(draft, key, value)
            draft.reasons[key] = reason
    if preset.normalise_first:
        draft.normalise_first = True
        draft.reasons["normalise_first"] = reason
    if preset.normalisation is not None:
        draft.channels = tuple(
            type(channel)(name=channel.name, normalisation=preset.normalisation) for channel in draft.channels
        )
        draft.reasons.update({f"channel {channel.name}": reason for channel in draft.channels})


def _size(value: Any, spatial_dims: int) -> tuple[int, ...] | None:
    """Return a requested size, of which one number is for all axes."""
    if value is None:
        return None
    size = (value,) * spatial_dims if isinstance(value, int) else tuple(value)
    if len(size) != spatial_dims:
        raise InputError(f"`values` resize: give {spatial_dims} numbers for {spatial_dims}D images, or one for all")
    return size
