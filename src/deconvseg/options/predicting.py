"""The options of a prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Annotated, Any, Literal

from deconvseg.options.dataset import CHANNEL, SERIES
from deconvseg.options.declaring import BYTES, FLAG, NUMBER, PLACE, TEXT, THRESHOLDS, Kind, Option, Options
from deconvseg.options.evaluating import PartOptions
from deconvseg.options.kinds import CONSOLE, MASK_FORMAT, PREDICTION_PRECISION, SEGMENTATION_TYPE, WEIGHTS
from deconvseg.options.training import DEVICE
from deconvseg.progress import SILENT, Console


def _check_models(value: Any) -> Any:
    if isinstance(value, str | PathLike):
        return value
    models = list(value)
    if not models:
        raise ValueError
    return models


# For Python only; on the command line the option is repeated.
MODELS = Kind(_check_models, "a run, or a list of one or more")


@dataclass(frozen=True, kw_only=True)
class MaskOptions(Options):
    """The options that decide the masks of given runs; a prediction and an export have them."""

    weights: Annotated[
        Literal["final", "best"] | None,
        Option(
            "Weights of each run: final, or best by the validation Dice; by default those of its recipe (final).",
            WEIGHTS,
        ),
    ] = None
    overlap: Annotated[
        float | None,
        Option(
            "Overlap of windows; by default that of the plan (0.5).",
            NUMBER._replace(metavar="<float range> [0.0<=x<=0.95]"),
        ),
    ] = None
    tta: Annotated[
        bool | None,
        Option(
            "Average over mirrorings: slower, often slightly better; by default as the plan says (usually not).",
            FLAG,
            names=("tta/disable_tta",),
        ),
    ] = None
    threshold: Annotated[
        float | Mapping[str, float] | Literal["default"] | None,
        Option(
            "Probability from which a voxel is foreground{form}. By default the threshold chosen for the run.",
            THRESHOLDS,
        ),
    ] = None
    postprocess: Annotated[
        bool,
        Option("Apply the post-processing of a cross-validation.", FLAG, names=("postprocessing/no-postprocessing",)),
    ] = True
    crop: Annotated[
        bool,
        Option(
            "Skip the border of zero voxels around the image, if the plan allows it.", FLAG, names=("crop/no-crop",)
        ),
    ] = True


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PartOptions, MaskOptions):
    """The options of a prediction, except images, models and the output."""

    series: Annotated[str | Sequence[str] | None, SERIES] = None
    channel: Annotated[str | Sequence[str] | Mapping[str, str] | None, CHANNEL] = None
    device: Annotated[str, DEVICE] = "auto"
    precision: Annotated[
        Literal["auto", "32", "bf16"],
        Option(
            "Precision of the network: 32, bf16 (faster on a processor or GPU with bfloat16), or auto: bf16 if the "
            "training measured that it costs at most 0.0005 of the Dice.",
            PREDICTION_PRECISION,
        ),
    ] = "auto"
    engine: Annotated[
        str,
        Option(
            "What computes the network: torch, or on a CPU openvino or onnxruntime, which must be installed.",
            TEXT._replace(metavar="NAME"),
        ),
    ] = "torch"
    memory: Annotated[
        int | None, Option("Memory that a case may take in addition to the loaded model{form}.", BYTES)
    ] = None
    probabilities: Annotated[
        bool,
        Option(
            "Write probabilities/CASE.nii.gz (4D), or CASE/CLASS.png for 2D images, on the grid of the image.", FLAG
        ),
    ] = False
    save_probabilities: Annotated[
        bool, Option("Write CASE.npz next to each mask (nnU-Net's format, float32).", FLAG)
    ] = False
    save_regions: Annotated[
        bool, Option("Write each region as its own 0/1 file, regions/REGION/CASE.nii.gz, besides the mask.", FLAG)
    ] = False
    skip_existing: Annotated[bool, Option("Keep existing masks and predict the others.", FLAG, names=("continue",))] = (
        False
    )
    to: Annotated[
        str | None,
        Option(
            "Format of the masks, dicom-seg or nifti, or the server to store them on, dicomweb://HOST/PATH; by default "
            "that of the images.",
            MASK_FORMAT,
        ),
    ] = None
    seg_type: Annotated[
        Literal["binary", "labelmap", "fractional"],
        Option("Type of DICOM segmentations: binary, labelmap, or fractional (probabilities).", SEGMENTATION_TYPE),
    ] = "binary"
    codes: Annotated[
        str | PathLike[str] | None,
        Option("Table of codes for DICOM segmentations (.csv), by the names of structures.", PLACE),
    ] = None
    anonymise: Annotated[bool, Option("Name masks without the names of their images and patients.", FLAG)] = False
    bids: Annotated[bool, Option("Write a BIDS derivative: sub-01/anat/sub-01_desc-deconvseg_dseg.nii.gz.", FLAG)] = (
        False
    )
    console: Annotated[Console | bool | None, CONSOLE] = SILENT
