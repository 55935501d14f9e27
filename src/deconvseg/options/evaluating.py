"""The options of an evaluation, and the options that select a part of a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from deconvseg.options.dataset import EXCLUDE, FOREGROUND, IMAGE, LABELS_KIND, MASK
from deconvseg.options.declaring import NUMBER, OBJECT, PLACE, TEXT, Kind, Option, Options, name_of, whole
from deconvseg.options.kinds import CONSOLE, PLAN
from deconvseg.options.training import SPLITS
from deconvseg.progress import SILENT, Console

if TYPE_CHECKING:
    from deconvseg.planning import Plan

_Path = str | PathLike[str]


def _check_names(value: Any) -> Any:
    return value if isinstance(value, str) else [TEXT.check(name) for name in value]


NAMES = Kind(_check_names, "names, or all", metavar="NAMES")
SIZES = Kind(
    lambda value: [float(size) for size in value],
    "numbers",
    read=lambda text: [float(size) for size in text.split(",")],
    wanted_text="numbers with commas between them, such as 10,100",
    metavar="SIZES",
    form=", such as [10, 100]",
    text_form=", such as 10,100",
)


def _check_labels(value: Any) -> Any:
    return value if isinstance(value, Mapping) else LABELS_KIND.check(value)


_LABELS = LABELS_KIND._replace(check=_check_labels)


@dataclass(frozen=True, kw_only=True)
class PartOptions(Options):
    """The options that select cases of a dataset."""

    splits: Annotated[_Path | None, SPLITS] = None
    split: Annotated[
        Literal["train", "val", "test"] | None,
        Option("Only the cases of this split: train, val or test.", name_of(lambda: ("train", "val", "test"))),
    ] = None
    fold: Annotated[
        int | None, Option("Entry to use if the splits file is a list, as in nnU-Net; by default 0.", whole(0))
    ] = None
    image: Annotated[str | Sequence[str] | Mapping[str, str] | None, IMAGE] = None
    mask: Annotated[str | Sequence[str] | Mapping[str, str] | None, MASK] = None
    exclude: Annotated[_Path | Sequence[_Path] | None, EXCLUDE] = None


@dataclass(frozen=True)
class EvaluateOptions(PartOptions):
    """The arguments of ``deconvseg evaluate`` and :func:`~deconvseg.evaluation.evaluate`."""

    truth: Annotated[_Path, Option("True masks: a folder, a dataset or a file.", PLACE, names=("g", "truth"))]
    prediction: Annotated[_Path, Option("Predicted masks: a folder or a file.", PLACE, names=("p", "prediction"))]
    output: Annotated[
        _Path | None,
        Option(
            "metrics.json to write, or a folder for it; summary.json and metrics.csv are written next to it.",
            PLACE,
            names=("o", "output"),
        ),
    ] = None
    _: KW_ONLY
    unit: Annotated[
        Literal["mm", "voxel"], Option("Unit of distances: mm or voxel.", name_of(lambda: ("mm", "voxel")))
    ] = "mm"
    grid: Annotated[
        Literal["image", "plan"],
        Option(
            "Grid on which masks are scored: image, or plan, to which both masks are resampled as in training.",
            name_of(lambda: ("image", "plan")),
        ),
    ] = "image"
    plan: Annotated[
        "Plan | _Path | None", Option("Plan with the grid for scoring; by default that of the run.", PLAN)
    ] = None
    metrics: Annotated[
        str | Sequence[str] | None,
        Option("Metrics separated by commas, or all; by default dice,hd95,hd95_defined,nsd.", NAMES),
    ] = None
    empty: Annotated[
        Literal["diagonal", "brats", "drop"],
        Option(
            "Values for empty masks: diagonal (HD95 is the image's diagonal), brats (373.13), or drop, which leaves "
            "out and counts undefined values."
        ),
    ] = "diagonal"
    tolerance: Annotated[
        float | None,
        Option("Tolerance of NSD, in that unit; by default 1.", NUMBER._replace(metavar="<float range> [x>=0.0]")),
    ] = None
    lesion_overlap: Annotated[
        float | None,
        Option(
            "Fraction of a lesion that must be covered for it to count as found; by default one voxel.",
            NUMBER._replace(metavar="<float range> [0.0<=x<=1.0]"),
        ),
    ] = None
    lesion_sizes: Annotated[
        Sequence[float] | None, Option("Bounds of lesion sizes to count separately{form} (mm³; 2D: mm²).", SIZES)
    ] = None
    foreground: Annotated[bool, FOREGROUND] = False
    labels: Annotated[
        Mapping[int, str] | _Path | Sequence[_Path] | None,
        Option(
            "Names of labels: 1=organ, a region tumour=1,2, 255=ignore, or a file of labels (.json, .csv, .txt); a "
            "mapping of values to names also selects the evaluated labels.",
            _LABELS,
        ),
    ] = None
    run: Annotated[_Path | None, Option("Score the classes or regions of this run's plan.", PLACE)] = None
    images: Annotated[
        Mapping[str, Sequence[Path]] | None,
        Option("Image files of the cases, for pictures; by default those of the dataset.", OBJECT),
    ] = None
    console: Annotated[Console | bool | None, CONSOLE] = SILENT

    @staticmethod
    def types() -> dict[str, Any]:
        """Import the type of a plan."""
        from deconvseg.planning import Plan

        return {"Plan": Plan}
