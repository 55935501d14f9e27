"""Does a training take the memory that its plan predicts?

Plans each dataset, trains it for one short epoch in a process of its own, and compares the most memory that this
process has had (Linux: peak resident set) with the prediction. Prints JSON; exits with 1 where one differs by more than
a quarter.

    python benchmarks/plan_memory.py [DATASET ...] [--time 15m] [--steps 8] [--threads 2]

Without datasets: a synthetic one, and hippocampus and dsb2018 where ``DECONVSEG_DATA`` has them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import machine

from deconvseg.data import open_dataset

_TOLERANCE = 0.25
# Cases that are predicted at the end: a few take as much memory as many.
_VALIDATED = 3
_COMMAND = (sys.executable, "-c", "from deconvseg.cli import main; main()")
_REAL = {"hippocampus": (), "dsb2018": ("--foreground",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", type=Path)
    parser.add_argument("--time", default="15m", help="the time that is planned for")
    parser.add_argument("--steps", type=int, default=8, help="steps of the epoch that is trained")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": str(asked.threads)}
    with tempfile.TemporaryDirectory() as folder:
        datasets = asked.datasets or _known(Path(folder), environment)
        rows = [_compare(data, Path(folder), asked, environment) for data in datasets]
    print(
        json.dumps({"machine": {**machine(torch.device("cpu")), "threads": asked.threads}, "datasets": rows}, indent=2)
    )
    if any(abs(row["predicted_over_measured"] - 1) > _TOLERANCE for row in rows):
        sys.exit(1)


def _known(folder: Path, environment: dict[str, str]) -> list[Path]:
    demo = folder / "demo"
    _run(["data", "demo", str(demo)], environment)
    real = Path(os.environ.get("DECONVSEG_DATA", "")) if os.environ.get("DECONVSEG_DATA") else None
    return [demo, *(real / name for name in _REAL if real is not None and (real / name).is_dir())]


def _compare(data: Path, folder: Path, asked: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    options = [*_REAL.get(data.name, ()), "--device", "cpu", "--splits", str(folder / "splits.json")]
    plan, run = folder / f"{data.name}.json", folder / f"run_{data.name}"
    names = list(open_dataset(data).labelled_names)
    splits = {"train": names[:-_VALIDATED], "val": names[-_VALIDATED:]}
    (folder / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    _run(["plan", str(data), "-o", str(plan), "--time", asked.time, *options], environment)
    planned = json.loads(plan.read_text(encoding="utf-8"))
    short = ["--epochs", "1", "--set", f"recipe.steps_per_epoch={asked.steps}"]
    measured = _run(["train", str(data), "-o", str(run), "--plan", str(plan), *short, *options], environment)
    predicted = planned["predicted"]["memory_bytes"]
    row = {
        "dataset": data.name,
        "widths": planned["model"]["config"]["widths"],
        "patch": planned["patch_size"],
        "batch": planned["batch_size"],
        "predicted_mib": predicted >> 20,
        "measured_mib": measured >> 20,
        "predicted_over_measured": round(predicted / measured, 3),
    }
    print(json.dumps(row), file=sys.stderr)
    return row


def _run(arguments: list[str], environment: dict[str, str]) -> int:
    """Run the command and return the most bytes that its process has had (its children's counted by themselves)."""
    process = subprocess.Popen([*_COMMAND, *arguments], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"deconvseg {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    # Linux counts in kilobytes.
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
