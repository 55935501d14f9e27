"""The options of an export."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Annotated, Literal

from deconvseg.options.declaring import FLAG, PLACE, TEXT, Option, name_of
from deconvseg.options.kinds import CONSOLE
from deconvseg.options.predicting import MODELS, MaskOptions
from deconvseg.progress import SILENT, Console

_Folder = str | PathLike[str]
FORMATS = ("onnx", "openvino", "torch-export", "monai-bundle")


@dataclass(frozen=True)
class ExportOptions(MaskOptions):
    """The options of ``deconvseg export``."""

    runs: Annotated[_Folder | Sequence[_Folder], Option("A run or cross-validation; several are averaged.", MODELS)]
    output: Annotated[_Folder, Option("Folder for the model, its contract and the script.", PLACE, ("o", "output"))]
    _: KW_ONLY
    format: Annotated[
        Literal["onnx", "openvino", "torch-export", "monai-bundle"],
        Option("Format of the model: onnx, openvino, torch-export or monai-bundle.", name_of(lambda: FORMATS)),
    ] = "onnx"
    sampling: Annotated[
        Literal["gather", "grid_sample"] | None,
        Option(
            "Operators of DTC and DySample: grid_sample, or gather for software whose grid_sample takes no volumes; by "
            "default what the format's own runtime takes.",
            name_of(lambda: ("gather", "grid_sample")),
        ),
    ] = None
    int8: Annotated[
        bool,
        Option(
            "Quantise the model to 8 bits by training cases of the dataset (format openvino; needs nncf): faster, and "
            "the masks differ.",
            FLAG,
        ),
    ] = False
    images: Annotated[
        _Folder | None,
        Option(
            "Image or dataset to compare the masks on; of a dataset the first validation case. By default the run's "
            "dataset, if a folder of its name is here or beside the run, else noise.",
            PLACE,
            ("i", "input"),
        ),
    ] = None
    case: Annotated[str | None, Option("Case of the images to compare the masks on.", TEXT)] = None
    console: Annotated[Console | bool | None, CONSOLE] = SILENT
