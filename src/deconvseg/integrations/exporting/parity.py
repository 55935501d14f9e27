"""The comparison of an exported program with the network, on a case of the run or on noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deconvseg.data import Image, is_dataset, match_channels
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import Prediction, Predictor, choose_cases
from deconvseg.integrations.exporting.contract import Contract, Parity
from deconvseg.integrations.exporting.programs import Compute, Floats
from deconvseg.integrations.onnx import run_onnx
from deconvseg.progress import Console
from deconvseg.runs import Run

# The windows of a case whose logits are compared.
_MOST_WINDOWS = 4
# A smaller Dice between the masks of an int8 model and those of the network is an error of the quantisation.
_LEAST_DICE = 0.9
# Training cases for the ranges of an int8 model.
_MOST_IMAGES = 24
# A larger difference of logits, relative to the largest, is an error of the export.
_LARGEST = 0.02


@dataclass(frozen=True)
class Sample:
    """An image to compare masks on."""

    name: str
    image: Image


def find_sample(
    runs: Sequence[Run], predictor: Predictor, images: Path | None, case: str | None, console: Console
) -> Sample | None:
    """Return the case to compare masks on, if there is one: that which is asked for, or the first validation case.

    Without ``images`` this is looked for in a folder with the name of the run's dataset, here or beside the run.
    """
    asked = images is not None
    if images is None:
        images = own_dataset(runs[0])
    if images is None:
        if case is not None:
            raise InputError("`case` names one of `images`: give a dataset or a folder of images too")
        return None
    told = Prediction()
    cases, problems, load = choose_cases(
        images, predictor.plan, runs, names=None if case is None else [case], told=told
    )
    held_out = set(runs[0].splits["val"]) or {each.name for each in cases}
    chosen = next((each for each in cases if each.name in held_out), next(iter(cases), None))
    if chosen is None:
        found = f"{problems[0].file} {problems[0].message}" if problems else "no images"
        raise InputError(f"{images}: {found}; give an image or a dataset of the run's kind")
    if not asked:
        console.say(f"comparing on {chosen.name} of {images}")
    return Sample(chosen.name, load(chosen))


def compare(
    predictor: Predictor, network: nn.Module, contract: Contract, compute: Compute, sample: Sample | None
) -> Parity:
    """Compare the logits of a program with those of its network, and the mask by the contract with the prediction.

    Raises :class:`~deconvseg.errors.DeconvsegError` for logits that differ by more than rounding, and for a program in
    int8 whose mask is another one.
    """
    compared: list[tuple[float, float]] = []

    def both(windows: Floats) -> Floats:
        logits = compute(windows)
        if len(compared) < _MOST_WINDOWS:
            with torch.inference_mode():
                expected = network(torch.from_numpy(windows)).numpy()
            compared.append((float(np.abs(logits - expected).max()), float(np.abs(expected).max())))
        return logits

    name, dice, differing, voxels = None, None, None, None
    if sample is not None:
        name = sample.name
        mask = predictor.segment(sample.image, sample.name, note=lambda text: None).pixels
        channels = match_channels(sample.image, [channel.name for channel in predictor.plan.channels], sample.name)
        tree = contract.model_dump(mode="json")
        found = run_onnx.segment(channels.pixels, sample.image.geometry.affine, tree, both)
        dice, differing, voxels = _mean_dice(found, mask, contract), int((found != mask).sum()), mask.size
    if not compared:  # without a case, or with a case of zeros alone
        generator = np.random.default_rng(0)
        both(generator.normal(size=(1, len(contract.image.channels), *contract.windows.size)).astype(np.float32))
    relative = max(difference for difference, _ in compared) / max(max(size for _, size in compared), 1e-12)
    if not relative <= (math.inf if contract.model.precision == "int8" else _LARGEST):
        raise DeconvsegError(
            f"the exported model differs from its network by {relative:.1g} of the largest logit; nothing is written: "
            "try another format or form of sampling (`sampling`)"
        )
    if contract.model.precision == "int8" and dice is not None and dice < _LEAST_DICE:
        raise DeconvsegError(
            f"the model in 8 bits makes another mask of {name}: the Dice with that of the network is {dice:.2f}; "
            "nothing is written: export in float32 (without `int8`)"
        )
    return Parity(case=name, windows=len(compared), logits=relative, dice=dice, differing=differing, voxels=voxels)


def _mean_dice(found: NDArray[np.integer], mask: NDArray[np.integer], contract: Contract) -> float:
    scores = []
    for structure in contract.structures:
        ours, theirs = np.isin(found, structure.values), np.isin(mask, structure.values)
        total = int(ours.sum()) + int(theirs.sum())
        scores.append(2 * int((ours & theirs).sum()) / total if total else 1.0)
    return math.fsum(scores) / len(scores)


def training_images(run: Run, predictor: Predictor, images: Path | None) -> dict[str, Image]:
    """Return some training cases of a run, from ``images`` or its own dataset, for the ranges of an int8 model."""
    place = own_dataset(run) if images is None else images
    names = run.splits["train"]
    if place is None or not names:
        raise InputError("`int8` needs the cases that the run was trained on: give its dataset (`images`)")
    step = max(1, len(names) // _MOST_IMAGES)
    chosen, _, load = choose_cases(place, predictor.plan, [run], names=names[::step][:_MOST_IMAGES], told=Prediction())
    return {case.name: load(case) for case in chosen}


def own_dataset(run: Run) -> Path | None:
    """Return the folder with the name of a run's dataset, here or beside the run, if it is a dataset."""
    name = run.config.get("dataset")
    if not isinstance(name, str) or not name:
        return None
    places = (
        Path(name),
        run.path.absolute().parent / Path(name).name,
        run.path.absolute().parents[1] / Path(name).name,
    )
    return next((place for place in places if place.is_dir() and is_dataset(place)), None)
