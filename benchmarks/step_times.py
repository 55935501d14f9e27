"""Times a training step, and the prediction of a patch, of every row of a protocol, and writes them into its file.

``python benchmarks/step_times.py PROTOCOL --seconds 300`` times the rows in turn, ``--rounds`` times each, with the
threads of this process (``OMP_NUM_THREADS``), and writes the medians as the ``time`` of the protocol: each row then has
as many steps as fit into the seconds. ``--rows`` and ``--datasets`` time some of them again. Run it on a machine that
does nothing else.
"""

import argparse
import json
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from deconvseg.experiments import Protocol
from deconvseg.experiments.protocols.reading import find_network, preset_of
from deconvseg.models import create_model
from deconvseg.planning import RECIPES, Recipe
from deconvseg.planning.measuring import StepMeter
from deconvseg.system import processor_name

Times = dict[str, dict[str, float]]
_DIGITS = 4


def patch_seconds(model: str, arguments: dict[str, Any], patch: tuple[int, ...]) -> float:
    """Seconds of the prediction of one patch, the fastest of three after one that does not count."""
    network = create_model(model, **arguments).eval()
    image = torch.rand(1, network.in_channels, *patch)
    found = []
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            network(image)
            found.append(time.perf_counter() - start)
    return min(found[1:])


class Meters(ExitStack):
    """One process that measures for each recipe."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.threads = threads
        self.known: dict[str, StepMeter] = {}

    def of(self, recipe: Recipe) -> StepMeter:
        key = recipe.model_dump_json()
        if key not in self.known:
            self.known[key] = self.enter_context(StepMeter("cpu", None, self.threads, recipe))
        return self.known[key]


def recipe_of(values: dict[str, Any]) -> Recipe:
    """The default recipe with the values of a plan that change its steps."""
    changed = {key.removeprefix("recipe."): value for key, value in values.items() if key.startswith("recipe.")}
    known = {key: value for key, value in changed.items() if key in Recipe.model_fields}
    return Recipe.model_validate({**RECIPES["default"].model_dump(), **known})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="*")
    parser.add_argument("--datasets", nargs="*")
    options = parser.parse_args()
    tree = json.loads(options.protocol.read_text())
    known = tree.pop("time", {})
    protocol, threads = Protocol.model_validate(tree), torch.get_num_threads()
    steps, patches = known.get("steps", {}), known.get("patches", {})
    with Meters(threads) as meters:
        time_rows(protocol, options, meters, steps, patches)
    measured = {"processor": processor_name(), "threads": threads, "steps": steps, "patches": patches}
    tree["time"] = {"seconds": options.seconds, **measured}
    options.protocol.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")


def time_rows(protocol: Protocol, options: argparse.Namespace, meters: Meters, steps: Times, patches: Times) -> None:
    for dataset in protocol.datasets:
        if options.datasets and dataset.name not in options.datasets:
            continue
        preset = preset_of(dataset)
        own = {} if dataset.setting is None else dataset.setting.plan
        rows = [row for row in protocol.rows if not options.rows or row.key in options.rows]
        rows = [row for row in rows if not row.members and (row.datasets is None or dataset.name in row.datasets)]
        found: dict[str, list[tuple[float, float]]] = {row.key: [] for row in rows}
        for _ in range(options.rounds):
            for row in rows:
                model, arguments = find_network(row, preset, row.key)
                values = {**own, **protocol.plan, **row.plan}
                patch = tuple(values.get("patch_size", preset.patch_size))
                batch = int(values.get("batch_size") or preset.batch_size or 1)
                cost = meters.of(recipe_of(values))(model, arguments, patch, batch, regions=False)
                assert cost is not None, f"{row.key}: lacks memory"
                found[row.key].append((cost.seconds, patch_seconds(model, arguments, patch)))
        for key, times in found.items():
            step, shown = (statistics.median(each) for each in zip(*times, strict=True))
            steps.setdefault(dataset.name, {})[key] = round(step, _DIGITS)
            patches.setdefault(dataset.name, {})[key] = round(shown, _DIGITS)
            print(f"{dataset.name}, {key}: step {step:.4f} s, patch {shown:.4f} s", flush=True)


if __name__ == "__main__":
    main()
