"""Calls for the type checker alone: mypy reports each of the wrong ones, or else that its comment is not needed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

from deconvseg import evaluate, predict, train
from deconvseg.evaluation import Evaluation
from deconvseg.experiments import CrossValidation, crossval, predict_many
from deconvseg.inference import Prediction
from deconvseg.planning import Plan
from deconvseg.runs import Run


def call_train(plan: Plan) -> None:
    assert_type(train("data", "run"), Run)
    assert_type(train(dataset=Path("data"), output="run", plan=plan, fold="all", max_seconds=60), Run)
    train("data", "run", values={"batch_size": 2}, splits=Path("splits.json"), resume=True)
    train("data", "run", epoch=3)  # type: ignore[call-arg]
    train("data", "run", epochs="3")  # type: ignore[arg-type]
    train("data", "run", seed=None)  # type: ignore[arg-type]
    train("data", "run", folds=3)  # type: ignore[call-arg]
    train("data")  # type: ignore[call-arg]
    train("data", "run", "deconver")  # type: ignore[call-arg]


def call_crossval(plan: Plan) -> None:
    assert_type(crossval("data", "run", folds=3, plan=plan, jobs=2), CrossValidation)
    crossval("data", "run", fold=3)  # type: ignore[call-arg]
    crossval("data", "run", epochs="3")  # type: ignore[arg-type]


def call_evaluate() -> None:
    assert_type(evaluate("truth", Path("masks"), unit="voxel", metrics=["dice"], labels={1: "lesion"}), Evaluation)
    evaluate("truth", "masks", tolerence=2)  # type: ignore[call-arg]
    evaluate("truth", "masks", unit="cm")  # type: ignore[arg-type]


def call_predict() -> None:
    assert_type(predict("scans", "run", "masks", tta=True, cases=["a"]), Prediction)
    assert_type(predict("scans", "run", "masks", probabilities=True, threshold={"lesion": 0.3}), Prediction)
    array = np.zeros((8, 8))
    assert_type(predict(array, "run"), NDArray[np.integer[Any]])
    both = predict(array, "run", probabilities=True, threshold="default")
    assert_type(both, tuple[NDArray[np.integer[Any]], NDArray[np.float32]])
    predict("scans", "run", "masks", threshold="half")  # type: ignore[call-overload]
    predict("scans", "run", "masks", tat=True)  # type: ignore[call-overload]
    assert_type(predict_many(Path("scans"), ["run"], "masks", memory=2**30, split="test"), Prediction)
    predict_many("scans", "run")  # type: ignore[call-arg]
    predict_many("scans", "run", "masks", memory="1G")  # type: ignore[arg-type]
    predict_many("scans", 3, "masks")  # type: ignore[arg-type]
