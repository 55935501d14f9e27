"""Post-processing against plain definitions, and what must hold for any mask."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deconvseg.data import Geometry, LabelMap, Region
from deconvseg.errors import InputError
from deconvseg.inference import (
    Postprocessing,
    apply,
    apply_to_regions,
    component_volumes,
    make_step,
    read_postprocessing,
)

LABELS = (Region("a", (1,), 1), Region("b", (2,), 2), Region("c", (3,), 3))
ALL = Region("all foreground", (1, 2, 3), 1)
# As BraTS has them: whole tumour, tumour core, enhancing tumour.
NESTED = (Region("WT", (1, 2, 3), 1), Region("TC", (2, 3), 2), Region("ET", (3,), 3))


def post(*steps):
    return Postprocessing(steps=steps)


def label_map(pixels, spacing=None):
    pixels = np.asarray(pixels)
    return LabelMap(pixels, Geometry(np.diag([*(spacing or (1.0,) * pixels.ndim), 1.0])))


def processed(pixels, *steps, spacing=None):
    return apply(post(*steps), label_map(pixels, spacing)).pixels


@st.composite
def masks(draw):
    dims = draw(st.sampled_from((2, 3)))
    shape = draw(hnp.array_shapes(min_dims=dims, max_dims=dims, min_side=1, max_side=9 if dims == 2 else 5))
    # Blocks, so that there are components of several sizes, with holes.
    coarse = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from((0, 0, 0, 1, 1, 2, 3))))
    return np.kron(coarse, np.ones(draw(st.sampled_from((1, 2))), np.uint8)) if dims == 2 else coarse


@st.composite
def chosen_steps(draw, structures, fill=True):
    steps, painted = [], [structure for structure in structures if structure != ALL]
    for structure in structures:
        if draw(st.booleans()):
            steps.append(make_step("keep_largest", structure, painted))
        elif draw(st.booleans()):
            steps.append(make_step("remove_small", structure, painted, draw(st.sampled_from((1.5, 3.0, 8.0)))))
        if fill and structure != ALL and draw(st.booleans()):
            steps.append(make_step("fill_holes", structure, painted))
    return steps


settings_ = settings(deadline=None, max_examples=60)


@settings_
@given(masks(), st.sampled_from(((ALL, *LABELS), NESTED)).flatmap(chosen_steps))
def test_applied_again_it_changes_nothing(pixels, steps):
    once = processed(pixels, *steps)
    assert np.array_equal(processed(once, *steps), once)


@settings_
@given(masks(), st.sampled_from(((ALL, *LABELS), NESTED)), st.data())
def test_only_the_filling_of_holes_adds(pixels, structures, data):
    after = processed(pixels, *data.draw(chosen_steps(structures, fill=False)))
    for structure in structures:
        assert not (np.isin(after, structure.labels) & ~np.isin(pixels, structure.labels)).any()


@settings_
@given(masks(), chosen_steps((ALL, *LABELS), fill=False))
def test_what_is_removed_from_a_label_becomes_background(pixels, steps):
    after = processed(pixels, *steps)
    assert ((after == pixels) | (after == 0)).all()


@settings_
@given(masks(), chosen_steps(NESTED))
def test_nothing_that_is_given_is_written_to(pixels, steps):
    before = pixels.copy()
    processed(pixels, *steps)
    assert np.array_equal(pixels, before)


def flood(mask, faces):
    """Connected components by the definition: a list of sets of voxels."""
    steps = [step for step in itertools.product((-1, 0, 1), repeat=mask.ndim) if any(step)]
    steps = [step for step in steps if not faces or np.abs(step).sum() == 1]
    left, components = {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}, []
    while left:
        front, found = [left.pop()], set()
        while front:
            voxel = front.pop()
            found.add(voxel)
            near = {tuple(a + b for a, b in zip(voxel, step, strict=True)) for step in steps} & left
            left -= near
            front += near
        components.append(found)
    return components


@settings_
@given(masks(), st.sampled_from((1.0, 2.5)))
def test_small_and_largest_by_the_definition(pixels, length):
    spacing = (length,) * pixels.ndim
    mask = (pixels > 0).astype(np.uint8)
    components = flood(mask, faces=False)
    volumes = sorted(len(found) * length**pixels.ndim for found in components)
    assert sorted(component_volumes(mask > 0, spacing)) == pytest.approx(volumes)
    one = (LABELS[0],)
    kept = processed(mask, make_step("remove_small", LABELS[0], one, 3.1), spacing=spacing)
    assert kept.sum() == sum(len(found) for found in components if len(found) * length**pixels.ndim >= 3.1)
    largest = processed(mask, make_step("keep_largest", LABELS[0], one))
    assert largest.sum() == max((len(found) for found in components), default=0)
    assert len(flood(largest, faces=False)) == min(len(components), 1)


@settings_
@given(masks())
def test_holes_by_the_definition(pixels):
    after = processed(pixels, make_step("fill_holes", LABELS[0], LABELS))
    expected = pixels.copy()
    for hole in flood(pixels != 1, faces=True):
        inside = all(0 < x < n - 1 for voxel in hole for x, n in zip(voxel, pixels.shape, strict=True))
        if inside and all(pixels[voxel] == 0 for voxel in hole):
            for voxel in hole:
                expected[voxel] = 1
    assert np.array_equal(after, expected)


def test_what_is_removed_from_a_region_becomes_the_region_around_it():
    pixels = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 3, 2, 1, 3, 1, 0], [1, 1, 1, 1, 1, 1, 1]])
    core = processed(pixels, make_step("keep_largest", NESTED[1], NESTED))
    assert core.tolist()[1] == [1, 3, 2, 1, 1, 1, 0]
    enhancing = processed(pixels, make_step("remove_small", NESTED[2], NESTED, 2.0))
    assert enhancing.tolist()[1] == [1, 2, 2, 1, 2, 1, 0]
    whole = processed(np.array([[1, 3, 0, 3]]), make_step("keep_largest", NESTED[0], NESTED))
    assert whole.tolist() == [[1, 3, 0, 0]]


def test_a_hole_of_a_region_is_filled_with_the_region_around_it_too():
    pixels = np.full((5, 5), 3)
    pixels[2, 2] = 1
    assert (processed(pixels, make_step("fill_holes", NESTED[2], NESTED))[2, 2]) == 1
    pixels[2, 2] = 2
    assert (processed(pixels, make_step("fill_holes", NESTED[2], NESTED))[2, 2]) == 3


def separate(pixels, structures):
    return np.array([np.isin(pixels, structure.labels) for structure in structures], np.uint8)


@settings_
@given(masks(), st.data())
def test_regions_with_a_mask_each_become_those_of_the_painted_mask(pixels, data):
    structures = data.draw(st.sampled_from((LABELS, NESTED)))
    targets = structures if structures is NESTED else (ALL, *structures)
    steps = data.draw(chosen_steps(targets))
    found = separate(pixels, structures)
    apply_to_regions(post(*steps), found, structures, (1.0,) * pixels.ndim)
    assert np.array_equal(found, separate(processed(pixels, *steps), structures))


def test_a_region_outside_the_one_around_it_is_removed_by_itself():
    whole, core = [1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 1]
    found = np.array([[whole], [core]], np.uint8)
    apply_to_regions(post(make_step("keep_largest", NESTED[0], NESTED)), found, NESTED[:2], (1.0, 1.0))
    assert found[:, 0].tolist() == [whole, core]
    apply_to_regions(post(make_step("keep_largest", NESTED[1], NESTED)), found, NESTED[:2], (1.0, 1.0))
    assert found[:, 0].tolist() == [whole, [0, 0, 1, 0, 0, 0, 0]]


def test_a_lesion_in_an_organ_is_no_hole():
    pixels = np.ones((7, 7), int)
    pixels[3, 3], pixels[1, 1] = 2, 0
    after = processed(pixels, make_step("fill_holes", LABELS[0], LABELS))
    assert (after[3, 3], after[1, 1]) == (2, 1)


class TestFile:
    def test_a_folder_without_one_has_no_steps(self, tmp_path):
        assert read_postprocessing(tmp_path) == Postprocessing()

    def test_it_comes_back_as_it_was_written(self, tmp_path):
        written = post(make_step("remove_small", NESTED[2], NESTED, 12.5), make_step("fill_holes", NESTED[1], NESTED))
        written.write(tmp_path)
        assert read_postprocessing(tmp_path) == written
        assert json.loads((tmp_path / "postprocessing.json").read_text())["steps"][0]["enclosing"] == {"3": 2}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"step": "erode"}, "steps.0.step"),
            ({"minimum_volume": None}, "minimum_volume belongs to remove_small"),
            ({"labels": [3, 0]}, "0 is the background"),
            ({"enclosing": {"3": 3}}, "values outside it"),
            ({"script": "rm"}, "steps.0.script"),
        ],
    )
    def test_a_wrong_one_is_refused_by_key(self, tmp_path, change, message):
        tree = json.loads(post(make_step("remove_small", NESTED[2], NESTED, 12.5)).model_dump_json())
        tree["steps"][0].update(change)
        (tmp_path / "postprocessing.json").write_text(json.dumps(tree))
        with pytest.raises(InputError, match=message):
            read_postprocessing(tmp_path)


def test_values_that_the_masks_type_does_not_hold_are_written_whole():
    nested = (Region("outer", (1, 300), 300), Region("inner", (1,), 1))
    pixels = np.zeros((6, 9), np.uint8)
    pixels[1:5, 1:5] = pixels[2, 7] = 1
    pixels[2, 2] = 0
    largest = make_step("keep_largest", nested[1], nested)
    assert set(np.unique(processed(pixels, largest))) == {0, 1, 300}
    assert processed(pixels, make_step("fill_holes", nested[0], nested))[2, 2] == 300
