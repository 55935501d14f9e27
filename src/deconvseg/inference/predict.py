"""Predict arrays, images, files or folders."""

import logging
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import (
    Case,
    Geometry,
    Image,
    LabelMap,
    Problem,
    is_dataset,
    list_names,
    open_dataset,
    open_images,
    read_image,
    read_splits,
)
from deconvseg.errors import InputError
from deconvseg.inference.cases import Prediction, predict_cases
from deconvseg.inference.postprocessing import Postprocessing, read_postprocessing
from deconvseg.inference.predictor import Predictor
from deconvseg.planning import available_memory, choose_device
from deconvseg.runs import Run, open_runs

_log = logging.getLogger("deconvseg")

Path_ = str | PathLike[str]


@overload
def predict(
    images: NDArray[Any],
    models: Path_ | Sequence[Path_],
    *,
    spacing: Sequence[float] | None = ...,
    device: str = ...,
    overlap: float | None = ...,
    tta: bool = ...,
    postprocess: bool = ...,
    crop: bool = ...,
    memory: int | None = ...,
) -> NDArray[np.integer]: ...
@overload
def predict(
    images: Image,
    models: Path_ | Sequence[Path_],
    *,
    device: str = ...,
    overlap: float | None = ...,
    tta: bool = ...,
    postprocess: bool = ...,
    crop: bool = ...,
    memory: int | None = ...,
) -> LabelMap: ...
@overload
def predict(
    images: Path_,
    models: Path_ | Sequence[Path_],
    output: Path_,
    *,
    device: str = ...,
    overlap: float | None = ...,
    tta: bool = ...,
    postprocess: bool = ...,
    crop: bool = ...,
    memory: int | None = ...,
    save_probabilities: bool = ...,
    skip_existing: bool = ...,
    bids: bool = ...,
    splits: Path_ | None = ...,
    split: Literal["train", "val", "test"] | None = ...,
    fold: int | None = ...,
    progress: Callable[[str, float], None] = ...,
    say: Callable[[str], None] = ...,
) -> Prediction: ...
def predict(
    images: NDArray[Any] | Image | Path_,
    models: Path_ | Sequence[Path_],
    output: Path_ | None = None,
    *,
    spacing: Sequence[float] | None = None,
    device: str = "auto",
    overlap: float | None = None,
    tta: bool = False,
    postprocess: bool = True,
    crop: bool = True,
    memory: int | None = None,
    save_probabilities: bool = False,
    skip_existing: bool = False,
    bids: bool = False,
    splits: Path_ | None = None,
    split: Literal["train", "val", "test"] | None = None,
    fold: int | None = None,
    progress: Callable[[str, float], None] = lambda text, fraction: None,
    say: Callable[[str], None] = lambda text: None,
) -> NDArray[np.integer] | LabelMap | Prediction:
    """Segment images with one trained run, or with the mean of several; a cross-validation is the mean of its folds.

    ``images`` is an array (C, *S) or (*S) with ``spacing`` in mm (default 1), a :class:`~deconvseg.data.Image`, a file,
    a folder of files, or a dataset, of which ``split`` takes a part (as the first run's splits say, or the file
    ``splits``, of which ``fold`` picks an entry where it is a list). Arrays give an array of
    label values (*S), images a label map; files give masks named after their case in ``output``, each on the grid and
    with the geometry of its image. A file that fails is reported in ``problems`` and the others are done; where
    it is the only one, its error is raised. Masks go through the post-processing that a cross-validation has chosen,
    unless ``postprocess`` is false.

    ``overlap``, ``tta``, ``crop`` and ``memory`` (bytes) are those of :class:`~deconvseg.inference.Predictor`;
    ``bids``, ``progress`` and ``say`` those of :func:`~deconvseg.inference.predict_cases`.
    """
    folders = [Path(path) for path in ([models] if isinstance(models, str | PathLike) else models)]
    runs = [run for folder in folders for run in open_runs(folder)]
    predictor = Predictor(
        runs,
        device=choose_device(device),
        overlap=overlap,
        tta=tta,
        crop=crop,
        memory=memory,
        postprocessing=_common_postprocessing(folders) if postprocess else None,
    )
    if isinstance(images, np.ndarray):
        image = _image_from_array(images, predictor.plan.spatial_dims, spacing)
        return predictor.segment(image).pixels
    if isinstance(images, Image):
        return predictor.segment(images)
    if not isinstance(images, str | PathLike):
        raise InputError(f"images: give an array, a deconvseg.data.Image or a path, not a {type(images).__name__}")
    if output is None:
        raise InputError("images from files need an output folder for their masks (-o)")
    if Path(images).is_dir() and Path(images).resolve() == Path(output).resolve():
        raise InputError(
            f"{output}: holds the images; masks among them would be taken for images: choose another folder"
        )
    cases, left_out, load = _find_cases(Path(images), [channel.name for channel in predictor.plan.channels], memory)
    if split is not None:
        names = [case.name for case in cases]
        # Without a splits file the run's own is meant: it alone knows what the run was validated on.
        chosen = getattr(read_splits(splits or runs[0].path / "splits.json", names, fold=fold), split)
        if not chosen:
            raise InputError(f"{splits or runs[0].path}: has no cases in {split!r}")
        cases = [case for case in cases if case.name in chosen]
        _warn_of_seen(cases, runs, split)
    elif splits is not None or fold is not None:
        given = f"--fold {fold}" if splits is None else f"--splits {splits}"
        raise InputError(f"{given}: say which part is meant with --split train, val or test")
    done = predict_cases(
        predictor,
        cases,
        Path(output),
        load=load,
        save_probabilities=save_probabilities,
        skip_existing=skip_existing,
        bids=bids,
        raise_problems=Path(images).is_file() and not is_dataset(Path(images)),
        progress=progress,
        say=say,
    )
    done.problems += [f"{problem.file} {problem.message}" for problem in left_out]
    return done


def _common_postprocessing(folders: Sequence[Path]) -> Postprocessing:
    found = [read_postprocessing(folder) for folder in folders]
    if any(other.steps != found[0].steps for other in found):
        raise InputError(
            f"{', '.join(map(str, folders))}: their post-processing differs, and none was chosen for their mean; "
            "predict with --no-postprocessing"
        )
    return found[0]


def _warn_of_seen(cases: Sequence[Case], runs: Sequence[Run], split: str) -> None:
    known = [run.splits["train"] for run in runs if (run.path / "splits.json").is_file()]
    seen = {case.name for case in cases} & {name for names in known for name in names}
    if seen and split != "train":
        _log.warning(
            "%d of the %d cases of the split %s trained one of the runs, so their masks are better than those of new "
            "cases would be: %s",
            *(len(seen), len(cases), split, list_names(sorted(seen))),
        )


def _find_cases(
    images: Path, channels: Sequence[str], memory: int | None
) -> tuple[Sequence[Case], Sequence[Problem], Callable[[Case], Image]]:
    """Return the cases to predict, what is left out, and how one is loaded: as its dataset says, or simply read."""
    order = tuple(range(len(channels)))
    if is_dataset(images):
        dataset = open_dataset(images)
        cases, problems, channels_last = dataset.cases, dataset.left_out, dataset.channels_last
        if not dataset.guessed_channels and len(channels) == len(dataset.channel_names):
            order = _channel_order(dataset.channel_names, channels, images)
    else:
        cases, problems = open_images(images, channels=len(channels))
        channels_last = len(channels) > 1

    def load(case: Case) -> Image:
        room = available_memory() if memory is None else memory
        files = [case.images[place] for place in order] if len(case.images) == len(order) else case.images
        image = read_image(files, channels_last=channels_last, memory=room)
        if len(files) == len(order) or order == tuple(range(image.channels)) or image.channels != len(order):
            return image
        return Image(image.pixels[list(order)], image.geometry)

    return cases, problems, load


def _channel_order(given: Sequence[str], wanted: Sequence[str], where: Path) -> tuple[int, ...]:
    """Return where each of the network's channels is in a dataset, by name; as they come where no name is shared."""
    have, need = [name.lower() for name in given], [name.lower() for name in wanted]
    if sorted(have) == sorted(need) and len(set(have)) == len(have):
        return tuple(have.index(name) for name in need)
    if len(need) > 1 and set(have) & set(need):
        raise InputError(
            f"{where}: has the channels {', '.join(given)}, but the run needs {', '.join(wanted)}; name them alike, or "
            "give a folder of images in that order"
        )
    if len(need) > 1:
        _log.warning("%s: takes %s for the run's %s, in this order", where, ", ".join(given), ", ".join(wanted))
    return tuple(range(len(need)))


def _image_from_array(pixels: NDArray[Any], spatial_dims: int, spacing: Sequence[float] | None) -> Image:
    if pixels.ndim == spatial_dims:
        pixels = pixels[None]
    if pixels.ndim != spatial_dims + 1 or pixels.size == 0:
        raise InputError(
            f"the array has shape {pixels.shape}; give (channels, *size), channels first, or (*size), "
            f"with {spatial_dims} spatial axes"
        )
    steps = np.ones(spatial_dims) if spacing is None else np.asarray(spacing, float)
    if steps.shape != (spatial_dims,) or not (steps > 0).all():
        raise InputError(f"spacing {spacing}: give {spatial_dims} positive numbers, in mm")
    if not np.isfinite(pixels).all():
        raise InputError("the array has NaN or infinite values; replace them first")
    return Image(pixels.astype(np.float32), Geometry(np.diag([*steps, 1.0])))
