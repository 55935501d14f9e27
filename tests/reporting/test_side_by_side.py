"""Several networks on one case: colours, corners, rectangles and enlarged regions."""

from dataclasses import replace

import matplotlib.colors
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.errors import InputError
from deconvseg.reporting import NetworkCase, draw_networks, write_network_figure
from deconvseg.reporting.side_by_side import find_crops
from deconvseg.reporting.style import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE


def square(top, left, side=24, size=64, value=1):
    mask = np.zeros((size, size), int)
    mask[top : top + side, left : left + side] = value
    return mask


TRUTH = square(16, 16)
CASE = NetworkCase("disc", None, TRUTH, {"right": TRUTH, "shifted": np.roll(TRUTH, 6, axis=0)}, (1.0, 1.0))


def pixels(figure, row, column):
    columns = len(figure.axes) // len({axes.get_subplotspec().rowspan.start for axes in figure.axes})
    return figure.axes[row * columns + column].images[0].get_array()


def colour_at(picture, row, column, size=64):
    scale = picture.shape[0] / size
    return picture[int((row + 0.5) * scale), int((column + 0.5) * scale)]


def nearest(pixel, colours):
    return min(colours, key=lambda name: np.abs(np.array(matplotlib.colors.to_rgb(name)) * 255 - pixel).sum())


def test_scores_are_dice_in_percent_and_stand_in_the_corner():
    assert CASE.scores == {"right": 100.0, "shifted": 75.0}
    figure = draw_networks([CASE])
    assert [axes.get_title() for axes in figure.axes] == ["Ground truth", "right", "shifted"]
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [[], ["100.00"], ["75.00"]]


def test_right_is_blue_false_positives_green_and_missed_red():
    picture = pixels(draw_networks([CASE]), 0, 2)
    colours = [TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE]
    assert nearest(colour_at(picture, 30, 28), colours) == TRUE_POSITIVE
    assert nearest(colour_at(picture, 43, 28), colours) == FALSE_POSITIVE
    assert nearest(colour_at(picture, 18, 28), colours) == FALSE_NEGATIVE


def test_masks_are_white_on_black():
    picture = pixels(draw_networks([CASE], look="masks"), 0, 1)
    assert colour_at(picture, 30, 30).tolist() == [255, 255, 255]
    assert colour_at(picture, 5, 5).tolist() == [0, 0, 0]


def test_the_parts_of_a_tumour_have_the_papers_colours():
    truth = square(8, 8, 40, value=2)
    truth[16:36, 16:36] = 3
    truth[22:30, 22:30] = 1
    case = NetworkCase("tumour", None, truth, {"a": truth}, (1.0, 1.0))
    figure = draw_networks([case], look="classes", labels={1: "NCR", 2: "ED", 3: "ET"})
    (legend,) = figure.legends
    found = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    names = [nearest(np.array(colour) * 255, ["red", "yellow", "green"]) for colour in found]
    assert [text.get_text() for text in legend.get_texts()] == ["NCR", "ED", "ET"]
    assert names == ["red", "green", "yellow"]
    others = draw_networks([case], look="classes", labels={1: "NCR", 2: "ED", 3: "ET"}, colours={"ET": "#0000ff"})
    assert others.legends[0].get_patches()[-1].get_facecolor()[:3] == (0, 0, 1)


def test_regions_are_marked_and_enlarged_below():
    crops = find_crops(TRUTH, list(CASE.masks.values()), 2)
    case = NetworkCase("disc", None, TRUTH, CASE.masks, (1.0, 1.0), crops=crops)
    figure = draw_networks([case])
    assert len(figure.axes) == 3 * 3
    assert [len(axes.patches) for axes in figure.axes] == [2] * 3 + [0] * 6
    whole, part = pixels(figure, 0, 2), pixels(figure, 1, 2)
    rows, columns = crops[0]
    middle = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
    expected = colour_at(whole, *middle)
    found = part[int((middle[0] - rows.start + 0.5) / (rows.stop - rows.start) * part.shape[0])]
    found = found[int((middle[1] - columns.start + 0.5) / (columns.stop - columns.start) * part.shape[1])]
    assert np.abs(found.astype(int) - expected.astype(int)).max() < 60


@settings(max_examples=30, deadline=None)
@given(st.integers(24, 90), st.integers(24, 90), st.integers(0, 4), st.integers(0, 99))
def test_crops_lie_within_the_slice_do_not_overlap_and_hold_a_difference(rows, columns, count, seed):
    rng = np.random.default_rng(seed)
    truth, other = (rng.random((2, rows, columns)) > 0.98).astype(int)
    crops = find_crops(truth, [truth, other], count)
    assert len(crops) <= count
    taken = np.zeros((rows, columns), int)
    for box in crops:
        assert all(0 <= part.start < part.stop <= n for part, n in zip(box, (rows, columns), strict=True))
        assert (truth != other)[box].any()
        taken[box] += 1
    assert taken.max(initial=0) <= 1


def test_equal_masks_have_no_crops():
    assert find_crops(TRUTH, [TRUTH, TRUTH], 3) == ()


def test_a_volume_shows_the_slice_with_the_most_errors():
    truth = np.zeros((32, 32, 8), int)
    truth[8:24, 8:24, 1:7] = 1
    wrong = truth.copy()
    wrong[8:24, 8:24, 5] = 0
    case = NetworkCase("volume", np.zeros((1, 32, 32, 8)), truth, {"a": truth, "b": wrong}, (1.0, 1.0, 3.0))
    assert case.slice == 5
    assert len(draw_networks([case]).axes) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": {}}, "disc: there is no mask to show"),
        ({"masks": {"a": TRUTH[:9]}}, r"disc: the mask of a is \(9, 64\), the truth \(64, 64\)"),
        ({"spacing": (1.0,)}, "disc: masks are 2D or 3D with a spacing per axis"),
        ({"image": np.zeros((1, 3, 3))}, r"disc: the image \(C, \*S\) is \(1, 3, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    parts = {"name": "disc", "image": None, "truth": TRUTH, "masks": {"a": TRUTH}, "spacing": (1.0, 1.0)}
    with pytest.raises(InputError, match=message):
        NetworkCase(**parts | change)


def test_cases_of_other_networks_and_unknown_looks_are_refused():
    other = NetworkCase("other", None, TRUTH, {"right": TRUTH}, (1.0, 1.0))
    with pytest.raises(InputError, match="other: has masks of right, not of right, shifted"):
        draw_networks([CASE, other])
    with pytest.raises(InputError, match="there is no case"):
        draw_networks([])
    with pytest.raises(InputError, match="did you mean 'errors'"):
        draw_networks([CASE], look="error")


def test_a_figure_is_a_picture(tmp_path):
    with pytest.raises(InputError, match=r"ends in .png, .pdf or .svg"):
        write_network_figure(["a", "b"], tmp_path / "x.html")
    with pytest.raises(InputError, match="names has 1 entries for 2 runs"):
        write_network_figure(["a", "b"], tmp_path / "x.png", names=["a"])


def test_titles_that_differ_at_their_end_can_be_told_apart():
    names = [f"UNETR + DTC, receptive field {field}" for field in (1, 2, 4, "infinite")]
    case = replace(CASE, masks=dict.fromkeys(names, next(iter(CASE.masks.values()))))
    titles = [axes.get_title() for axes in draw_networks([case]).axes]
    assert [title.replace("\n", " ") for title in titles[-4:]] == names
    assert max(len(line) for title in titles for line in title.split("\n")) <= 26
