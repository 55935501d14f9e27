"""Runs nnU-Net v2's own commands on a few hippocampus cases: its folders, its four kinds of labels, short trainings."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

PEERS = Path(sys.prefix) / "peers"

# nnU-Net's trainer with few iterations, found by nnU-Net itself through nnUNet_extTrainer; all else is its own.
_SHORT_TRAINER = """
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class ShortTrainer(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = {epochs}, {iterations}, 1
"""

# The commands are entry points of the package. One process calls several, and nnU-Net's pools are of threads in it,
# because each new process would import everything again, which takes seconds.
_CALLS = """
import json, multiprocessing, os, runpy, sys
from importlib.metadata import distribution
from multiprocessing.pool import ThreadPool
import torch

# Before nnU-Net is imported, which would fork.
multiprocessing.Pool = ThreadPool
try:
    import torchvision
except RuntimeError:
    # Its compiled part is for another build of torch (nn/peers.py); nnU-Net uses nothing of it.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


class Threads:
    Pool = ThreadPool


if __name__ == "__main__":
    known = {entry.name: entry for entry in distribution("nnunetv2").entry_points}
    get_context = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: Threads if method == "spawn" else get_context(method)
    # nnU-Net takes all cores.
    torch.set_num_threads = lambda number: None
    for command in json.loads(sys.argv[1]):
        sys.argv = command
        # Planning wants a positive number; a training without processes for augmentation has 0.
        os.environ["nnUNet_n_proc_DA"] = "0" if command[0] == "nnUNetv2_train" else "1"
        print("$", *command, flush=True)
        if command[0] == "deconvseg":
            from deconvseg.cli import main

            try:
                main()
            except SystemExit as end:
                assert end.code == 0, "deconvseg failed"
        elif command[0] == "python":
            runpy.run_path(command[1])
        else:
            known[command[0]].load()()
"""

LABELS: Mapping[str, Mapping[str, Any]] = {
    "labels": {"labels": {"background": 0, "anterior": 1, "posterior": 2}},
    "regions": {
        "labels": {"background": 0, "hippocampus": [1, 2], "anterior": 1},
        "regions_class_order": [2, 1],
    },
    "ignore": {"labels": {"background": 0, "anterior": 1, "posterior": 2, "ignore": 3}},
    "both": {
        "labels": {"background": 0, "hippocampus": [1, 2], "anterior": 1, "ignore": 3},
        "regions_class_order": [2, 1],
    },
}


def layer_arguments(dims: int) -> dict[str, Any]:
    """Return the arguments of nnU-Net's networks that name layers, as its planner writes them."""
    return {
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


@dataclass(frozen=True)
class NNUNet:
    """nnU-Net's three folders in one, and calls of its commands on them."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        return self.root / "nnUNet_preprocessed"

    @property
    def results(self) -> Path:
        return self.root / "nnUNet_results"

    @property
    def trainers(self) -> Path:
        """The folder that nnU-Net searches for trainers: it holds ``ShortTrainer``."""
        return self.root / "trainers"

    def environment(self) -> dict[str, str]:
        """Return the variables with which nnU-Net's commands find their folders and the peers."""
        folders = {path.name: str(path) for path in (self.raw, self.preprocessed, self.results)}
        small = {"nnUNet_def_n_proc": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": "1"}
        return folders | small | {"nnUNet_extTrainer": str(self.trainers), "PYTHONPATH": str(PEERS)}

    def run(self, *commands: str | Sequence[str], fails: bool = False, **variables: str) -> str:
        """Run nnU-Net's commands, and ours, one after the other in one process, and return what they printed."""
        listed = [command.split() if isinstance(command, str) else list(map(str, command)) for command in commands]
        environment = os.environ | self.environment() | variables
        # A file and not -c, because the commands' own processes import the main module again.
        script = self.root / "call_commands.py"
        script.write_text(_CALLS)
        done = subprocess.run(
            [sys.executable, str(script), json.dumps(listed)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root,
            check=False,
            timeout=900,
        )
        assert (done.returncode != 0) is fails, done.stdout[-6000:]
        return done.stdout

    def shorten(self, epochs: int = 1, iterations: int = 2) -> None:
        """Write the trainer ``ShortTrainer``: nnU-Net's own with few iterations (-tr ShortTrainer)."""
        self.trainers.mkdir(exist_ok=True)
        (self.trainers / "short.py").write_text(_SHORT_TRAINER.format(epochs=epochs, iterations=iterations))

    def shrink(self, dataset: str, plans: str = "nnUNetPlans", features: int = 4, batch: int = 2) -> None:
        """Make the batches and nnU-Net's own networks of its plans smaller, by the entries that people edit."""
        file = self.preprocessed / dataset / f"{plans}.json"
        content = json.loads(file.read_text())
        for configuration in content["configurations"].values():
            configuration["batch_size"] = batch
            arguments = configuration["architecture"]["arch_kwargs"]
            if "features_per_stage" in arguments:
                arguments["features_per_stage"] = [features * 2**i for i in range(arguments["n_stages"])]
        file.write_text(json.dumps(content))


def make_nnunet(root: Path) -> NNUNet:
    """Make nnU-Net's folders, empty, and the short trainer."""
    made = NNUNet(root)
    for folder in (made.raw, made.preprocessed, made.results):
        folder.mkdir(parents=True)
    made.shorten()
    return made


def add_hippocampus(made: NNUNet, real_data: Path, number: int = 4, kind: str = "labels", cases: int = 4) -> str:
    """Add the first hippocampus cases as a raw dataset with one of the four kinds of ``LABELS``; return its name.

    With an ignore label, every slice but each third is unlabelled. ``imagesTs`` holds the next case.
    """
    name = f"Dataset{number:03d}_Hippocampus"
    source, folder = real_data / "hippocampus", made.raw / name
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / part).mkdir(parents=True)
    chosen = sorted(path.name.removesuffix(".nii.gz") for path in (source / "imagesTr").glob("*.nii.gz"))[: cases + 1]
    for index, case in enumerate(chosen):
        part = "Tr" if index < cases else "Ts"
        shutil.copy(source / "imagesTr" / f"{case}.nii.gz", folder / f"images{part}" / f"{case}_0000.nii.gz")
        mask = folder / f"labels{part}" / f"{case}.nii.gz"
        shutil.copy(source / "labelsTr" / f"{case}.nii.gz", mask)
        if "ignore" in LABELS[kind]["labels"] and part == "Tr":
            _leave_unlabelled(mask)
    description = {"channel_names": {"0": "MRI"}, "numTraining": cases, "file_ending": ".nii.gz", **LABELS[kind]}
    (folder / "dataset.json").write_text(json.dumps(description))
    # One fold that holds out the last case; nnU-Net's planners take it over.
    fold = {"train": chosen[: cases - 1], "val": chosen[cases - 1 : cases]}
    (folder / "splits_final.json").write_text(json.dumps([fold]))
    return name


def _leave_unlabelled(mask: Path) -> None:
    image = nib.load(mask)
    labels = np.asarray(image.dataobj).astype(np.uint8)
    labels[:, :, np.arange(labels.shape[2]) % 3 != 0] = 3
    nib.save(nib.Nifti1Image(labels, image.affine), mask)
