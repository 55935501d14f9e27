"""Whole files in, whole masks out: beside MONAI's sliding windows and nnU-Net v2's predictor, with the same network.

``python benchmarks/inference.py DATA --json OUT`` gives all three the same PlainConvUNet of
dynamic-network-architectures with the same weights, windows that overlap by half, and no mirroring, and lets them
segment a case of ``DATA/ms_lesion_mni`` and of ``DATA/isles22_case0009``. Masks are compared first. All three crop to
the nonzero voxels, as nnU-Net does. Needs nnunetv2.
"""

import argparse
import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from common import asked, machine, make_parser, ratios, report, spread, time_in_turn
from torch import nn

from deconvseg.data import Case, read_image
from deconvseg.inference import Predictor, predict_cases
from deconvseg.planning import Plan

CASES: Mapping[str, Sequence[str]] = {
    "ms_lesion_mni": [f"patient07_{kind}.nii.gz" for kind in ("FLAIR", "T1", "T1POST", "T2")],
    "isles22_case0009": [f"sub-strokecase0009_ses-0001_{kind}.nii.gz" for kind in ("dwi", "adc")],
}
# Of the voxels of the box that is not zero. nnU-Net adds up logits in half precision, and its weights become smaller
# than a thousandth towards a window's corners.
LEAST_AGREEMENT = {"monai": 0.9999, "nnunet": 0.9}
Step = Callable[[], Path]


def make_network(channels: int, options: argparse.Namespace) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(0)
    stages = len(options.widths)
    network = PlainConvUNet(
        channels,
        stages,
        options.widths,
        nn.Conv3d,
        3,
        [1] + [2] * (stages - 1),
        [2] * stages,
        options.classes,
        [2] * (stages - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    # Untrained logits are nearly alike; these are as far apart as a trained network's.
    nn.init.normal_(network.decoder.seg_layers[-1].weight, std=1.0)
    return network.eval()


def gather(source: Sequence[Path], folder: Path) -> list[Path]:
    """Copy a case's channels with their axes in the order that all three take for granted."""
    files = []
    for number, path in enumerate(source):
        files.append(folder / f"case_{number:04d}.nii.gz")
        image = nib.as_closest_canonical(nib.load(path))
        nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine), files[-1])
    return files


def describe(files: Sequence[Path], multiple: int) -> dict[str, Any]:
    """Spacing, window and intensities: two windows along each axis, which all three put at the same places."""
    pixels = np.stack([nib.load(file).get_fdata(dtype=np.float32) for file in files])
    inside = np.nonzero(pixels.any(axis=0))
    start = [int(axis.min()) for axis in inside]
    box = [int(axis.max()) + 1 - first for axis, first in zip(inside, start, strict=True)]
    foreground = pixels[:, inside[0], inside[1], inside[2]].astype(np.float64)
    return {
        "spacing": [float(step) for step in nib.load(files[0]).header.get_zooms()[:3]],
        "window": [max(multiple, -(-2 * length // (3 * multiple)) * multiple) for length in box],
        "start": start,
        "box": box,
        "means": foreground.mean(axis=1).tolist(),
        "stds": foreground.std(axis=1).tolist(),
    }


def ours(network: nn.Module, files: Sequence[Path], facts: dict[str, Any], folder: Path, classes: int) -> Step:
    channels = [
        {"name": f"c{number}", "normalisation": "ct", "mean": mean, "std": std}
        for number, (mean, std) in enumerate(zip(facts["means"], facts["stds"], strict=True))
    ]
    plan = Plan.model_validate(
        {
            "dataset": "benchmark",
            "spatial_dims": 3,
            "spacing": tuple(facts["spacing"]),
            "patch_size": tuple(facts["window"]),
            "batch_size": 1,
            "channels": channels,
            "labels": {"values": tuple(range(classes)), "names": tuple(map(str, range(classes)))},
            "model": {"name": "nnunet", "config": {}},
            "recipe": {"overlap": 0.5},
        }
    )
    predictor = Predictor([(network, plan)])
    cases = [Case("case", tuple(files), None)]

    def step() -> Path:
        done = predict_cases(predictor, cases, folder, load=lambda case: read_image(case.images), raise_problems=True)
        return done.written[0]

    return step


def monai(network: nn.Module, files: Sequence[Path], facts: dict[str, Any], folder: Path) -> Step:
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import Compose, CropForegroundd, EnsureChannelFirstd, LoadImaged, NormalizeIntensityd

    prepare = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            CropForegroundd("image", "image", select_fn=lambda image: image != 0, allow_smaller=True),
            NormalizeIntensityd("image", subtrahend=facts["means"], divisor=facts["stds"], channel_wise=True),
        ]
    )
    infer = SlidingWindowInferer(facts["window"], overlap=0.5, mode="gaussian", progress=False)

    @torch.inference_mode()
    def step() -> Path:
        case = prepare({"image": [str(file) for file in files]})
        labels = infer(case["image"].as_tensor()[None], network)[0].argmax(0)
        header = nib.load(files[0])
        mask = np.zeros(header.shape, np.uint8)
        start, end = case["foreground_start_coord"], case["foreground_end_coord"]
        mask[tuple(slice(a, b) for a, b in zip(start, end, strict=True))] = labels.numpy()
        nib.save(nib.Nifti1Image(mask, header.affine), folder / "case.nii.gz")
        return folder / "case.nii.gz"

    return step


def nnunet(network: nn.Module, files: Sequence[Path], facts: dict[str, Any], folder: Path, classes: int) -> Step:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(variable, str(folder))
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    # nnU-Net reads (z, y, x); transposed, its network sees (x, y, z), as the others do.
    properties = {
        str(number): {"mean": mean, "std": std, "percentile_00_5": -1e9, "percentile_99_5": 1e9}
        for number, (mean, std) in enumerate(zip(facts["means"], facts["stds"], strict=True))
    }
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "benchmark",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": facts["window"],
        "spacing": facts["spacing"],
        "normalization_schemes": ["CTNormalization"] * len(files),
        "use_mask_for_norm": [False] * len(files),
        **{f"resampling_fn_{kind}": "resample_data_or_seg_to_shape" for kind in ("data", "seg", "probabilities")},
        **{f"resampling_fn_{kind}_kwargs": resampling for kind in ("data", "seg", "probabilities")},
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    plans = PlansManager(
        {
            "dataset_name": "Dataset000_Benchmark",
            "plans_name": "benchmark",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [2, 1, 0],
            "transpose_backward": [2, 1, 0],
            "experiment_planner_used": "ExperimentPlanner",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": properties,
            "configurations": {"3d_fullres": configuration},
        }
    )
    dataset = {
        "channel_names": {str(number): f"c{number}" for number in range(len(files))},
        "labels": {"background": 0, **{f"c{number}": number for number in range(1, classes)}},
        "file_ending": ".nii.gz",
    }
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(0.5, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    weights = [network.state_dict()]
    predictor.manual_initialization(
        network, plans, plans.get_configuration("3d_fullres"), weights, dataset, "benchmark", None
    )

    def step() -> Path:
        # Without its processes, which take longer to start than a case of this size takes.
        with contextlib.redirect_stdout(io.StringIO()):
            predictor.predict_from_files_sequential([[str(file) for file in files]], [str(folder / "case")])
        return folder / "case.nii.gz"

    return step


def agreement(found: Path, expected: Path, facts: dict[str, Any]) -> dict[str, float]:
    """The fraction of voxels in the box that are the same, and what it would be were one mask moved by a voxel."""
    inside = tuple(slice(first, first + length) for first, length in zip(facts["start"], facts["box"], strict=True))
    pair = (nib.load(path) for path in (found, expected))
    a, b = (np.asarray(mask.dataobj)[inside] for mask in pair)
    moved = max(float((np.roll(a, step, axis) == b).mean()) for axis in range(a.ndim) for step in (-1, 1))
    return {"same": float((a == b).mean()), "moved": moved}


def compare(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    files = gather([options.data / name / file for file in CASES[name]], folder)
    facts = describe(files, 2 ** (len(options.widths) - 1))
    folders = {side: folder / side for side in ("ours", "monai", "nnunet")}
    for place in folders.values():
        place.mkdir()
    networks = {side: make_network(len(files), options) for side in folders}
    steps = {
        "ours": ours(networks["ours"], files, facts, folders["ours"], options.classes),
        "monai": monai(networks["monai"], files, facts, folders["monai"]),
        "nnunet": nnunet(networks["nnunet"], files, facts, folders["nnunet"], options.classes),
    }
    masks = {side: step() for side, step in steps.items()}
    agreements = {side: agreement(masks["ours"], masks[side], facts) for side in LEAST_AGREEMENT}
    for side, least in LEAST_AGREEMENT.items():
        same, moved = agreements[side]["same"], agreements[side]["moved"]
        if same < least or same <= moved:
            raise SystemExit(
                f"{name}: only {same:.2%} of the voxels in the box are those of {side}, {moved:.2%} if moved: "
                "nothing is timed"
            )
    seconds = time_in_turn(steps, options.rounds, torch.device("cpu"))
    return {
        **{key: facts[key] for key in ("box", "window", "spacing")},
        "classes_found": np.unique(np.asarray(nib.load(masks["ours"]).dataobj)).tolist(),
        "same_voxels": agreements,
        "seconds": {side: spread(values) for side, values in seconds.items()},
        "ratios": ratios(seconds, "ours"),
    }


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    record = asked(options, "data")
    record["machine"] = machine(torch.device("cpu"))
    record["cases"] = {}
    for name in options.cases:
        folder = Path(tempfile.mkdtemp())
        try:
            record["cases"][name] = compare(name, options, folder)
        finally:
            shutil.rmtree(folder)
    report(record, options.json)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("data", type=Path, help="folder that holds ms_lesion_mni and isles22_case0009")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--classes", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
