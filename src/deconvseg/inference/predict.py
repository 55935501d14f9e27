"""Predict arrays, images, files or folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import Image, LabelMap, is_dataset
from deconvseg.errors import InputError
from deconvseg.inference.arrays import image_of
from deconvseg.inference.cases import predict_cases
from deconvseg.inference.doubt_table import describe_doubts
from deconvseg.inference.engine_registry import TORCH
from deconvseg.inference.exports import is_export
from deconvseg.inference.finding import choose_cases
from deconvseg.inference.mask_formats import MaskFormat, fetched, is_server, open_writer, store_masks
from deconvseg.inference.opening import Folder, doubt_limit, locate_models
from deconvseg.inference.predictor import Model, Predictor
from deconvseg.inference.records import Prediction
from deconvseg.inference.starting import OpenedPredictor, open_predictor
from deconvseg.inference.telling import describe_computing, tell_computing, tell_weights
from deconvseg.options import MODELS, OBJECT, PLACE, Option, PredictOptions, takes
from deconvseg.progress import Console, choose_console, takes_console
from deconvseg.runs import WeightsChoice
from deconvseg.system import choose_device, does_not_exist

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Options(TypedDict, total=False):
    """The options of every prediction."""

    device: str
    overlap: float | None
    tta: bool | None
    postprocess: bool
    crop: bool
    memory: int | None
    weights: WeightsChoice | None
    threshold: float | Mapping[str, float] | Literal["default"] | None
    precision: Literal["auto", "32", "bf16"]
    engine: str


class _FileOptions(_Options, total=False):
    """The options for files."""

    save_probabilities: bool
    probabilities: bool
    save_regions: bool
    skip_existing: bool
    bids: bool
    to: str | None
    seg_type: Literal["binary", "labelmap", "fractional"]
    codes: Folder | None
    anonymise: bool
    splits: Folder | None
    split: Literal["train", "val", "test"] | None
    fold: int | None
    image: str | Sequence[str] | Mapping[str, str] | None
    mask: str | Sequence[str] | Mapping[str, str] | None
    exclude: Folder | Sequence[Folder] | None
    series: str | Sequence[str] | None
    channel: str | Sequence[str] | Mapping[str, str] | None
    cases: Sequence[str] | None
    console: Console | bool | None


@dataclass(frozen=True)
class _Arguments(PredictOptions):
    images: Annotated[Any, Option("An image in memory, a file, a folder of files, or a dataset.", OBJECT)]
    models: Annotated[Folder | Sequence[Folder | Model], Option("Runs, cross-validations, exports or models.", MODELS)]
    output: Annotated[Folder | None, Option("Folder for the masks of files.", PLACE)] = None
    _: KW_ONLY
    spacing: Annotated[Sequence[float] | None, Option("Distances between voxels of an array, in mm.", OBJECT)] = None
    affine: Annotated[Any, Option("Matrix from voxels of an array to RAS millimetres.", OBJECT)] = None
    cases: Annotated[Sequence[str] | None, Option("Predict only the cases with these names.", OBJECT)] = None


@overload
def predict(
    images: NDArray[Any],
    models: Folder | Sequence[Folder | Model],
    *,
    spacing: Sequence[float] | None = ...,
    affine: Any = ...,
    **options: Unpack[_Options],
) -> NDArray[np.integer]: ...
@overload
def predict(
    images: NDArray[Any],
    models: Folder | Sequence[Folder | Model],
    *,
    probabilities: Literal[True],
    spacing: Sequence[float] | None = ...,
    affine: Any = ...,
    **options: Unpack[_Options],
) -> tuple[NDArray[np.integer], NDArray[np.float32]]: ...
@overload
def predict(images: Image, models: Folder | Sequence[Folder | Model], **options: Unpack[_Options]) -> LabelMap: ...
@overload
def predict(
    images: Image,
    models: Folder | Sequence[Folder | Model],
    *,
    probabilities: Literal[True],
    **options: Unpack[_Options],
) -> tuple[LabelMap, Image]: ...
@overload
def predict(
    images: Folder,
    models: Folder | Sequence[Folder | Model],
    output: Folder,
    **options: Unpack[_FileOptions],
) -> Prediction: ...
@overload
def predict(
    images: Any,
    models: Folder | Sequence[Folder | Model],
    *,
    spacing: Sequence[float] | None = ...,
    affine: Any = ...,
    save_probabilities: bool = ...,
    probabilities: bool = ...,
    **options: Unpack[_Options],
) -> Any: ...
@takes_console
@takes(_Arguments)
def predict(asked: _Arguments) -> Any:
    """Segment images with one trained run, or with the mean of several; a cross-validation is the mean of its folds.

    ``models`` are run folders, packed runs, ``hf://ORG/NAME`` or ``pretrained:NAME``
    (:func:`~deconvseg.runs.locate`), or models as :class:`~deconvseg.inference.Predictor` takes them: runs, and pairs
    of a network or an :class:`~deconvseg.inference.Engine` and the plan of its training. A folder of
    :func:`deconvseg.export` is a model too: its contract and its model suffice, without the run. ONNX Runtime computes
    the format onnx and OpenVINO the format openvino; mirroring is that of the export.

    ``images`` is a file, a folder of files, a dataset, or an image in memory:

    * an array or a tensor (C, *S) or (*S), 3D in nibabel's order of axes, 2D as (row, column), gives an array or a
      tensor of label values (*S) on the same axes. ``affine`` (4, 4) maps its voxels to RAS millimetres, as
      ``nibabel.load(file).affine`` does; in 2D it is (3, 3). A MONAI ``MetaTensor`` has its own. With only ``spacing``
      (mm, default 1) the axes are assumed to be those of the training files if these all had one orientation, otherwise
      RAS; if the run distinguishes directions, a log message states the assumption. Arrays from SimpleITK's
      ``GetArrayFromImage`` are (z, y, x): pass the image itself.
    * a :class:`~deconvseg.data.Image` gives a label map; an image of nibabel or SimpleITK gives one of the same
      library. Each keeps its geometry.

    With ``probabilities`` an image in memory gives a pair of its mask and its probabilities, in float32 and in the type
    of the image: an array, a tensor or a :class:`~deconvseg.data.Image` (K, *S), an image of nibabel (X, Y, Z, K) or a
    vector image of SimpleITK, each with the geometry of the image. K is the number of classes, background first, or of
    regions. With ``save_probabilities`` the probabilities are always an array (K, *S).

    Files give masks named after their case in ``output``, each on the grid and with the geometry of its image.
    ``split`` selects a part of a dataset (by the first run's splits, or by the file ``splits``, in which ``fold``
    selects an entry of a list), and ``cases`` selects cases by name. A folder of DICOM studies is sorted out by series:
    each study is a case, of the series that ``series`` picks (a UID, description or modality, or a pattern), or of one
    per channel, by ``channel`` (``{"FLAIR": UID}``) or by the rules of the plan's channels. A file that
    fails is reported in ``problems`` and the others are completed; if it is the only one, its error is raised. The
    post-processing of a cross-validation is applied unless ``postprocess`` is false.

    ``threshold`` is the probability above which a voxel is foreground, one number or numbers by class
    (:class:`~deconvseg.inference.Rule`). The default is the threshold chosen for the run (``deconvseg threshold``). If
    none was chosen, or with "default", the class with the largest probability is predicted.

    ``weights`` are the "final" or the "best" ones of every run, by default those that its recipe chooses. A threshold
    or post-processing that was chosen for the others is not applied, with a warning.

    ``precision`` is that of PyTorch's networks: "32", "bf16" (bfloat16, with float32 weights), or "auto", which is
    bfloat16 if the device has it and ``precision.json`` of every run says that it is faster and costs at most 0.0005 of
    the mean Dice of the validation cases, and float32 otherwise.

    ``engine`` is what computes the networks: "torch", or on a CPU one of the others of
    :func:`~deconvseg.inference.list_engines`, which must be installed. "onnxruntime" takes the precision "32" only.

    ``overlap``, ``tta``, ``crop`` and ``memory`` (bytes) are those of :class:`~deconvseg.inference.Predictor`;
    ``save_probabilities``, ``probabilities``, ``save_regions``, ``skip_existing``, ``bids`` and ``console`` those of
    :func:`~deconvseg.inference.predict_cases`. Raises :class:`~deconvseg.errors.InputError` for an image that the run
    does not fit, and for an argument that does not belong to the kind of ``images``.

    Example:
        >>> import numpy
        >>> import deconvseg
        >>> done = deconvseg.predict("SCANS", "RUN", "NEW_MASKS")
        >>> len(done.written), done.problems
        (8, [])
        >>> image = numpy.full((1, 64, 96), 60.0, dtype="float32")
        >>> mask = deconvseg.predict(image, "RUN")
        >>> mask.shape, mask.dtype
        ((64, 96), dtype('uint8'))
        >>> lower, probabilities = deconvseg.predict(image, "RUN", threshold=0.3, probabilities=True)
        >>> probabilities.shape, bool((lower[mask > 0] > 0).all())
        ((2, 64, 96), True)

    """
    from_files = isinstance(asked.images, str | PathLike)
    if from_files:
        _refuse(asked, "spacing", "affine", why="files contain their geometry")
        _check_places(asked)
    else:
        why = "an image in memory is one case, not saved"
        _refuse(asked, "output", "splits", "split", "fold", "cases", "image", "mask", "exclude", why=why)
        _refuse(asked, "series", "channel", why=why)
        _refuse(
            asked,
            "skip_existing",
            "bids",
            "save_regions",
            "to",
            "codes",
            "anonymise",
            why="an image in memory is not saved",
        )
    given = locate_models(asked.models)
    # Other engines run on the CPU.
    other = asked.engine != TORCH or any(is_export(model) for model in given)
    device = choose_device("cpu" if other and asked.device == "auto" else asked.device)
    open_models = partial(
        open_predictor, given, asked, device=device, memory=asked.memory, precision=asked.precision, engine=asked.engine
    )
    if not from_files:
        return _predict_image(asked, open_models().predictor)
    # What a server does not give is known before weights are loaded.
    with fetched(asked.images, choose_console(asked.console)) as images:
        opened = open_models()
        for line in opened.lines:
            choose_console(asked.console).say(line)
        return _predict_files(replace(asked, images=images), opened, doubt_limit(given, asked.weights))


def _predict_image(asked: _Arguments, predictor: Predictor) -> Any:
    """Return the mask of an image in memory, with its probabilities if they are requested."""
    one = image_of(asked.images, predictor.plan, spacing=asked.spacing, affine=asked.affine)
    wanted = asked.save_probabilities or asked.probabilities
    maps = predictor.new_maps(one.image.shape) if wanted else None
    mask = one.give_back(predictor.segment(one.image, probabilities=maps))
    if maps is None:
        return mask
    return mask, one.give_maps(maps) if asked.probabilities else maps


def _predict_files(asked: _Arguments, opened: OpenedPredictor, limit: float | None) -> Prediction:
    """Write the masks of files; the result also describes the runs."""
    predictor, told = opened.predictor, opened.told
    images, output = Path(asked.images), Path(asked.output or "")
    names = ("memory", "splits", "split", "fold", "image", "mask", "exclude", "series", "channel")
    part = {name: getattr(asked, name) for name in names}
    chosen, left_out, load = choose_cases(
        images, predictor.plan, opened.runs, **part, names=asked.cases, told=told, console=choose_console(asked.console)
    )
    told.computing = describe_computing(predictor)
    for line in (tell_weights(told.models), tell_computing(told.computing)):
        if line is not None:
            choose_console(asked.console).say(line)
    done = predict_cases(
        predictor,
        chosen,
        output,
        load=load,
        save_probabilities=asked.save_probabilities,
        probabilities=asked.probabilities,
        save_regions=asked.save_regions,
        doubt_limit=limit,
        skip_existing=asked.skip_existing,
        bids=asked.bids,
        masks=MaskFormat(asked.to, asked.anonymise),
        segmentation=open_writer(predictor, chosen, asked),
        raise_problems=images.is_file() and not is_dataset(images),
        console=choose_console(asked.console),
    )
    told.add(done)
    if is_server(asked.to):
        store_masks(str(asked.to), [*done.written, *done.skipped], choose_console(asked.console))
    if line := describe_doubts(done, limit):
        choose_console(asked.console).say(line)
    told.problems += [f"{problem.file} {problem.message}" for problem in left_out if problem.severity == "error"]
    return told


def _check_places(asked: _Arguments) -> None:
    """Refuse missing images, and a missing or wrong folder for masks, before weights are read."""
    if asked.output is None:
        raise InputError("images in files need a folder for their masks: give `output`")
    images, output = Path(asked.images), Path(asked.output)
    if is_server(asked.images):
        return
    if not images.exists() and not images.is_symlink():
        raise InputError(f"{does_not_exist(images)}; give an image file, a folder of them, or a dataset")
    if images.is_dir() and images.resolve() == output.resolve():
        raise InputError(f"{output}: contains the images; masks in it would be read as images: choose another folder")


def _refuse(asked: _Arguments, *names: str, why: str) -> None:
    """Refuse arguments that would be ignored."""
    for name in names:
        value = getattr(asked, name)
        if value is not None and value is not False:
            raise InputError(f"`{name}`: {why}; omit it")
