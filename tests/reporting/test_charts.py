"""Pictures of an evaluation show its numbers."""

import numpy as np
import pytest

from deconvseg.reporting.charts import draw_dice_distribution, draw_volume_agreement

LABELS = {"1": "head", "2": "tail"}


def case(dices, truths, predictions):
    classes = {
        value: {"dsc": dsc, "volume_truth": truth, "volume_prediction": prediction}
        for value, dsc, truth, prediction in zip(LABELS, dices, truths, predictions, strict=True)
    }
    return {"classes": classes, "mean": {"dsc": float(np.mean(dices))}}


CASES = [
    case((0.9, 0.7), (100.0, 50.0), (110.0, 45.0)),
    case((0.8, 0.5), (120.0, 60.0), (124.0, 60.0)),
    case((0.7, 0.6), (90.0, 70.0), (88.0, 65.0)),
]


def test_every_case_is_a_point_and_every_mean_a_diamond():
    (axes,) = draw_dice_distribution(CASES, LABELS).axes
    points = [collection.get_offsets() for collection in axes.collections if len(collection.get_offsets()) == 3]
    assert sorted(points[0][:, 0]) == pytest.approx([0.7, 0.8, 0.9])
    assert sorted(points[1][:, 0]) == pytest.approx([0.5, 0.6, 0.7])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["mean over classes", "tail", "head"]
    assert axes.get_xlim()[0] <= 0.5


def test_volumes_as_bland_and_altman_draw_them():
    (axes,) = draw_volume_agreement(CASES, LABELS, "mm³").axes
    points = np.asarray(axes.collections[0].get_offsets())
    assert points[:, 0] == pytest.approx([105.0, 122.0, 89.0])
    assert points[:, 1] == pytest.approx([10.0, 4.0, -2.0])
    bias, spread = 4.0, 1.96 * np.std([10.0, 4.0, -2.0], ddof=1)
    heights = [line.get_ydata()[0] for line in axes.get_lines()]
    assert heights[:3] == pytest.approx([bias, bias - spread, bias + spread])
    assert "mm³" in axes.get_xlabel()


def test_large_volumes_are_in_millilitres():
    large = [case((0.9, 0.9), (2e4, 1e3), (2.5e4, 1e3))]
    (axes,) = draw_volume_agreement(large, LABELS, "mm³").axes
    assert "mL" in axes.get_xlabel()
    assert axes.collections[0].get_offsets()[0].tolist() == pytest.approx([22.5, 5.0])
    assert "pixels" in draw_volume_agreement(large, LABELS, "pixels").axes[0].get_xlabel()
