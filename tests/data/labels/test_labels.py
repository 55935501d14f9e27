"""Label values to consecutive ids and back."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deconvseg.data import LabelEncoding, count_values
from deconvseg.errors import InputError

values = st.lists(st.integers(-(2**31), 2**31), min_size=0, max_size=20, unique=True)


@settings(deadline=None, max_examples=100)
@given(values=values, seed=st.integers(0, 1000))
def test_decoding_undoes_encoding(values, seed):
    encoding = LabelEncoding.from_values(values)
    pixels = np.random.default_rng(seed).choice(np.asarray(encoding.values, dtype=np.int64), size=(3, 4, 2))
    ids = encoding.encode(pixels)
    assert ids.dtype == np.uint8
    assert np.array_equal(encoding.decode(ids), pixels)
    assert encoding.values[0] == 0
    assert np.array_equal(ids == 0, pixels == 0)


def test_background_comes_first_even_below_negative_values_and_when_absent():
    assert LabelEncoding.from_values([255, -4]).values == (0, -4, 255)
    assert LabelEncoding.from_values([]).values == (0,)
    assert LabelEncoding.from_values([2, 1], {1: "Anterior"}).names == ("background", "Anterior", "label 2")


def test_the_order_of_given_values_is_kept():
    encoding = LabelEncoding((0, 9, 4), ("background", "nine", "four"))
    assert encoding.encode(np.array([4, 9, 0, 4])).tolist() == [2, 1, 0, 2]
    assert encoding.decode(np.array([2, 1, 0])).tolist() == [4, 9, 0]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([255], np.uint8), ([256], np.uint16), ([65536], np.int32), ([-1], np.int32), ([2**40], np.int64)],
)
def test_the_decoded_type_is_the_smallest_that_fits_every_value(values, dtype):
    assert LabelEncoding.from_values(values).decode(np.zeros(3, np.uint8)).dtype == dtype


def test_more_than_256_classes_take_int16():
    encoding = LabelEncoding.from_values(range(300))
    ids = encoding.encode(np.arange(300))
    assert ids.dtype == np.int16
    assert np.array_equal(ids, np.arange(300))


def test_unknown_values_are_listed_with_the_file():
    with pytest.raises(InputError, match=r"case7\.png has the label values 3, 9, but the known ones are 0, 1, 2"):
        LabelEncoding.from_values([1, 2]).encode(np.array([0, 9, 3, 1, 9]), where="case7.png")
    with pytest.raises(InputError, match="the mask has the label values -1,"):
        LabelEncoding.from_values([1]).encode(np.array([-1]))


@settings(deadline=None, max_examples=50)
@given(pixels=hnp.arrays(np.int32, (4, 5), elements=st.integers(0, 2**20)))
def test_foreground_is_every_label_above_zero(pixels):
    encoding = LabelEncoding.foreground()
    ids = encoding.encode(pixels)
    assert np.array_equal(ids, pixels > 0)
    assert np.array_equal(encoding.decode(ids), ids)


@settings(deadline=None, max_examples=50)
@given(values=values, ignore=st.integers(-(2**31), 2**31), seed=st.integers(0, 1000))
def test_the_ignore_label_has_the_id_behind_the_last_class(values, ignore, seed):
    if ignore == 0:
        return
    encoding = LabelEncoding.from_values(values, ignore=ignore)
    known = np.asarray([*encoding.values, ignore], dtype=np.int64)
    pixels = np.random.default_rng(seed).choice(known, size=(3, 4, 2))
    ids = encoding.encode(pixels)
    assert encoding.ignore_id == len(encoding) == len(known) - 1
    assert np.array_equal(ids == encoding.ignore_id, pixels == ignore)
    assert np.array_equal(encoding.decode(ids), pixels)


def test_the_ignore_label_is_no_foreground_and_no_class():
    encoding = LabelEncoding.foreground(ignore=1)
    assert encoding.encode(np.array([0, 1, 2, 7])).tolist() == [0, 2, 1, 1]
    assert LabelEncoding.from_values([1, 2]).ignore_id is None
    with pytest.raises(InputError, match="the ignore label 2 is the value of a class too"):
        LabelEncoding((0, 2), ("background", "two"), ignore=2)


def test_an_encoding_needs_distinct_named_values():
    for values, names in (((0, 1, 1), ("a", "b", "c")), ((0, 1), ("a",))):
        with pytest.raises(InputError, match="distinct values"):
            LabelEncoding(values, names)


@settings(deadline=None, max_examples=50)
@given(pixels=hnp.arrays(np.int32, (3, 5), elements=st.integers(-3, 2**17)))
def test_counts_are_numpys(pixels):
    found, voxels = np.unique(pixels, return_counts=True)
    assert count_values(pixels) == dict(zip(found.tolist(), voxels.tolist(), strict=True))


def test_booleans_are_counted_as_zero_and_one():
    assert count_values(np.array([[True, False, True]])) == {0: 1, 1: 2}


def test_counting_takes_little_memory_beside_the_mask():
    pixels = np.zeros((128, 160, 160), np.uint8)
    pixels[:, 3], pixels[5] = 7, 255
    tracemalloc.start()
    try:
        counts = count_values(pixels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts == {0: 127 * 159 * 160, 7: 127 * 160, 255: 160 * 160}
    assert peak < 2**20 * 9 + 2**16  # a block in int64, not eight times the mask
