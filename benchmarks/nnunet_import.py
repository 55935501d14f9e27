"""An imported model of nnU-Net against nnU-Net itself: Dice between their masks, time and peak memory of both.

    python benchmarks/nnunet_import.py RESULTS IMAGES [--folds 0 1] [--threads 2] [--no-tta]

RESULTS is a folder TRAINER__PLANS__CONFIGURATION of nnU-Net's results, IMAGES a folder as nnUNetv2_predict takes it.
Both sides start from files and end with files, each in a process of its own, on the CPU. nnU-Net predicts as
nnUNetv2_predict does with -npp 0 -nps 0, without further processes, so that its peak is that of one process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from deconvseg.data import read_label_map
from deconvseg.integrations.nnunet import import_nnunet
from deconvseg.runs import open_runs
from deconvseg.system import processor_name

_PEERS = Path(sys.prefix) / "peers"
_LEAST = 500

# torchvision's compiled part may be for another build of torch; nnU-Net uses nothing of it.
_THEIRS = """
import sys
import torch
try:
    import torchvision
except RuntimeError:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
results, images, output, mirrored, *folds = sys.argv[1:]
predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=mirrored == "True", allow_tqdm=False)
predictor.initialize_from_trained_model_folder(results, tuple(folds))
predictor.predict_from_files_sequential(images, output)
"""
_OURS = "from deconvseg.cli.app import main; main()"


def measure(code: str, arguments: list[str], threads: int) -> tuple[float, int]:
    """Run Python code with arguments in a process, and return its seconds and the peak of its memory in bytes."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(_PEERS)}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(told.decode()[-3000:])
    # Kilobytes on Linux.
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def compare(ours: Path, theirs: Path, values: dict[int, str]) -> list[tuple[str, str, int, float]]:
    """Return the case, the class, its voxels in nnU-Net's mask and the Dice, of classes with enough voxels."""
    rows = []
    for file in sorted(path for path in theirs.iterdir() if (ours / path.name).is_file() and path.suffix != ".json"):
        first, second = (read_label_map(folder / file.name).pixels for folder in (ours, theirs))
        for value, name in values.items():
            one, other = first == value, second == value
            count, total = int(other.sum()), int(one.sum() + other.sum())
            if count >= _LEAST:
                rows.append((file.name, name, count, 2 * np.count_nonzero(one & other) / total))
    return rows


def main() -> None:
    """Import, predict with both, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--folds", nargs="+", default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-tta", action="store_true", help="predict without mirroring")
    asked = parser.parse_args()
    # Where dynamic-network-architectures is not installed otherwise.
    sys.path.append(str(_PEERS))
    with tempfile.TemporaryDirectory() as place:
        run, ours, theirs = (Path(place) / name for name in ("run", "ours", "theirs"))
        begin = time.perf_counter()
        runs = import_nnunet(asked.results, run, folds=asked.folds)
        print(f"{processor_name()}, {asked.threads} threads; {len(runs)} folds, patch {runs[0].plan.patch_size}")
        print(f"import      {time.perf_counter() - begin:6.1f} s")
        folds = [str(one.config["imported"]["fold"]) for one in runs]
        theirs.mkdir()
        given = [str(asked.results), str(asked.images), str(theirs), str(not asked.no_tta), *folds]
        command = ["predict", "-i", str(asked.images), "-o", str(ours), "-m", str(run), "--device", "cpu"]
        further = ["--disable_tta"] if asked.no_tta else []
        rows = {
            "nnU-Net": measure(_THEIRS, given, asked.threads),
            "deconvseg": measure(_OURS, [*command, *further], asked.threads),
        }
        for name, (seconds, memory) in rows.items():
            print(f"{name:10}  {seconds:6.1f} s  {memory / 2**20:7.0f} MiB")
        plan = open_runs(run)[0].plan
        values = {part.written_as: part.name for part in plan.structures} | {0: "background"}
        found = compare(ours, theirs, values)
        for case, label, voxels, dice in found:
            print(f"{case}  {label:20}  {voxels:9,} voxels  Dice {dice:.6f}")
        print(json.dumps({"least_dice": min((row[3] for row in found), default=None)}))


if __name__ == "__main__":
    main()
