"""Images are interpolated, label maps never are; both stay where they are in the world."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from deconvseg.data import Geometry, Image, LabelMap
from deconvseg.errors import InputError

shapes = st.lists(st.integers(1, 7), min_size=2, max_size=3).map(tuple)


@st.composite
def shape_pairs(draw):
    old = draw(shapes)
    return old, tuple(draw(st.integers(1, 12)) for _ in old)


@settings(deadline=None, max_examples=60)
@given(pair=shape_pairs(), seed=st.integers(0, 100))
def test_a_world_coordinate_is_resampled_to_itself(pair, seed):
    old, new = pair
    dims = len(old)
    affine = np.eye(dims + 1)
    rng = np.random.default_rng(seed)
    affine[:dims, :dims] += 0.3 * rng.normal(size=(dims, dims)) * (1 - np.eye(dims)) / dims
    geometry = Geometry(affine)

    def first_coordinate(grid, shape):
        indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        return (indices @ grid.affine[:-1, :-1].T + grid.affine[:-1, -1])[..., 0]

    image = Image(first_coordinate(geometry, old)[None].astype(np.float32), geometry).resampled(new)
    expected = first_coordinate(image.geometry, new)
    inside = np.ones(new, dtype=bool)
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        position = (np.arange(after) + 0.5) * before / after - 0.5
        between = (position >= 0) & (position <= before - 1)  # beyond the last centre the edge value is repeated
        inside &= between.reshape([-1 if other == axis else 1 for other in range(dims)])
    assert np.allclose(image.pixels[0][inside], expected[inside], atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(pair=shape_pairs(), seed=st.integers(0, 100))
def test_nearest_neighbour_is_torchs_exact_one(pair, seed):
    old, new = pair
    pixels = np.random.default_rng(seed).integers(-5, 300, size=old)
    resampled = LabelMap(pixels, Geometry.identity(len(old))).resampled(new)
    expected = F.interpolate(torch.from_numpy(pixels)[None, None].double(), size=new, mode="nearest-exact")
    # at exact ties between two voxels either one is nearest: compare where the position is unambiguous
    unambiguous = np.ones(new, dtype=bool)
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        position = (2 * np.arange(after) + 1) * before
        clear = position % (2 * after) != 0
        unambiguous &= clear.reshape([-1 if other == axis else 1 for other in range(len(old))])
    assert np.array_equal(resampled.pixels[unambiguous], expected[0, 0].numpy()[unambiguous])
    assert resampled.pixels.dtype == pixels.dtype
    assert set(np.unique(resampled.pixels)) <= set(np.unique(pixels))


@settings(deadline=None, max_examples=60)
@given(pair=shape_pairs(), seed=st.integers(0, 100))
def test_smooth_resampling_is_the_argmax_of_interpolated_one_hot_maps(pair, seed):
    old, new = pair
    pixels = np.random.default_rng(seed).choice([-3, 0, 7, 255], size=old)
    resampled = LabelMap(pixels, Geometry.identity(len(old))).resampled_smooth(new)
    values = np.unique(pixels)
    maps = torch.from_numpy(LabelMap(pixels, Geometry.identity(len(old))).one_hot(values))[None]
    mode = "bilinear" if len(old) == 2 else "trilinear"
    interpolated = F.interpolate(maps, size=new, mode=mode, align_corners=False)[0]
    assert np.array_equal(resampled.pixels, values[interpolated.argmax(0).numpy()])


@pytest.mark.parametrize("method", ["resampled", "resampled_smooth"])
@settings(deadline=None, max_examples=30)
@given(pixels=hnp.arrays(np.int16, shapes, elements=st.integers(-2, 4)), factor=st.sampled_from([1, 3, 5]))
def test_labels_upsampled_by_odd_factors_keep_the_voxel_centres(method, pixels, factor):
    label_map = LabelMap(pixels, Geometry.identity(pixels.ndim))
    larger = getattr(label_map, method)([size * factor for size in pixels.shape])
    centres = tuple(slice(factor // 2, None, factor) for _ in pixels.shape)
    assert np.array_equal(larger.pixels[centres], pixels)
    assert np.array_equal(larger.resampled(pixels.shape).pixels, pixels)


def test_one_hot_maps_are_one_where_the_label_is():
    label_map = LabelMap(np.array([[0, 7], [255, 7]]), Geometry.identity(2))
    assert label_map.one_hot([7, 255, 3]).tolist() == [[[0, 1], [0, 1]], [[0, 0], [1, 0]], [[0, 0], [0, 0]]]


def test_pixels_and_geometry_must_fit():
    with pytest.raises(InputError, match="2D geometry"):
        Image(np.zeros((4, 4), np.float32), Geometry.identity(2))
    with pytest.raises(InputError, match="2D geometry"):
        LabelMap(np.zeros((4, 4, 4), np.uint8), Geometry.identity(2))
    with pytest.raises(InputError, match="float64"):
        LabelMap(np.zeros((4, 4)), Geometry.identity(2))
