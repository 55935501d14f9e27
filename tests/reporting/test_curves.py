"""Learning curves as files."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from deconvseg.errors import InputError
from deconvseg.reporting import plot_curves
from deconvseg.reporting.curves import draw_curves


def rows(epochs=6, **changes):
    return [
        {
            "epoch": epoch,
            "step": 10 * (epoch + 1),
            "seconds": 2.0 * (epoch + 1),
            "train_loss": 1.0 / (epoch + 1),
            "learning_rate": 1e-3 * (1 - epoch / epochs),
            "val_dice": 0.5 + 0.05 * epoch if epoch % 2 else None,
            "val_dice_head": 0.6 if epoch % 2 else None,
            "val_dice_tail": 0.4 if epoch % 2 else None,
            **changes,
        }
        for epoch in range(epochs)
    ]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines() if len(line.get_xydata())}


def test_the_picture_has_white_ground_and_something_on_it(tmp_path):
    plot_curves(rows(), tmp_path / "progress.png")
    pixels = np.asarray(Image.open(tmp_path / "progress.png").convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    assert (pixels != 255).any()
    assert [path.name for path in tmp_path.iterdir()] == ["progress.png"]


def test_the_lines_are_the_rows_and_none_is_a_gap():
    loss, dice, rate = draw_curves(rows()).axes
    (training,) = lines(loss).values()
    assert training[:, 1] == pytest.approx([1 / n for n in range(1, 7)])
    assert loss.get_title(loc="left") == "Training loss"
    assert set(lines(dice)) == {"head", "tail", "mean"}
    assert "best 0.750" in [text.get_text() for text in dice.texts]
    assert next(iter(lines(rate).values()))[0].tolist() == [1, pytest.approx(1.0)]
    assert "-3" in rate.get_title(loc="left")


def test_a_run_without_validation_a_single_epoch_and_a_loss_that_is_not_a_number():
    _, dice, _ = draw_curves([{"epoch": 0, "train_loss": 1.0, "learning_rate": 1e-3, "val_dice": None}]).axes
    assert "no validation yet" in [text.get_text() for text in dice.texts]
    loss, _, _ = draw_curves(rows(train_loss=float("nan"))).axes
    assert lines(loss) == {}


def test_no_epoch(tmp_path):
    with pytest.raises(InputError, match="no epochs to draw"):
        plot_curves([], tmp_path / "progress.png")


def test_no_global_state_of_matplotlib_is_used(tmp_path):
    code = (
        "import json, sys; from deconvseg.reporting import plot_curves;"
        "assert 'matplotlib' not in sys.modules;"
        f"plot_curves(json.loads({json.dumps(json.dumps(rows()))}), {str(tmp_path / 'p.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
