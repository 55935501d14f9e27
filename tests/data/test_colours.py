"""Colours of classes: how they are written, and that each class has one of its own."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import class_colours, colour_numbers, default_colour, parse_colour
from deconvseg.errors import InputError
from deconvseg.reporting.style import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, WRONG_CLASS

NAMES = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=8)
COLOURS = st.tuples(*[st.integers(0, 255)] * 3).map(lambda rgb: "#{:02x}{:02x}{:02x}".format(*rgb))


@given(COLOURS)
def test_a_colour_is_read_as_it_is_written(colour):
    assert parse_colour(colour.upper()) == parse_colour(f" {colour} ") == colour
    assert "#{:02x}{:02x}{:02x}".format(*colour_numbers(colour)) == colour


@pytest.mark.parametrize("text", ["", "red", "#12", "#12345", "#1234567", "ff8800", "#ggg", "#١٢٣", "1,2,3"])
def test_what_is_no_colour_is_refused(text):
    with pytest.raises(InputError, match="is not a colour; write it as #rrggbb"):
        parse_colour(text)


@given(NAMES)
def test_without_declared_colours_each_class_has_that_of_its_place(names):
    assert class_colours(names) == {name: default_colour(place) for place, name in enumerate(names)}


@given(NAMES, st.dictionaries(st.text(max_size=5), COLOURS, max_size=4))
def test_declared_colours_are_kept_and_all_others_differ_from_them(names, declared):
    declared |= {name: default_colour(0) for name in names[-1:]}
    colours = class_colours(names, declared)
    assert list(colours) == names
    assert all(colours[name] == declared[name] for name in names if name in declared)
    others = [colours[name] for name in names if name not in declared]
    assert not set(others) & {declared[name] for name in names if name in declared}


# Machado, Oliveira and Fernandes (IEEE TVCG 2009), severity 1.0, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, deficiency):
    """CIE L*a*b* (D65) of a colour as someone with that deficiency sees it."""
    values = np.array(colour_numbers(colour)) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    x, y, z = np.cbrt(xyz / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_the_first_seven_colours_differ_with_any_colour_vision(deficiency):
    seen = [lab(default_colour(place), deficiency) for place in range(7)]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 15


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_kinds_of_errors_differ_with_any_colour_vision(deficiency):
    kinds = (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS)
    seen = [lab(colour, deficiency) for colour in kinds]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 30
