"""A preset: the networks that a paper compares on a dataset, and how it trained them."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Variant(NamedTuple):
    """A network of a preset: its registered model, exact parameter count, and arguments that override the preset's.

    Example:
        >>> from deconvseg.catalog import PRESETS
        >>> PRESETS["isles22"].variants["Deconver, filters of 3"].parameters
        10476545

    """

    model: str
    parameters: int
    arguments: Mapping[str, Any] = {}


class Preset(NamedTuple):
    """The networks that a paper compares on a dataset, and how it trained them.

    ``ends`` holds the constructor arguments shared by all networks (channels and spatial axes), ``networks`` the other
    arguments of each registered model. ``variants`` holds all networks of the paper under the paper's names.
    ``patch_size`` is in voxels or pixels; ``batch_size`` and ``epochs`` are None where
    neither the paper nor the plan that it follows states them.
    ``recipe`` is the name of the paper's recipe. ``regions`` maps the names of overlapping outputs to the labels that
    they unite, the outermost first; None stands for one output for each class. The others are the preprocessing:
    ``spacing`` in mm, a ``resize`` of whole images in pixels, ``crop_margin`` in voxels around the nonzero voxels, and
    ``normalisation`` of the intensities (``"zscore_nonzero"``: over the nonzero voxels of each channel), with
    ``normalise_first`` before resampling; None leaves each to the data. Axes are in canonical order, RAS in 3D.

    Example:
        >>> from deconvseg.catalog import PRESETS
        >>> PRESETS["isles22"].arguments("deconver")
        {'in_channels': 2, 'out_channels': 1, 'spatial_dims': 3, 'widths': (64, 128, 256, 512)}

    """

    ends: Mapping[str, int]
    networks: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Variant]
    patch_size: tuple[int, ...]
    batch_size: int | None
    epochs: int | None
    recipe: str = "paper"
    regions: Mapping[str, tuple[str, ...]] | None = None
    spacing: tuple[float, ...] | None = None
    resize: tuple[int, ...] | None = None
    crop_margin: int | None = None
    normalisation: str | None = None
    normalise_first: bool = False

    def arguments(self, model: str) -> dict[str, Any]:
        """Return all constructor arguments of one of the ``networks``."""
        return {**self.ends, **self.networks[model]}
