"""How well the doubt that `predict` records tells good masks from bad ones.

A cross-validation is trained on the cases of DATASET that its splits file does not keep for the test, then the test
cases are predicted by one fold and by the mean of all. Printed are Spearman's correlations of doubt and of disagreement
with the mean Dice of a case, the Dice of doubtful and of other masks, and how many of the worst tenth are doubtful.

    python benchmarks/doubt.py DATASET OUTPUT --seconds 100 --folds 3
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg import evaluate, predict
from deconvseg.evaluation import Evaluation, read_evaluation, read_operating_points
from deconvseg.evaluation.correlation import spearman
from deconvseg.experiments import crossval


def main() -> None:
    """Train, predict and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=100, help="training time of a fold")
    parser.add_argument("--folds", type=int, default=3)
    asked = parser.parse_args()
    run, splits = asked.output / "cv", asked.dataset / "splits.json"
    if not (run / "crossval.json").is_file():
        crossval(asked.dataset, run, folds=asked.folds, max_seconds=asked.seconds, device="cpu")
    points = read_operating_points(run)
    assert points is not None
    doubts = {name: {"score": score} for name, score in points.doubts.items()}
    record: dict[str, Any] = {"out of fold": _compare(read_evaluation(run / "crossval.json"), doubts, None)}
    for name, model in (("test, fold 0", run / "fold_0"), ("test, mean of folds", run)):
        masks = asked.output / name.replace(", ", "_").replace(" ", "_")
        done = predict(asked.dataset, model, masks, splits=splits, split="test", device="cpu")
        result = evaluate(asked.dataset, masks, run=model, splits=splits, split="test")
        limit = read_operating_points(model)
        flagged = {case: doubt.to_json() for case, doubt in done.doubts.items()}
        record[name] = _compare(result, flagged, None if limit is None else limit.doubt_limit)
    print(json.dumps(record, indent=2))


def _compare(result: Evaluation, doubts: Mapping[str, Mapping[str, Any]], limit: float | None) -> dict[str, Any]:
    """Return the correlations with the Dice of the cases, and what the flag separates."""
    dice = {case.name: float((case.mean_with_truth or case.mean)["dsc"] or 0.0) for case in result.cases}
    names = [name for name in dice if name in doubts]
    found: dict[str, Any] = {"cases": len(names), "mean Dice": float(np.mean([dice[name] for name in names]))}
    for key in ("score", "disagreement"):
        if all(doubts[name].get(key) is not None for name in names):
            rank = spearman([doubts[name][key] for name in names], [dice[name] for name in names])
            found[f"{key} and Dice"] = None if rank is None else asdict(rank)
    if limit is not None:
        doubtful = [name for name in names if doubts[name]["doubtful"]]
        others = [name for name in names if name not in doubtful]
        worst = sorted(names, key=lambda name: dice[name])[: max(1, len(names) // 10)]
        found |= {
            "limit": limit,
            "doubtful": len(doubtful),
            "Dice of doubtful": float(np.mean([dice[name] for name in doubtful])) if doubtful else None,
            "Dice of others": float(np.mean([dice[name] for name in others])) if others else None,
            "worst tenth": len(worst),
            "doubtful among them": len(set(worst) & set(doubtful)),
        }
    return found


if __name__ == "__main__":
    main()
