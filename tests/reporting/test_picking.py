"""The slice and the channel that show most, by construction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.reporting.picking import PLANES, busiest_slice, clearest_channel, contrast, wrongest_slice


def block(shape, *parts, value=1):
    mask = np.zeros(shape, int)
    mask[tuple(slice(*part) for part in parts)] = value
    return mask


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(PLANES)))
@settings(deadline=None, max_examples=30)
def test_no_slice_has_more_wrong_voxels(seed, plane):
    rng = np.random.default_rng(seed)
    truth, prediction = (rng.integers(0, 3, (5, 6, 7)) for _ in range(2))
    wrong = (truth != prediction).sum(axis=tuple(axis for axis in range(3) if axis != PLANES[plane]))
    assert wrong[wrongest_slice(truth, prediction, plane)] == wrong.max()


def test_of_equally_wrong_slices_the_one_with_most_foreground():
    truth = block((8, 8, 5), (0, 4), (0, 4), (3, 4))
    prediction = truth.copy()
    prediction[7, 7, 1] = prediction[7, 7, 3] = 1
    assert wrongest_slice(truth, prediction) == 3


def test_without_a_wrong_voxel_the_slice_with_most_foreground():
    truth = block((8, 8, 5), (0, 4), (0, 4), (4, 5))
    assert wrongest_slice(truth, truth) == busiest_slice(truth, truth) == 4
    assert wrongest_slice(truth * 0, truth * 0) == 2


def test_a_missed_case_shows_the_slice_with_most_truth():
    truth = block((8, 8, 5), (0, 2), (0, 2), (0, 5)) | block((8, 8, 5), (0, 6), (0, 6), (1, 2))
    assert wrongest_slice(truth, truth * 0) == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_channel_whose_truth_stands_out_of_its_surroundings(place):
    rng = np.random.default_rng(place)
    mask = block((40, 40, 6), (10, 20), (10, 20), (2, 4))
    image = rng.normal(0, 1, (3, 40, 40, 6))
    # Far from the truth another channel is much brighter, which tells nothing about the truth.
    image[(place + 1) % 3, 30:] += 50
    image[place] += 4 * mask
    assert clearest_channel(image, mask) == place


def test_darker_and_scaled_contrast_counts_alike():
    rng = np.random.default_rng(0)
    mask = block((40, 40), (10, 20), (10, 20))
    plain = rng.normal(0, 1, (40, 40))
    image = np.stack([plain + mask, 1e4 - 1e3 * (plain + 3 * mask)])
    assert clearest_channel(image, mask) == 1


def test_nothing_to_compare_gives_the_first_channel():
    image = np.random.default_rng(0).normal(size=(2, 9, 9))
    assert clearest_channel(image, np.zeros((9, 9), int)) == 0
    assert clearest_channel(image, np.ones((9, 9), int)) == 0


def test_contrast_is_the_difference_of_means_over_the_pooled_deviation():
    channel = np.array([1.0, 3.0, 10.0, 14.0])
    inside, around = np.array([True, True, False, False]), np.array([False, False, True, True])
    assert contrast(channel, inside, around, (0, 100)) == pytest.approx(10 / np.sqrt((1 + 4) / 2))
    assert contrast(channel, inside, around, (0, 12)) == pytest.approx(9 / np.sqrt((1 + 1) / 2))
    assert contrast(channel * 0, inside, around, (0, 1)) == 0.0
    assert contrast(inside.astype(float), inside, around, (0, 1)) == np.inf
