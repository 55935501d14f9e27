"""How good are the masks after a given time of training: ours, and those of the nnunetv2 package, on the same cases?

``python benchmarks/quality.py SYSTEM DATASET -o FOLDER --splits FILE --seconds 1800 --seed 0`` trains ``deconvseg`` or
``nnunetv2`` on this machine's CPU for that long, segments the cases of the split ``test`` and scores them with
:func:`deconvseg.evaluate`. Both learn from the same cases and keep the same ones for validation. nnU-Net has its own
plans, network, augmentation, loss and mirroring; its polynomial schedule, made for 1,000 epochs, is stretched over the
time given. Only training counts, not nnU-Net's preprocessing nor our planning and preparing. Both average over the
mirrorings that they trained with, which nnU-Net does by default. ``--threads`` gives both as many. Prints the record as
JSON and keeps it in FOLDER/record.json. Needs nnunetv2.
"""

import argparse
import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, report
from PIL import Image

from deconvseg import evaluate
from deconvseg.data import Dataset, Splits, open_dataset, resolve_splits
from deconvseg.system import keep_freed_memory

_NUMBER = 1
_NAME = f"Dataset{_NUMBER:03d}_quality"


def main() -> None:
    options = parse()
    options.output = options.output.resolve()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    train = {"deconvseg": train_ours, "nnunetv2": train_nnunet}[options.system]
    masks, facts = train(options)
    record: dict[str, Any] = {key: str(value) if isinstance(value, Path) else value for key, value in facts.items()}
    record |= {"system": options.system, "dataset": options.dataset.name, "seed": options.seed}
    record |= {"seconds": options.seconds, "machine": {**machine(torch.device("cpu")), "threads": options.threads}}
    record["test"] = score(options, masks)
    report(record, options.output / "record.json")


def score(options: argparse.Namespace, masks: Path) -> dict[str, Any]:
    found = evaluate(
        options.dataset, masks, foreground=options.foreground, splits=options.splits, split="test"
    ).to_json()
    if found["counts"]["evaluated"] != found["counts"]["cases"]:
        raise SystemExit(f"{masks}: masks are missing: {found['counts']}")
    classes = {entry["name"]: entry for entry in found["summary"]["classes"].values()}
    scores = {
        name: {metric: entry[metric]["mean"] for metric in ("dsc", "hd95", "nsd")} for name, entry in classes.items()
    }
    mean = {metric: found["summary"]["mean"][metric]["mean"] for metric in ("dsc", "hd95", "nsd")}
    with_truth = found["summary"]["mean"]["with_truth"]
    mean["dsc_with_truth"] = None if with_truth is None else with_truth["dsc"]["mean"]
    return {"cases": found["counts"]["cases"], "mean": mean, "classes": scores}


def train_ours(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    from deconvseg.inference import predict
    from deconvseg.training import train

    start = time.perf_counter()
    run = train(
        options.dataset,
        options.output / "run",
        splits=options.splits,
        foreground=options.foreground,
        max_seconds=options.seconds,
        seed=options.seed,
        device="cpu",
    )
    trained = time.perf_counter() - start
    masks = options.output / "masks"
    predict(options.dataset, run.path, masks, splits=options.splits, split="test", device="cpu", tta=True)
    steps = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    everything = {"with_planning_and_validation": round(trained), "steps": steps}
    return masks, {**everything, "widths": run.plan.model.config["widths"]}


def train_nnunet(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    os.environ |= {f"nnUNet_{name}": str(options.output / name) for name in ("raw", "preprocessed", "results")}
    data = open_dataset(options.dataset, foreground=options.foreground)
    parts = resolve_splits(data, options.splits, fold=0, seed=options.seed)
    convert(data, parts, options.output / "raw" / _NAME)

    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    configuration = "3d_fullres" if len(data.load_image(data.cases[0]).shape) == 3 else "2d"
    extract_fingerprints([_NUMBER], num_processes=options.threads, show_progress_bar=False)
    plan_experiments([_NUMBER])
    preprocess([_NUMBER], configurations=(configuration,), num_processes=(options.threads,), show_progress_bar=False)
    prepared = options.output / "preprocessed" / _NAME
    (prepared / "splits_final.json").write_text(json.dumps([{"train": list(parts.train), "val": list(parts.val)}]))
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(options.seed)
    # Planning leaves another number of threads behind. Augmentation has a process of its own where there is a core.
    torch.set_num_threads(options.threads)
    os.environ |= {"nnUNet_n_proc_DA": str(options.threads - 1)}
    trainer = timed_trainer(prepared, configuration, options.seconds)
    trainer.run_training()
    masks = options.output / "masks"
    segment(trainer, options, parts, masks)
    steps = trainer.current_epoch * trainer.num_iterations_per_epoch
    plan = trainer.configuration_manager
    return masks, {"steps": steps, "patch": list(plan.patch_size), "batch": plan.batch_size}


def convert(data: Dataset, parts: Splits, folder: Path) -> None:
    """Lay a dataset out as nnU-Net reads it: volumes as they are, pictures as PNG."""
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    ending = ".png"
    for part, images in ((parts.train, "imagesTr"), (parts.val, "imagesTr"), (parts.test, "imagesTs")):
        for name in part:
            case = data.case(name)
            if case.images[0].name.endswith(".nii.gz"):
                ending = ".nii.gz"
                shutil.copy(case.images[0], folder / images / f"{name}_0000.nii.gz")
                if images == "imagesTr" and case.label is not None:
                    shutil.copy(case.label, folder / "labelsTr" / f"{name}.nii.gz")
                continue
            image, label = data.load(case)
            pixels = np.moveaxis(image.pixels, 0, -1).astype(np.uint8)
            Image.fromarray(pixels.squeeze()).save(folder / images / f"{name}_0000.png")
            if images == "imagesTr" and label is not None:
                Image.fromarray((label.pixels > 0).astype(np.uint8)).save(folder / "labelsTr" / f"{name}.png")
    names = data.label_names or {0: "background", 1: "foreground"}
    channels = {"0": "MRI"} if ending == ".nii.gz" else dict(zip("012", data.channel_names, strict=False))
    labels = {name: value for value, name in {0: "background", **names}.items()}
    description = {"channel_names": channels, "labels": labels, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps({**description, "numTraining": len(parts.train) + len(parts.val)}))


def timed_trainer(prepared: Path, configuration: str, seconds: float) -> Any:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class TimedTrainer(nnUNetTrainer):  # type: ignore[misc]
        """nnU-Net's own trainer with short epochs, the schedule of a thousand epochs over a time."""

        def on_train_start(self) -> None:
            super().on_train_start()
            self.began = time.perf_counter()

        def on_train_epoch_start(self) -> None:
            share = min(1.0, (time.perf_counter() - self.began) / seconds)
            super().on_train_epoch_start()
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * max(1 - share, 1e-3) ** 0.9

        def on_epoch_end(self) -> None:
            # Its picture of the curves takes as long as steps do, and here epochs are short.
            self.logger.plot_progress_png = lambda folder: None
            super().on_epoch_end()
            if time.perf_counter() - self.began >= seconds:
                self.num_epochs = self.current_epoch

        def run_training(self) -> None:
            # The loop of its parent has its number of epochs fixed at the start.
            self.on_train_start()
            while self.current_epoch < self.num_epochs:
                self.on_epoch_start()
                self.on_train_epoch_start()
                batches = range(self.num_iterations_per_epoch)
                self.on_train_epoch_end([self.train_step(next(self.dataloader_train)) for _ in batches])
                with torch.no_grad():
                    self.on_validation_epoch_start()
                    self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val))])
                self.on_epoch_end()

        def plot_network_architecture(self) -> None:
            return

    plans = json.loads((prepared / "nnUNetPlans.json").read_text())
    description = json.loads((prepared / "dataset.json").read_text())
    trainer = TimedTrainer({**plans, "continue_training": False}, configuration, 0, description, torch.device("cpu"))
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 5, 1
    trainer.disable_checkpointing = True
    trainer.initialize()
    return trainer


def segment(trainer: Any, options: argparse.Namespace, parts: Splits, masks: Path) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    trainer.set_deep_supervision_enabled(False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    ending = trainer.dataset_json["file_ending"]
    masks.mkdir()
    images = [[str(options.output / "raw" / _NAME / "imagesTs" / f"{name}_0000{ending}")] for name in parts.test]
    predictor.predict_from_files_sequential(images, [str(masks / name) for name in parts.test])
    # Beside its masks it writes files of its own.
    for other in masks.glob("*.json"):
        other.unlink()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=("deconvseg", "nnunetv2"))
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder for the run, masks and record")
    parser.add_argument("--splits", type=Path, required=True, help="JSON with the lists train and test")
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--foreground", action="store_true", help="every label above zero is one class")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    return options


if __name__ == "__main__":
    main()
