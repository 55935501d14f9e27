"""Predict arrays, images, files or folders."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import (
    Case,
    Geometry,
    Image,
    LabelMap,
    atomic_write,
    mask_suffix,
    open_dataset,
    open_images,
    read_image,
    read_splits,
    write_label_map,
)
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference.predictor import Predictor
from deconvseg.planning import choose_device
from deconvseg.runs import Run

Path_ = str | PathLike[str]


@dataclass
class Prediction:
    """What was written, what was there already, and what failed and why."""

    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists of strings."""
        return {
            "written": [str(p) for p in self.written],
            "skipped": [str(p) for p in self.skipped],
            "problems": self.problems,
        }


@overload
def predict(
    images: NDArray[Any],
    models: Path_ | Sequence[Path_],
    *,
    spacing: Sequence[float] | None = ...,
    device: str = ...,
    overlap: float | None = ...,
    tta: bool = ...,
) -> NDArray[np.integer]: ...
@overload
def predict(
    images: Image,
    models: Path_ | Sequence[Path_],
    *,
    device: str = ...,
    overlap: float | None = ...,
    tta: bool = ...,
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
    save_probabilities: bool = ...,
    skip_existing: bool = ...,
    splits: Path_ | None = ...,
    split: str | None = ...,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = ...,
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
    save_probabilities: bool = False,
    skip_existing: bool = False,
    splits: Path_ | None = None,
    split: str | None = None,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> NDArray[np.integer] | LabelMap | Prediction:
    """Segment images with one trained run, or with the mean of several.

    ``images`` is an array (C, *S) or (*S) with ``spacing`` in mm (default 1), a :class:`~deconvseg.data.Image`, a file,
    a folder of files, or a dataset (of which ``split`` of the file ``splits`` takes a part). Arrays give an array of
    label values (*S), images a label map; files give masks named after their case in ``output``, each on the grid and
    with the geometry of its image. A file that fails is reported in ``problems`` and the others are done.
    """
    runs = [Run.open(path) for path in ([models] if isinstance(models, str | PathLike) else models)]
    predictor = Predictor(runs, device=choose_device(device), overlap=overlap, tta=tta)
    if isinstance(images, np.ndarray):
        image = _image_from_array(images, predictor.plan.spatial_dims, spacing)
        return predictor.mask(image, predictor.probabilities(image)).pixels
    if isinstance(images, Image):
        return predictor.mask(images, predictor.probabilities(images))
    if output is None:
        raise InputError("no output folder: say where the masks go with -o")
    cases, load = _find_cases(Path(images), len(predictor.plan.channels), splits, split)
    return predict_cases(
        predictor,
        cases,
        Path(output),
        load=load,
        save_probabilities=save_probabilities,
        skip_existing=skip_existing,
        progress=progress,
    )


def predict_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    output: Path,
    *,
    load: Callable[[Case], Image],
    save_probabilities: bool = False,
    skip_existing: bool = False,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> Prediction:
    """Write the mask of each case (and, on request, its probabilities as ``CASE.npz``) into the folder ``output``."""
    result = Prediction()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: the output folder cannot be made ({error.strerror})") from error
    for case in progress(cases):
        path = output / f"{case.name}{mask_suffix(case.images[0])}"
        if skip_existing and path.exists():
            result.skipped.append(path)
            continue
        try:
            image = load(case)
            probabilities = predictor.probabilities(image, str(case.images[0]))
            write_label_map(predictor.mask(image, probabilities), path, like=case.images[0])
            if save_probabilities:
                with atomic_write(output / f"{case.name}.npz") as temporary, temporary.open("wb") as file:
                    np.savez_compressed(file, probabilities=probabilities)
        except DeconvsegError as error:
            result.problems.append(str(error))
        else:
            result.written.append(path)
    return result


def _find_cases(
    images: Path, channels: int, splits: Path_ | None, split: str | None
) -> tuple[Sequence[Case], Callable[[Case], Image]]:
    """Return the cases to predict, and how one is loaded: as its dataset says, or simply read."""
    cases: Sequence[Case]
    load: Callable[[Case], Image]
    if _is_dataset(images):
        dataset = open_dataset(images)
        cases, load, splits = dataset.cases, dataset.load_image, splits or dataset.splits_file
    else:
        cases, load = open_images(images, channels=channels), lambda case: read_image(case.images)
    if split is None:
        return cases, load
    if splits is None:
        raise InputError(f"--split {split}: name the file with the splits too (--splits FILE)")
    wanted = getattr(read_splits(splits, [case.name for case in cases]), split)
    if not wanted:
        raise InputError(f"{splits}: has no cases in {split!r}")
    return [case for case in cases if case.name in wanted], load


def _is_dataset(path: Path) -> bool:
    return path.suffix == ".csv" or (path / "dataset.json").is_file() or (path / "images").is_dir()


def _image_from_array(pixels: NDArray[Any], spatial_dims: int, spacing: Sequence[float] | None) -> Image:
    if pixels.ndim == spatial_dims:
        pixels = pixels[None]
    if pixels.ndim != spatial_dims + 1:
        raise InputError(
            f"the array has shape {pixels.shape}; give (channels, *size) or (*size) with {spatial_dims} spatial axes"
        )
    affine = np.diag([*(spacing or (1.0,) * spatial_dims), 1.0])
    return Image(pixels.astype(np.float32), Geometry(affine))
