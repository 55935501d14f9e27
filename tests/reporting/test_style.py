"""Names of labels, channels and cases in pictures."""

import io
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text

from deconvseg.reporting.charts import draw_dice_distribution, draw_volume_agreement
from deconvseg.reporting.curves import draw_curves
from deconvseg.reporting.style import add_legend, new_figure, plain, save_figure

NAMES = [
    "dose_$x_$",
    "$^$",
    r"\$a$",
    "_hidden",
    "__",
    "",
    "a\nb",
    "^_%#&{}~\\",
    "😀",
    "肝臓",
    "x" * 300,
    "\ud800",
    "a\x00b",
    "$",
]


def rendered(figure) -> None:  # type: ignore[no-untyped-def]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("png", "svg"):
            save_figure(figure, io.BytesIO(), format=kind)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_drawn_in_curves_and_charts(name: str) -> None:
    scores = {f"val_dice_{name}": 0.4, "val_dice_other": 0.6}
    figure = draw_curves([{"epoch": 0, "train_loss": 1.0, "val_dice": 0.5, "learning_rate": 1e-3, **scores}])
    rendered(figure)
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    assert len(legend.get_texts()) == 3
    row = {"dsc": 0.5, "volume_truth": 1.0, "volume_prediction": 2.0, "n_truth": 1, "status": "ok"}
    cases = [{"name": "a", "mean": {"dsc": 0.5}, "classes": {"1": row, "2": row}}] * 2
    labels = {"1": name, "2": "other"}
    rendered(draw_dice_distribution(cases, labels))
    agreement = draw_volume_agreement(cases, labels, "mm³")
    rendered(agreement)
    assert len(agreement.axes[0].get_legend().get_texts()) == 2


@given(st.text(alphabet=st.characters() | st.sampled_from("$\\_^{}%\n"), max_size=60))
@settings(deadline=None)
def test_no_name_is_a_formula_or_left_out_of_a_legend(name: str) -> None:
    text = plain(name)
    assert not is_math_text(text)
    assert text
    assert not text.startswith("_")
    assert "\n" not in text
    assert len(text.replace(r"\$", "$")) <= 41


def test_what_is_drawn_of_a_plain_name_is_the_name() -> None:
    figure = new_figure(3, 3)
    axes = figure.subplots()
    axes.plot([0, 1], label=plain(r"a$b\$c"))
    add_legend(axes)
    (text,) = axes.get_legend().get_texts()
    assert text._preprocess_math(text.get_text()) == (r"a$b\$c", False)
