"""The memory that predicting one large volume takes, from its .nii.gz to the mask's, in a process of its own.

``python benchmarks/inference_memory.py --json OUT`` makes a 512 x 512 x 600 volume of 16-bit numbers and segments it
into 25 classes with a small network. Peak resident memory is told beside that of the loaded model, and the estimate.
"""

import argparse
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from common import asked, machine, make_parser, memory_megabytes, report, reset_peak

from deconvseg.data import Geometry, Image, open_images, read_image
from deconvseg.inference import Predictor, predict_cases
from deconvseg.models import create_model
from deconvseg.planning import Plan
from deconvseg.progress import Silent
from deconvseg.system import keep_freed_memory


def make_volume(path: Path, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """Write something like a CT: a bright body with structures in it, noise everywhere."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    body = np.where(x**2 + (1.3 * y) ** 2 < 0.8, 1000, 0)
    pixels = np.empty(shape, np.int16, order="F")
    for z in range(shape[2]):
        structures = 200 * np.sin(9 * x + z / 40) * np.cos(11 * y)
        pixels[..., z] = body + structures * (body > 0) + rng.integers(-20, 20, shape[:2]) - 1000
    nib.save(nib.Nifti1Image(pixels, np.diag([*spacing, 1.0])), path)


def make_plan(options: argparse.Namespace) -> Plan:
    config = {"in_channels": 1, "out_channels": options.classes, "spatial_dims": 3, "widths": options.widths}
    return Plan.model_validate(
        {
            "dataset": "synthetic",
            "spatial_dims": 3,
            "spacing": (options.target,) * 3,
            "patch_size": (options.window,) * 3,
            "batch_size": 1,
            "channels": [{"name": "CT", "normalisation": "ct", "clip": (-900.0, 900.0), "mean": 0.0, "std": 300.0}],
            "labels": {
                "values": tuple(range(options.classes)),
                "names": tuple(f"class {number}" for number in range(options.classes)),
            },
            "model": {"name": "unet", "config": config},
            "recipe": {},
        }
    )


class _Estimates(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def say(self, text: str) -> None:
        self.told.append(text)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    volume = folder / "volume.nii.gz"
    make_volume(volume, tuple(options.shape), (options.spacing,) * 3)
    torch.manual_seed(0)
    plan = make_plan(options)
    predictor = Predictor([(create_model("unet", **plan.model.config), plan)], memory=options.memory)
    # The first estimate imports PyTorch's compiler, which belongs to what is loaded.
    predictor.estimate(predictor.prepare(Image(np.ones((1, 8, 8, 8), np.float32), Geometry(np.eye(4)))))
    gc.collect()
    reset_peak()
    console = _Estimates()
    loaded, start = memory_megabytes("VmRSS"), time.perf_counter()
    done = predict_cases(
        predictor,
        open_images(volume, channels=1)[0],
        folder / "masks",
        load=lambda case: read_image(case.images),
        raise_problems=True,
        console=console,
    )
    return {
        "estimate": console.told,
        "loaded_megabytes": loaded,
        "peak_over_loaded_megabytes": memory_megabytes("VmHWM") - loaded,
        "whole_volume_of_logits_megabytes": 4e-6 * options.classes * float(np.prod(options.shape)),
        "seconds": time.perf_counter() - start,
        "labels_found": np.unique(np.asarray(nib.load(done.written[0]).dataobj)).tolist(),
    }


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    keep = asked(options)
    if options.keep_freed_memory:
        keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        report({**keep, "machine": machine(torch.device("cpu")), **measure(options, Path(folder))}, options.json)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=None)
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 600])
    parser.add_argument("--spacing", type=float, default=0.8, help="of the volume, in mm")
    parser.add_argument("--target", type=float, default=1.5, help="spacing of the network's grid, in mm")
    parser.add_argument("--classes", type=int, default=25)
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--memory", type=int, help="bytes that the case may take")
    parser.add_argument("--keep-freed-memory", action="store_true", help="as the command line's training does")
    return parser.parse_args()


if __name__ == "__main__":
    main()
