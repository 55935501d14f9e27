"""Add a model to deconvseg-weights: pack a run, measure on test cases what its storage costs, and write its card."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import deconvseg
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import Evaluation
from deconvseg.integrations.sharing.card import model_card
from deconvseg.integrations.sharing.packing import write_packed
from deconvseg.planning import read_plan
from deconvseg.runs import PACKED_SUFFIX, Package, StoredType, locate
from deconvseg.system import processor_name, write_text

MODELS = Path(__file__).parent / "src" / "deconvseg_weights" / "models"
MOST_BYTES = 40_000_000


def add_model(
    run: Path,
    dataset: Path,
    *,
    name: str,
    license: str,
    source: str,
    stored: StoredType = "bfloat16",
    split: Literal["test", "val"] = "test",
    splits: Path | None = None,
    most: float = 0.002,
    models: Path = MODELS,
) -> Package:
    """Write ``NAME.dseg.zip`` and ``NAME.md`` into ``models``; the scores in both are those of the packed weights.

    The cases of a ``split`` of the dataset are predicted with the run and with the packed model. Raises
    :class:`~deconvseg.errors.DeconvsegError`, and writes nothing, if the mean Dice falls by more than ``most`` or the
    package gets too large.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        packed = folder / f"{name}{PACKED_SUFFIX}"
        write_packed(run, packed, stored=stored, name=name)
        chosen = _Chosen(split, splits)
        own = _score(run, dataset, folder / "own", chosen)
        found = _score(packed, dataset, folder / "packed", chosen)
        if own.mean_dice - found.mean_dice > most:
            raise DeconvsegError(
                f"{name}: the mean Dice of {len(found.cases)} cases falls from {own.mean_dice:.4f} to "
                f"{found.mean_dice:.4f} with weights in {stored}; store them in another type (--stored)"
            )
        package = write_packed(
            run, packed, stored=stored, name=name, scored=("validation" if split == "val" else "test", found)
        )
        others = sum(file.stat().st_size for file in models.glob(f"*{PACKED_SUFFIX}") if file.name != packed.name)
        if (total := others + packed.stat().st_size) > MOST_BYTES:
            raise DeconvsegError(f"{name}: the package would have {total:,} bytes, more than {MOST_BYTES:,}")
        cost = (
            f"Weights are stored in {stored}. Mean Dice over {len(found.cases)} {split} cases: {own.mean_dice:.5f} "
            f"with the run's own weights, {found.mean_dice:.5f} with these ({found.mean_dice - own.mean_dice:+.5f}), "
            f"both computed in float32 on {processor_name()}."
        )
        further = ["", "## What the storage costs", "", cost, "", "## Training data", "", source]
        plan = read_plan(locate(packed) / "plan.json")
        card = model_card(package, plan, license=license, source=f"pretrained:{name}", further=further, as_stored=True)
        models.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(packed, models / packed.name)
        write_text(models / f"{name}.md", card)
    return package


class _Chosen(NamedTuple):
    split: Literal["test", "val"]
    splits: Path | None


def _score(model: Path, dataset: Path, folder: Path, chosen: _Chosen) -> Evaluation:
    """Predict the chosen cases with a model in float32, and evaluate the masks."""
    split, splits = chosen
    done = deconvseg.predict(dataset, model, folder, precision="32", device="cpu", split=split, splits=splits)
    if done.problems:
        raise DeconvsegError(f"{model}: {len(done.problems)} cases failed, first: {done.problems[0]}")
    return deconvseg.evaluate(dataset, folder, run=model, split=split, splits=splits)


def main() -> int:
    """Parse the arguments, add the model, and say what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="finished run or cross-validation")
    parser.add_argument("dataset", type=Path, help="dataset with test cases that no choice used")
    parser.add_argument("--name", required=True, help="name after pretrained:")
    parser.add_argument("--license", required=True, help="licence of the weights, such as cc0-1.0")
    parser.add_argument("--source", required=True, help="the training data, with its licence and citation")
    parser.add_argument("--stored", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--split", default="test", choices=("test", "val"))
    parser.add_argument("--splits", type=Path, help="file of splits; by default the dataset's own, or the run's")
    parser.add_argument("--most", type=float, default=0.002, help="largest loss of mean Dice")
    asked = vars(parser.parse_args())
    if asked["splits"] is None and (own := asked["run"] / "splits.json").is_file():
        # The packed run has no names of cases.
        asked["splits"] = own
    try:
        package = add_model(asked.pop("run"), asked.pop("dataset"), **asked)
    except DeconvsegError as error:
        parser.exit(InputError.exit_code if isinstance(error, InputError) else 1, f"error: {error}\n")
    for score in package.scores:
        print(f"{score.structure}: {score.metric} {score.mean:.4f} {score.ci95 or ''} on {score.cases} cases")
    print(MODELS / f"{package.name}{PACKED_SUFFIX}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
