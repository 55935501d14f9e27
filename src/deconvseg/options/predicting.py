"""The options of a prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Annotated, Any, Literal

from deconvseg.options.declaring import BYTES, FLAG, NUMBER, OBJECT, THRESHOLDS, Kind, Option
from deconvseg.options.evaluating import PartOptions
from deconvseg.options.training import DEVICE
from deconvseg.progress import SILENT, Console


def _check_models(value: Any) -> Any:
    if isinstance(value, str | PathLike):
        return value
    models = list(value)
    if not models:
        raise ValueError
    return models


# Only Python takes it so; the command has an option that is given several times.
MODELS = Kind(_check_models, "a run, or a list of one or more")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PartOptions):
    """What a prediction takes beside images, models and where the masks go."""

    device: Annotated[str, DEVICE] = "auto"
    overlap: Annotated[
        float | None,
        Option(
            "Overlap of windows; the plan's (0.5) if not given.",
            NUMBER._replace(metavar="<float range> [0.0<=x<=0.95]"),
        ),
    ] = None
    tta: Annotated[
        bool, Option("Average over mirrorings: slower, often a little better.", FLAG, names=("tta/disable_tta",))
    ] = False
    threshold: Annotated[
        float | Mapping[str, float] | Literal["default"] | None,
        Option(
            "Probability above which a voxel counts{form}. If not given, that which was chosen for the run.", THRESHOLDS
        ),
    ] = None
    postprocess: Annotated[
        bool,
        Option("Apply what a cross-validation has chosen.", FLAG, names=("postprocessing/no-postprocessing",)),
    ] = True
    crop: Annotated[
        bool,
        Option("Take what lies around all non-zero voxels for background unseen.", FLAG, names=("crop/no-crop",)),
    ] = True
    memory: Annotated[int | None, Option("What a case may take beside the loaded model{form}.", BYTES)] = None
    probabilities: Annotated[
        bool,
        Option("Write probabilities/CASE.nii.gz (4D), of 2D images CASE/CLASS.png, on the image's own grid.", FLAG),
    ] = False
    save_probabilities: Annotated[bool, Option("Write CASE.npz beside each mask (nnU-Net's form, float32).", FLAG)] = (
        False
    )
    skip_existing: Annotated[bool, Option("Leave masks that are there already.", FLAG, names=("continue",))] = False
    bids: Annotated[bool, Option("Write a BIDS derivative: sub-01/anat/sub-01_desc-deconvseg_dseg.nii.gz.", FLAG)] = (
        False
    )
    console: Annotated[Console, Option("Where to tell what is done, and how far it is.", OBJECT)] = SILENT
