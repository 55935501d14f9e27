"""The engines of prediction on a trained run: masks, time and memory of every engine and precision.

``python benchmarks/engines.py RUN DATA --dice --json OUT`` predicts test cases of the run's dataset DATA by PyTorch
with our kernels, OpenVINO and ONNX Runtime, and prints the mean Dice against the labels and against the masks in
float32. ``--time`` takes a few of the cases in turn, each side in a process of its own, and gives the seconds of a case
from its voxels in memory to its mask, and the peak memory. int8 is OpenVINO's: the model of ``--int8 EXPORT``, a folder
of ``deconvseg export --int8``; without it this side is left out.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import exported
import numpy as np
import torch
from common import machine, make_parser, ratios, report, spread
from numpy.typing import NDArray
from workers import Worker, time_in_turn

from deconvseg.data import Case, Image, open_dataset, read_image, read_label_map
from deconvseg.inference import Predictor, open_export
from deconvseg.runs import Precision, Run

FULL = "torch 32"
SIDES = (FULL, "torch bf16", "openvino 32", "openvino bf16", "openvino int8", "onnxruntime 32")


def list_sides(options: argparse.Namespace) -> list[str]:
    """The requested sides whose packages are installed; int8 needs a model."""
    sides = [side for side in SIDES if not exported.missing(side.split()[0])]
    sides = [side for side in sides if options.int8 is not None or not side.endswith("int8")]
    return [side for side in sides if options.sides is None or side in options.sides or side == FULL]


def make_predictor(side: str, options: argparse.Namespace) -> Predictor:
    engine, precision = side.split()
    run = Run.open(options.run)
    if precision != "int8":
        return Predictor([run], engine=engine, precision="bf16" if precision == "bf16" else "32")
    # What lies between the products in 8 bits is in the default precision of the processor.
    between: Precision = "bf16" if exported.default_precision() == "bfloat16" else "32"
    found = open_export(options.int8, precision=between)
    return Predictor([(found.engine, found.plan)])


def cases_of(data: Path, names: Sequence[str]) -> list[Case]:
    cases = {case.name: case for case in open_dataset(data).cases}
    return [cases[name] for name in names]


def test_cases(options: argparse.Namespace) -> list[Case]:
    splits = json.loads((options.data / "splits.json").read_text())
    names = splits["test"]
    step = max(1, len(names) // options.cases)
    return cases_of(options.data, names[::step][: options.cases])


def mean_dice(found: NDArray[Any], expected: NDArray[Any], values: Sequence[int]) -> float:
    """The mean over labels of Dice; a label in neither mask counts 1."""
    scores = []
    for value in values:
        a, b = found == value, expected == value
        total = int(a.sum()) + int(b.sum())
        scores.append(2 * int((a & b).sum()) / total if total else 1.0)
    return float(np.mean(scores))


def score(options: argparse.Namespace, sides: Sequence[str]) -> dict[str, Any]:
    """The Dice of each side with the labels, and with the masks of PyTorch in float32."""
    cases = test_cases(options)
    full: list[NDArray[Any]] = []
    found: dict[str, Any] = {}
    for side in sides:
        predictor = make_predictor(side, options)
        encoding = predictor.plan.labels
        values = [value for value in encoding.values if value != 0]
        masks = [predictor.segment(read_image(case.images), note=lambda text: None).pixels for case in cases]
        full = full or masks
        truth = []
        for case in cases:
            assert case.label is not None, "the test cases have labels"
            truth.append(read_label_map(case.label).pixels)
        by_truth = [mean_dice(mask, label, values) for mask, label in zip(masks, truth, strict=True)]
        by_full = [mean_dice(mask, own, values) for mask, own in zip(masks, full, strict=True)]
        found[side] = {
            "dice": float(np.mean(by_truth)),
            "dice_to_float32": float(np.mean(by_full)),
            "least_dice_to_float32": min(by_full),
            "differing_voxels": int(sum((mask != own).sum() for mask, own in zip(masks, full, strict=True))),
        }
        print(side, found[side], flush=True)
    return found


def make_step(side: str, options: argparse.Namespace, predictor: Predictor | None = None) -> Callable[[], object]:
    """One pass over the timed cases, each from voxels in memory to a mask."""
    torch.set_num_threads(options.threads)
    predictor = make_predictor(side, options) if predictor is None else predictor
    images: list[Image] = [read_image(case.images) for case in test_cases(options)[: options.timed]]
    # Engines compile their program for the windows here.
    predictor.estimate(predictor.prepare(images[0]))
    made = predictor

    def step() -> object:
        return [made.segment(image, note=lambda text: None) for image in images]

    return step


def measure(options: argparse.Namespace, sides: Sequence[str]) -> dict[str, Any]:
    workers = {side: Worker(make_step, side, options, device=torch.device("cpu")) for side in sides}
    try:
        starts = {side: worker.start() for side, worker in workers.items()}
        peaks = {side: worker.first()[1] for side, worker in workers.items()}
        seconds = time_in_turn(workers, options.rounds)
    finally:
        for worker in workers.values():
            worker.close()
    seconds = {side: [value / options.timed for value in values] for side, values in seconds.items()}
    return {
        "sides": {
            side: {
                "seconds_of_a_case": spread(values),
                "seconds_to_start": starts[side],
                "peak_megabytes": peaks[side],
            }
            for side, values in seconds.items()
        },
        "ratios": ratios(seconds, FULL),
    }


def tabulate(sides: dict[str, Any]) -> str:
    """The rows of the table in the documentation."""
    lines = []
    for name, side in sides.items():
        times = side["seconds_of_a_case"]
        lines.append(
            f"| {name} | {times['median']:.3f} ({times['min']:.3f} to {times['max']:.3f}) "
            f"| {side['peak_megabytes']:.0f} MB | {side['seconds_to_start']:.1f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    sides = list_sides(options)
    plan = Run.open(options.run).plan
    record: dict[str, Any] = {
        "run": options.run.name,
        "model": plan.model.name,
        "config": plan.model.config,
        "patch_size": plan.patch_size,
        "cases": options.cases,
        "machine": {**machine(torch.device("cpu")), **exported.versions()},
    }
    if options.dice:
        record["dice"] = score(options, sides)
    if options.time:
        record["time"] = measure(options, sides)
    report(record, options.json)
    if options.time:
        print(tabulate(record["time"]["sides"]))


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--dice", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--int8", type=Path, help="folder of an export of the run in 8 bits")
    parser.add_argument("--sides", nargs="+", choices=SIDES)
    parser.add_argument("--cases", type=int, default=41, help="test cases whose masks are compared")
    parser.add_argument("--timed", type=int, default=4, help="of these, how many are timed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
