"""The figure of the training beside that of its finished masks."""

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from deconvseg.evaluation import Evaluation, evaluate
from deconvseg.training.comparing import compare_with_training
from plans import tiny_plan


def row(epoch: int, dice: float | None, cases: int = 2) -> dict[str, object]:
    return {"epoch": epoch, "val_dice": dice, "val_cases": cases, "val_cases_of": 2}


def scored(discs: Path, masks: Path) -> Evaluation:
    """Two blank masks, of which one has some voxels of a class that no true mask has."""
    blank = np.zeros((40, 48), np.uint8)
    for name in ("disc4", "disc5"):
        PillowImage.fromarray(blank).save(masks / f"{name}.png")
        blank[:3] = 7
    return evaluate(discs, masks, labels={255: "disc", 7: "ghost"}, splits=discs / "splits.json", split="val")


def test_nothing_is_said_of_the_same_figure(discs: Path, tmp_path: Path) -> None:
    result = scored(discs, tmp_path)
    assert compare_with_training([row(0, result.mean_dice)], result, tiny_plan()) is None
    assert compare_with_training([row(0, None)], result, tiny_plan()) is None


def test_another_figure_is_told_with_what_it_is_of(discs: Path, tmp_path: Path) -> None:
    result = scored(discs, tmp_path)
    plan = tiny_plan(spacing=[2.0, 2.0])
    assert result.mean_dice == 0.25
    told = compare_with_training([row(0, 0.0), row(1, None)], result, plan)
    assert told == (
        "while training it was Dice 0.000 over these cases (epoch 1); by the weights of that epoch, not of the last "
        "(1); on the network's grid (2 x 2), not on the masks'; without the classes that are predicted and in no true "
        "mask (ghost)"
    )
    fewer = compare_with_training([row(0, 0.25, cases=1)], result, tiny_plan())
    assert fewer is not None
    assert fewer.startswith("while training it was Dice 0.250 over 1 of these cases (epoch 1), which the recipe's")
