"""Overlays: the right slice, the right way up, in the paper's colours."""

import numpy as np
import pytest

from deconvseg.errors import InputError
from deconvseg.reporting import case_panel
from deconvseg.reporting.overlay import case_views
from deconvseg.reporting.picking import busiest_slice
from deconvseg.reporting.style import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, WRONG_CLASS, rgb

BLUE, GREEN, RED = (rgb(colour) for colour in (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE))


def nearest_colour(pixel, colours):
    """The colour whose direction from grey the pixel has."""
    tinted = [np.corrcoef(pixel.astype(float), colour)[0, 1] for colour in colours]
    return int(np.argmax(tinted))


def box(shape, *parts, value=1):
    mask = np.zeros(shape, int)
    mask[tuple(slice(*part) for part in parts)] = value
    return mask


class TestErrors:
    def test_true_positives_blue_false_positives_green_false_negatives_red(self):
        truth, prediction = box((30, 30), (5, 25), (5, 20)), box((30, 30), (5, 25), (10, 25))
        drawn = case_views(np.full((1, 30, 30), 7.0), truth, prediction, spacing=(1.0, 1.0))
        errors = drawn.views["Errors"]
        middle = errors.shape[0] // 2
        columns = [int(errors.shape[1] * place / 30) for place in (15.0, 22.5, 7.5)]
        found = [nearest_colour(errors[middle, column], (BLUE, GREEN, RED)) for column in columns]
        assert found == [0, 1, 2]
        assert drawn.errors == {
            "true positive": TRUE_POSITIVE,
            "false positive": FALSE_POSITIVE,
            "false negative": FALSE_NEGATIVE,
        }
        outside = errors[int(errors.shape[0] * 0.07), int(errors.shape[1] * 0.07)]
        assert len(set(outside.tolist())) == 1

    def test_a_wrong_class_has_its_own_colour_and_classes_theirs(self):
        truth, prediction = box((30, 30), (5, 25), (5, 25)), box((30, 30), (5, 25), (5, 25), value=2)
        drawn = case_views(None, truth, prediction, spacing=(1.0, 1.0), labels={1: "head", 2: "tail"})
        middle = drawn.views["Errors"][280, 280]
        assert nearest_colour(middle, [*(BLUE, GREEN, RED), rgb(WRONG_CLASS)]) == 3
        assert list(drawn.classes) == ["head", "tail"]
        assert drawn.views["Truth"][280, 280].tolist() != drawn.views["Prediction"][280, 280].tolist()


class TestSlice:
    def test_the_one_with_the_most_foreground_of_either_mask(self):
        truth, prediction = box((9, 9, 6), (2, 5), (2, 5), (1, 2)), box((9, 9, 6), (2, 8), (2, 8), (4, 5))
        assert busiest_slice(truth, prediction) == 4
        assert busiest_slice(truth, truth) == 1
        assert busiest_slice(np.zeros((9, 9, 6)), np.zeros((9, 9, 6))) == 3

    def test_front_at_the_top_and_the_patients_right_on_the_left(self):
        image = np.zeros((1, 20, 30, 3))
        image[0, 15:, 25:, 1] = 1.0
        mask = box((20, 30, 3), (5, 15), (5, 25), (1, 2))
        view = case_views(image, mask, mask, spacing=(1.0, 1.0, 1.0)).views["Image"]
        height, width = view.shape[:2]
        assert height / width == pytest.approx(1.5, rel=0.01)
        assert view[height // 20, width // 20].min() > 200
        assert view[-height // 20, -width // 20].max() < 50

    def test_pixels_become_square_millimetres(self):
        mask = box((20, 20, 4), (5, 15), (5, 15), (1, 2))
        height, width = case_views(None, mask, mask, spacing=(1.0, 3.0, 1.0)).views["Truth"].shape[:2]
        assert height / width == pytest.approx(3.0, rel=0.01)
        height, width = case_views(None, mask[..., 1], mask[..., 1], spacing=(1.0, 3.0)).views["Truth"].shape[:2]
        assert width / height == pytest.approx(3.0, rel=0.01)


class TestViews:
    def test_a_small_foreground_is_enlarged_and_framed_in_the_image(self):
        mask = box((300, 400), (50, 60), (350, 362))
        drawn = case_views(np.zeros((1, 300, 400)), mask, mask, spacing=(1.0, 1.0))
        assert drawn.zoomed
        assert {view.shape for view in drawn.views.values()} == {(420, 560, 3)}
        assert (drawn.views["Image"] == 255).all(axis=-1).any()
        foreground = np.ptp(drawn.views["Truth"], axis=-1) > 40
        assert foreground.mean() == pytest.approx(10 * 12 / (75 * 100), rel=0.15)

    def test_a_large_foreground_is_shown_whole(self):
        mask = box((30, 40), (2, 28), (2, 38))
        assert not case_views(np.zeros((1, 30, 40)), mask, mask, spacing=(1.0, 1.0)).zoomed

    def test_colour_images_stay_coloured_and_others_show_their_first_channel(self):
        mask = box((30, 30), (5, 6), (5, 25))
        image = np.stack([np.full((30, 30), level, float) for level in (200, 100, 0)])
        image[:, :3] = 255
        image[:, -3:] = 0
        pixel = case_views(image, mask, mask, spacing=(1.0, 1.0)).views["Image"][300, 300]
        assert pixel[0] > pixel[1] > pixel[2]
        pixel = case_views(image[[1, 0]], mask, mask, spacing=(1.0, 1.0)).views["Image"][300, 300]
        assert pixel[0] == pixel[1] == pixel[2]

    def test_without_an_image_the_masks_are_shown_alone(self):
        mask = box((30, 30), (5, 6), (5, 25))
        assert list(case_views(None, mask, mask, spacing=(1.0, 1.0)).views) == ["Truth", "Prediction", "Errors"]

    def test_a_constant_image_and_empty_masks(self):
        empty = np.zeros((8, 8), int)
        drawn = case_views(np.full((1, 8, 8), 3.0), empty, empty, spacing=(1.0, 1.0))
        assert len(np.unique(drawn.views["Errors"])) == 1

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(InputError, match="two masks of one 2D or 3D shape"):
            case_views(None, np.zeros((3, 4)), np.zeros((4, 3)), spacing=(1.0, 1.0))
        with pytest.raises(InputError, match=r"the image \(C, \*S\) is \(1, 4, 3\), but the masks are \(3, 4\)"):
            case_views(np.zeros((1, 4, 3)), np.zeros((3, 4)), np.zeros((3, 4)), spacing=(1.0, 1.0))


def test_the_panel_is_a_figure_with_views_title_and_legend():
    mask = box((30, 30), (5, 20), (5, 25))
    figure = case_panel(np.zeros((1, 30, 30)), mask, mask, spacing=(1.0, 1.0), title="case 7", labels={1: "nucleus"})
    assert [axes.get_title() for axes in figure.axes] == ["Image", "Truth", "Prediction", "Errors"]
    assert figure.get_suptitle() == "case 7"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["nucleus", "true positive", "false positive", "false negative"]
