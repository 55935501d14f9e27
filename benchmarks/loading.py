"""How long a training waits for its data: python benchmarks/loading.py DATASET --splits SPLITS [--foreground].

Prepares the training cases, then makes steps as the training does, with each number of worker processes, and prints
as JSON how much of the time went by before a batch was there, and what one sample costs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import machine, report

from deconvseg.data import Augment, PatchDataset, PreparedCase, finish, open_dataset, prepare_cases, resolve_splits
from deconvseg.models import create_model
from deconvseg.planning import Plan, make_plan, read_plan
from deconvseg.system import choose_device
from deconvseg.training import Ranks, choose_precision
from deconvseg.training.loading import train_loader
from deconvseg.training.optimiser import create_optimiser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--splits", type=Path)
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--plan", type=Path, help="default: planned here for 15 minutes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()

    device = choose_device(options.device)
    dataset = open_dataset(options.dataset, foreground=options.foreground)
    splits = resolve_splits(dataset, options.splits, fold=0)
    plan = read_plan(options.plan) if options.plan else make_plan(dataset, splits, device=device, seconds=900)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        cases = prepare_cases(
            dataset.select(splits.train),
            Path(folder),
            spacing=plan.spacing,
            normalisations=plan.normalisations,
            encoding=plan.labels.to_encoding(),
            patch_size=plan.patch_size,
        )
        record: dict[str, Any] = {
            "dataset": dataset.root.name,
            "machine": machine(torch.device(device)),
            "patch": plan.patch_size,
            "batch": plan.batch_size,
            "cases": len(cases),
            "prepare_seconds": time.perf_counter() - started,
            "cache_megabytes": sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6,
            "sample_milliseconds": time_samples(plan, cases, 200),
            "workers": {str(count): time_steps(plan, cases, device, count, options.steps) for count in options.workers},
        }
    report(record, options.output)


def time_samples(plan: Plan, cases: Sequence[PreparedCase], count: int) -> dict[str, float]:
    """Mean milliseconds that one sample takes on the CPU to be read, and to be changed."""
    patches = PatchDataset(
        cases,
        plan.patch_size,
        count,
        seed=0,
        foreground=plan.recipe.foreground_oversampling,
        augment=Augment(plan.spacing, plan.patch_size, plan.recipe.augmentation),
    )
    reading, changing = [], []
    for sample in range(count):
        start = time.perf_counter()
        read = patches[(0, sample)]
        middle = time.perf_counter()
        finish([read], plan.patch_size)
        reading.append(middle - start)
        changing.append(time.perf_counter() - middle)
    return {"read": 1000 * statistics.mean(reading), "change": 1000 * statistics.mean(changing)}


def time_steps(plan: Plan, cases: Sequence[PreparedCase], device: str, workers: int, steps: int) -> dict[str, float]:
    """Seconds per step of a training, and the share of them spent waiting for the batch, once it is warm."""
    torch.manual_seed(0)
    network = create_model(plan.model.name, **plan.model.config).to(device)
    loss = plan.training_loss()
    optimiser = create_optimiser(network, plan.recipe)
    warm = 5
    recipe = plan.recipe.model_copy(update={"steps_per_epoch": steps + warm})
    shorter = plan.model_copy(update={"recipe": recipe})
    loader = train_loader(shorter, cases, seed=0, device=device, workers=workers, epoch=0, ranks=Ranks())
    half = choose_precision("auto", device) == "bf16-mixed"
    batches = iter(loader)
    waits, works = [], []
    for _ in range(steps + warm):
        start = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
            value = loss(network(batch["image"].to(device)), batch["labels"].to(device))
        value.backward()
        optimiser.step()
        float(value.detach())  # waits for a GPU, as the training's guard against losses that are not finite does
        waits.append(ready - start)
        works.append(time.perf_counter() - ready)
    wait, work = sum(waits[warm:]), sum(works[warm:])
    return {
        "step_seconds": (wait + work) / steps,
        "waiting_milliseconds": 1000 * wait / steps,
        "waiting_share": wait / (wait + work),
    }


if __name__ == "__main__":
    main()
