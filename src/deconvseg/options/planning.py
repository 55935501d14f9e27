"""The options of a plan ; those with a ``key`` also replace the value in an existing plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from deconvseg.options.declaring import BYTES, POSITIVE, Option, Options, whole
from deconvseg.options.kinds import MODEL, PATCH, PRESET, RECIPE, UPSAMPLING


@dataclass(frozen=True, kw_only=True)
class PlanOptions(Options):
    """The options for making a plan."""

    model: Annotated[str, Option("A network of 'deconvseg models'.", MODEL, plans=True)] = "deconver"
    preset: Annotated[
        str | None, Option("The network of a paper, such as isles22; see 'deconvseg models'.", PRESET, plans=True)
    ] = None
    variant: Annotated[str | None, Option("Variant of the preset, by its name in 'deconvseg models'.", plans=True)] = (
        None
    )
    recipe: Annotated[
        str | None,
        Option("default, paper, dtc or nnunet; by default that of the preset, else default.", RECIPE, plans=True),
    ] = None
    memory: Annotated[
        int | None, Option("Memory that the plan may use{form}; by default 90 % of the free memory.", BYTES, plans=True)
    ] = None
    dims: Annotated[
        int | None,
        Option(
            "2: train on 2D slices of volumes; 3: on volumes. By default decided from the data.",
            whole(2, 3)._replace(wanted="2 or 3", metavar="[2|3]"),
            plans=True,
        ),
    ] = None
    upsampling: Annotated[
        str | Mapping[str, Any] | None,
        Option(
            "The network's upsampling{form}; see 'deconvseg models NAME'.",
            UPSAMPLING,
            plans=True,
            key="model.config.upsampling",
            resume="contents",
        ),
    ] = None
    width: Annotated[
        int | None,
        Option(
            "Channels of the network's first stage; by default the largest number that is fast enough.",
            whole(1),
            plans=True,
        ),
    ] = None
    patch_size: Annotated[
        int | Sequence[int] | None,
        Option(
            "Size of a patch in voxels: one number, or one for each axis{form}.",
            PATCH,
            plans=True,
            key="patch_size",
            resume="contents",
        ),
    ] = None
    batch_size: Annotated[
        int | None, Option("Number of patches per step.", whole(1), plans=True, key="batch_size", resume="contents")
    ] = None
    learning_rate: Annotated[
        float | None,
        Option(
            "The highest learning rate; by default that of the recipe.",
            POSITIVE._replace(metavar="RATE"),
            plans=True,
            key="recipe.learning_rate",
            resume="contents",
        ),
    ] = None
