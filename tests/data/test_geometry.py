"""Axis orders move arrays and affines together: no voxel ever moves in the world."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from deconvseg.data import AxisOrder, Geometry, Image, LabelMap
from deconvseg.errors import InputError

SHAPE = (3, 4, 5)
ORDERS = [
    (permutation, signs)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def affine_of(permutation, signs, spacing=(1.0, 1.0, 1.0), tilt=(0.0, 0.0, 0.0), origin=(0.0, 0.0, 0.0)):
    affine = np.eye(4)
    axes = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(permutation, signs, strict=True)):
        axes[world, axis] = sign
    affine[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ axes @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def world_of_every_voxel(affine, shape):
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return indices @ affine[:-1, :-1].T + affine[:-1, -1]


orders = st.sampled_from(ORDERS)
spacings = st.tuples(*[st.floats(0.2, 7)] * 3)
tilts = st.tuples(*[st.floats(-30, 30)] * 3)
shapes = st.tuples(*[st.integers(1, 6)] * 3)
origins = st.tuples(*[st.floats(-300, 300)] * 3)


@pytest.mark.parametrize(("permutation", "signs"), ORDERS)
def test_every_axis_orientation_becomes_ras_and_back(permutation, signs):
    geometry = Geometry(affine_of(permutation, signs, spacing=(0.5, 2.0, 3.0), origin=(7, -8, 9)))
    pixels = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    order = geometry.axis_order()
    canonical = order.apply_geometry(geometry, SHAPE)
    assert nib.aff2axcodes(canonical.affine) == ("R", "A", "S")
    assert np.array_equal(order.undo(order.apply(pixels)), pixels)


@settings(deadline=None, max_examples=150)
@given(order=orders, spacing=spacings, tilt=tilts, shape=shapes, origin=origins)
def test_oblique_grids_keep_every_voxel_in_its_place(order, spacing, tilt, shape, origin):
    geometry = Geometry(affine_of(*order, spacing, tilt, origin))
    axis_order = geometry.axis_order()
    canonical = axis_order.apply_geometry(geometry, shape)
    world = np.moveaxis(world_of_every_voxel(geometry.affine, shape), -1, 0)
    moved = np.moveaxis(axis_order.apply(world), 0, -1)
    assert np.allclose(world_of_every_voxel(canonical.affine, moved.shape[:-1]), moved, atol=1e-9)
    assert canonical.axis_order() == AxisOrder((0, 1, 2), (False, False, False))
    assert np.allclose(sorted(canonical.spacing), sorted(geometry.spacing))


@settings(deadline=None, max_examples=60)
@given(order=orders, spacing=spacings, tilt=tilts, shape=shapes)
def test_canonical_equals_nibabels(order, spacing, tilt, shape):
    affine = affine_of(*order, spacing, tilt)
    pixels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    expected = nib.as_closest_canonical(nib.Nifti1Image(pixels, affine))
    image = Image(pixels[None], Geometry(affine)).canonical()
    label_map = LabelMap(pixels.astype(np.int32), Geometry(affine)).canonical()
    assert np.array_equal(image.pixels[0], expected.get_fdata())
    assert np.array_equal(label_map.pixels, expected.get_fdata())
    assert np.allclose(image.geometry.affine, expected.affine)
    assert image.geometry.matches(label_map.geometry, tolerance=0)


@settings(deadline=None, max_examples=60)
@given(order=orders, leading=st.integers(0, 2), shape=shapes)
def test_leading_axes_stay(order, leading, shape):
    axis_order = Geometry(affine_of(*order)).axis_order()
    array = np.random.default_rng(0).normal(size=(*(2, 3)[:leading], *shape))
    moved = axis_order.apply(array)
    assert moved.flags.c_contiguous
    assert moved.shape == (*array.shape[:leading], *(shape[axis] for axis in axis_order.permutation))
    assert np.array_equal(axis_order.undo(moved), array)


def test_two_dimensional_axes_stay():
    geometry = Geometry(np.diag([-2.0, 3.0, 1.0]))
    assert geometry.axis_order() == AxisOrder((0, 1), (False, False))
    assert geometry.spatial_dims == 2


def test_spacing_direction_and_origin_make_up_the_affine():
    affine = affine_of((2, 0, 1), (1, -1, 1), (0.5, 2.0, 3.0), (5, 6, 7), (1, 2, 3))
    geometry = Geometry(affine)
    assert geometry.spacing == pytest.approx((0.5, 2.0, 3.0))
    assert geometry.origin == (1, 2, 3)
    assert np.allclose(geometry.direction @ np.diag(geometry.spacing), affine[:3, :3])
    assert np.allclose(geometry.direction.T @ geometry.direction, np.eye(3))


def test_matching_is_to_a_thousandth_of_a_millimetre():
    geometry = Geometry.identity(3)
    near, far = np.eye(4), np.eye(4)
    near[0, 3], far[0, 3] = 0.9e-3, 1.1e-3
    assert geometry.matches(Geometry(near))
    assert not geometry.matches(Geometry(far))
    assert not geometry.matches(Geometry.identity(2))


@settings(deadline=None, max_examples=60)
@given(order=orders, spacing=spacings, tilt=tilts, old=shapes, new=shapes)
def test_resampling_keeps_the_outer_edges(order, spacing, tilt, old, new):
    geometry = Geometry(affine_of(*order, spacing, tilt))
    resampled = geometry.resampled(old, new)
    for corner in itertools.product((0, 1), repeat=3):
        before = geometry.affine @ [*(np.multiply(corner, old) - 0.5), 1]
        after = resampled.affine @ [*(np.multiply(corner, new) - 0.5), 1]
        assert np.allclose(before, after, atol=1e-9)
    assert np.allclose(np.multiply(resampled.spacing, new), np.multiply(geometry.spacing, old))


def test_an_affine_cannot_be_changed_in_place():
    source = np.eye(4)
    geometry = Geometry(source)
    source[0, 3] = 5
    assert geometry.origin == (0, 0, 0)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 3] = 5


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([1.0, 0, 1, 1]), "singular"),
        (np.diag([1.0, np.nan, 1, 1]), "NaN"),
        (np.eye(4)[:3], "square"),
    ],
)
def test_impossible_affines_are_refused(affine, message):
    with pytest.raises(InputError, match=message):
        Geometry(affine)
