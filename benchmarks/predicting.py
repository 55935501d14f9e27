"""Time of ``deconvseg predict`` from files to masks: the whole command, and its parts in one process.

``python benchmarks/predicting.py RUN IMAGES`` predicts the first 100 images of a folder in a new process each round.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median


def main() -> None:
    """Print the seconds of each round and the parts of a last one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=100, help="Number of images.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="32")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images"
        images.mkdir()
        for file in sorted(asked.images.iterdir())[: asked.count]:
            (images / file.name).symlink_to(file.resolve())
        command = [sys.executable, "-m", "deconvseg", "--quiet", "predict", "-i", str(images), "-m", str(asked.run)]
        seconds = []
        for number in range(asked.rounds):
            start = time.perf_counter()
            output = ["-o", f"{scratch}/{number}", "--precision", asked.precision]
            subprocess.run([*command, *output], check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
        print(f"command: {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")
        _time_parts(asked.run, images, Path(scratch) / "parts", asked.precision)


def _time_parts(folder: Path, images: Path, output: Path, precision: str) -> None:
    start = time.perf_counter()
    from deconvseg.data import open_images, read_image
    from deconvseg.inference import Predictor, predict_cases
    from deconvseg.runs import Run

    marks = {"imports": time.perf_counter() - start}
    start = time.perf_counter()
    predictor = Predictor([Run.open(folder)], precision="bf16" if precision == "bf16" else "32")
    cases, _ = open_images(images)
    predictor.estimate(predictor.prepare(read_image(cases[0].images)))
    marks["network and first estimate"] = time.perf_counter() - start
    start = time.perf_counter()
    predict_cases(predictor, cases, output, load=lambda case: read_image(case.images))
    marks["cases"] = time.perf_counter() - start
    for name, seconds in marks.items():
        print(f"{name}: {seconds:.2f} s")


if __name__ == "__main__":
    main()
