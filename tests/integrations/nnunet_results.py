"""Trained models of nnU-Net v2 in miniature: its plans, its networks with random weights, its own prediction."""

import contextlib
import io
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from nn.peers import look_for_peers
from nnunet_peer import layer_arguments

LABELS: Mapping[str, Mapping[str, Any]] = {
    "labels": {"labels": {"background": 0, "anterior": 1, "posterior": 2}},
    "regions": {"labels": {"background": 0, "hippocampus": [1, 2], "anterior": 1}, "regions_class_order": [2, 1]},
    "ignore": {"labels": {"background": 0, "anterior": 1, "posterior": 2, "ignore": 3}},
    "both": {
        "labels": {"background": 0, "hippocampus": [1, 2], "anterior": 1, "ignore": 3},
        "regions_class_order": [2, 1],
    },
}
_RESAMPLING = {"order_z": 0, "force_separate_z": None}


@contextlib.contextmanager
def peers() -> Iterator[None]:
    """Find nnU-Net and what it imports later, without the lines that it prints when it is imported."""
    sys.path.append(str(Path(sys.prefix) / "peers"))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.path.pop()


def import_predictor() -> Any:
    """Import nnU-Net's predictor, or skip the test."""
    look_for_peers()
    with peers():
        return pytest.importorskip("nnunetv2.inference.predict_from_raw_data", reason="nnunetv2 is not installed")


@dataclass
class Model:
    """A model to make: what its plans say."""

    kind: str = "labels"
    channels: Sequence[str] = ("MRI",)
    schemes: Sequence[str] = ("ZScoreNormalization",)
    masked: Sequence[bool] = (False,)
    spacing: Sequence[float] = (1.0, 1.0, 1.0)
    patch: Sequence[int] = (16, 24, 16)
    transposed: Sequence[int] = (0, 1, 2)
    median: Sequence[float] = (1.0, 1.0, 1.0)
    mirrored: Sequence[int] | None = (1,)
    folds: Sequence[str] = ("0",)
    reader: str = "SimpleITKIO"
    ending: str = ".nii.gz"
    function: str = "resample_data_or_seg_to_shape"
    network: str = "PlainConvUNet"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def plans(self) -> dict[str, Any]:
        """Return nnU-Net's plans with one configuration."""
        dims, stages = len(self.patch), 3
        per_stage = "n_conv_per_stage" if self.network == "PlainConvUNet" else "n_blocks_per_stage"
        flat = [1 if side < 2 else 2 for side in self.patch]
        spline = self.function == "resample_data_or_seg_to_shape"
        back = {**_RESAMPLING, "is_seg": False, "order": 1} if spline else {"is_seg": False, "force_separate_z": None}
        configuration = {
            "data_identifier": "plans",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": list(self.patch),
            "spacing": list(self.spacing),
            "normalization_schemes": list(self.schemes),
            "use_mask_for_norm": list(self.masked),
            "resampling_fn_data": self.function,
            "resampling_fn_seg": self.function,
            "resampling_fn_data_kwargs": {**back, "order": 3} if spline else back,
            "resampling_fn_seg_kwargs": {**back, "is_seg": True},
            "resampling_fn_probabilities": self.function,
            "resampling_fn_probabilities_kwargs": back,
            "architecture": {
                "network_class_name": f"dynamic_network_architectures.architectures.unet.{self.network}",
                "arch_kwargs": {
                    "n_stages": stages,
                    "features_per_stage": [4, 6, 8],
                    "kernel_sizes": [[3] * dims] * stages,
                    "strides": [[1] * dims, flat, flat],
                    per_stage: [1] * stages,
                    "n_conv_per_stage_decoder": [1] * (stages - 1),
                    **layer_arguments(dims),
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
            **self.changes,
        }
        statistics = {"mean": 500.0, "std": 120.0, "percentile_00_5": 250.0, "percentile_99_5": 900.0}
        return {
            "dataset_name": "Dataset007_Made",
            "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": list(self.median),
            "original_median_shape_after_transp": [30, 30, 30],
            "image_reader_writer": self.reader,
            "transpose_forward": list(self.transposed),
            "transpose_backward": [int(axis) for axis in np.argsort(self.transposed)],
            "configurations": {"chosen": configuration},
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {str(n): statistics for n in range(len(self.channels))},
        }

    def write(self, folder: Path) -> Path:
        """Write the folder of results, with random weights that nnU-Net's own code draws."""
        with peers():
            from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

        folder.mkdir(parents=True)
        plans = self.plans()
        channels = {str(number): name for number, name in enumerate(self.channels)}
        dataset = {"channel_names": channels, "numTraining": 4, "file_ending": self.ending, **LABELS[self.kind]}
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        architecture = plans["configurations"]["chosen"]["architecture"]
        outputs = 2 if "regions_class_order" in dataset else 3
        for number, fold in enumerate(self.folds):
            torch.manual_seed(number)
            network = get_network_from_plans(
                architecture["network_class_name"],
                architecture["arch_kwargs"],
                architecture["_kw_requires_import"],
                len(self.channels),
                outputs,
                deep_supervision=True,
            )
            place = folder / f"fold_{fold}"
            place.mkdir()
            torch.save(self.checkpoint(network, fold), place / "checkpoint_final.pth")
        return folder

    def checkpoint(self, network: torch.nn.Module, fold: str) -> dict[str, Any]:
        """Return what nnU-Net's trainer stores, with NumPy's numbers where it has them."""
        return {
            "network_weights": network.state_dict(),
            "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
            "grad_scaler_state": None,
            "logging": {
                "train_losses": [np.float32(0.5)],
                "val_losses": [np.float64(0.6)],
                "mean_fg_dice": [np.float64(0.1)],
                "lrs": [0.01],
            },
            "_best_ema": np.float64(0.1),
            "current_epoch": 1,
            "init_args": {"configuration": "chosen", "fold": fold, "device": torch.device("cpu")},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": None if self.mirrored is None else tuple(self.mirrored),
        }


def write_scan(
    file: Path, shape: Sequence[int], spacing: Sequence[float], axes: str = "RAS", *, black: bool = False, seed: int = 0
) -> None:
    """Write a volume of smooth noise with two balls, in one of the 48 orientations; ``black`` around a body."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    distance = sum(axis**2 for axis in grid)
    pixels = 400 + 80 * gaussian_filter(rng.normal(size=shape), 1) + 200 * (distance < 0.5) + 200 * (distance < 0.15)
    if black:
        pixels = pixels * (distance < 0.9) * (distance > 0.02)
    image = nib.Nifti1Image(pixels.astype(np.float32), np.diag([*spacing, 1.0]))
    turn = nib.orientations.ornt_transform(*map(nib.orientations.axcodes2ornt, ("RAS", axes)))
    nib.save(image.as_reoriented(turn), file)


def write_picture(file: Path, shape: Sequence[int], channels: int, seed: int) -> None:
    """Write a grey or colour picture of smooth noise."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(*shape, channels))
    pixels = np.clip(128 + 150 * gaussian_filter(noise, (2, 2, 0)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels.squeeze()).save(file)


def predict_with_nnunet(predictor: Any, results: Path, images: Path, output: Path, folds: Sequence[str]) -> None:
    """Write nnU-Net's masks, as ``nnUNetv2_predict`` on a CPU does without further processes."""
    output.mkdir()
    # For a folder nnU-Net forks processes that sort its files, and forks of a process with threads may never end.
    ending = json.loads((results / "dataset.json").read_text())["file_ending"]
    files = sorted(str(path) for path in images.iterdir() if path.name.endswith(ending))
    length = len(f"_0000{ending}")
    cases = [list(channels) for _, channels in itertools.groupby(files, lambda file: file[:-length])]
    with peers():
        theirs = predictor.nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        theirs.initialize_from_trained_model_folder(str(results), tuple(folds))
        theirs.predict_from_files_sequential(cases, str(output))


def dice_of(ours: np.ndarray, theirs: np.ndarray, least: int) -> list[float]:
    """Return the Dice of each class with so many voxels in nnU-Net's mask."""
    values, counts = np.unique(theirs, return_counts=True)
    return [
        2 * np.count_nonzero((ours == value) & (theirs == value)) / (np.count_nonzero(ours == value) + count)
        for value, count in zip(values, counts, strict=True)
        if count >= least
    ]
