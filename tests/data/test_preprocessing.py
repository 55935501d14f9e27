from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deconvseg.data import (
    Geometry,
    Image,
    LabelMap,
    Normalisation,
    Preprocessing,
    match_channels,
    open_dataset,
    preprocess_image,
    preprocess_labels,
)
from deconvseg.data.preprocessing import resampled_shape
from deconvseg.errors import InputError

RNG_VALUES = np.random.default_rng(0).normal(3, 1, (20, 20)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.floats(-1e4, 1e4), st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_zscore_ignores_offset_and_scale(seed: int, offset: float, scale: float) -> None:
    pixels = np.random.default_rng(seed).normal(size=(6, 7)).astype(np.float32)
    normal = Normalisation("zscore")(pixels)
    assert normal.mean() == pytest.approx(0, abs=1e-5)
    assert normal.std() == pytest.approx(1, abs=1e-4)
    changed = Normalisation("zscore")((pixels * np.float32(scale) + np.float32(offset)).astype(np.float32))
    assert np.allclose(changed, normal, atol=2e-2 * max(1, abs(offset) / scale * 1e-4))


def test_zscore_of_the_nonzero_leaves_zeros_alone() -> None:
    pixels = np.array([0, 0, 4, 6, 8], np.float32)
    normal = Normalisation("zscore_nonzero")(pixels)
    assert normal[:2].tolist() == [0, 0]
    assert normal[2:].mean() == pytest.approx(0, abs=1e-6)
    assert normal[2:].std() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", ["zscore", "zscore_nonzero"])
@pytest.mark.parametrize("value", [0.0, 5.0, 1e6])
def test_a_constant_channel_becomes_zero(kind: str, value: float) -> None:
    assert not Normalisation(kind)(np.full((3, 4), value, np.float32)).any()


def test_ct_clips_and_uses_the_datasets_statistics() -> None:
    normal = Normalisation("ct", clip=(-100.0, 300.0), mean=50.0, std=10.0)
    assert normal(np.array([-1000, 50, 1000], np.float32)).tolist() == [-15, 0, 25]
    with pytest.raises(InputError, match="needs 'mean' and 'std'"):
        Normalisation("ct")(np.zeros(3, np.float32))


def test_grey_becomes_rgb_and_other_channels_are_refused() -> None:
    grey = Image(np.ones((1, 4, 4), np.float32), Geometry.identity(2))
    assert match_channels(grey, ("red", "green", "blue")).pixels.shape == (3, 4, 4)
    for names in (("a", "b"), ("T1", "T2", "FLAIR")):
        with pytest.raises(InputError, match=rf"x\.png: 1 channels, but {len(names)} are needed"):
            match_channels(grey, names, "x.png")


def restore(maps, original: Image):
    """Bring maps (K, *S) on the network's grid back to the grid of the original, (K, *shape), linearly."""
    order, canonical = original.geometry.axis_order(), original.canonical()
    back = Image(maps, canonical.geometry.resampled(canonical.shape, maps.shape[1:])).resampled(canonical.shape)
    return order.undo(back.pixels)


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.tuples(*[st.floats(0.4, 3)] * 3))
@settings(max_examples=30, deadline=None)
def test_maps_come_back_to_the_images_own_grid(
    axes: list[int], flips: tuple[bool, ...], spacing: tuple[float, ...]
) -> None:
    """A linear function of world position survives preprocessing and restoring, whatever the axes and spacing."""
    shape = (9, 8, 7)
    affine = np.zeros((4, 4))
    for column, (axis, flip, step) in enumerate(zip(axes, flips, spacing, strict=True)):
        affine[axis, column] = -step if flip else step
    affine[:, 3] = [3, -7, 11, 1]
    voxels = np.stack([*np.meshgrid(*map(np.arange, shape), indexing="ij"), np.ones(shape)])
    world = np.einsum("ij,jxyz->ixyz", affine, voxels)[:3].astype(np.float32)
    image = Image(world, Geometry(affine))
    target = (1.0, 1.0, 1.0)
    there = preprocess_image(image, target, [Normalisation("ct", mean=0.0, std=1.0)] * 3)
    assert np.allclose(there.geometry.spacing, target, atol=0.6)
    back = restore(there.pixels, image)
    assert back.shape == world.shape
    inside = (slice(None), *[slice(3, -3)] * 3)
    assert np.allclose(back[inside], world[inside], atol=1e-2)


def test_without_a_change_of_grid_restoring_is_exact() -> None:
    rng = np.random.default_rng(0)
    affine = np.array([[0, -1.0, 0, 2], [0, 0, 2.0, 3], [-1.5, 0, 0, 4], [0, 0, 0, 1]])
    image = Image(rng.normal(size=(2, 5, 6, 7)).astype(np.float32), Geometry(affine))
    canonical = image.canonical()
    there = preprocess_image(image, canonical.geometry.spacing, [Normalisation("ct", mean=0.0, std=1.0)] * 2)
    assert np.array_equal(restore(there.pixels, image), image.pixels)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6])
def test_spacings_that_differ_by_rounding_alone_are_equal_in_any_unit(unit: float) -> None:
    shape, spacing = (40, 30), (0.5 * unit, 0.25 * unit)
    assert resampled_shape(shape, spacing, [length * (1 + 1e-4) for length in spacing]) == shape
    assert resampled_shape(shape, spacing, [length * 2 for length in spacing]) == (20, 15)


def test_labels_land_on_the_images_grid() -> None:
    affine = np.diag([-0.7, 1.3, 2.6, 1])
    image = Image(np.zeros((1, 11, 9, 5), np.float32), Geometry(affine))
    labels = LabelMap(np.ones((11, 9, 5), np.uint8), Geometry(affine))
    there = preprocess_labels(labels, (1.0, 1.0, 1.0))
    assert there.shape == preprocess_image(image, (1.0, 1.0, 1.0), [Normalisation("ct", mean=0.0, std=1.0)]).shape
    assert (there.pixels == 1).all()


def test_real_case_is_normalised(real_data: Path) -> None:
    dataset = open_dataset(real_data / "hippocampus")
    image = preprocess_image(dataset.load_image(dataset.cases[0]), (1.0, 1.0, 1.0), [Normalisation()])
    assert image.pixels.mean() == pytest.approx(0, abs=1e-4)
    assert image.pixels.std() == pytest.approx(1, abs=1e-4)


def test_images_of_tiny_values_keep_their_scale() -> None:
    pixels = RNG_VALUES * np.float32(1e-10)
    assert np.allclose(Normalisation("zscore")(pixels), Normalisation("zscore")(RNG_VALUES), atol=1e-4)
    constant = np.full((5, 5), 3e-10, np.float32)
    assert not Normalisation("zscore")(constant).any()


def test_image_and_mask_stay_on_one_grid_where_their_headers_differ_in_the_last_digit(tmp_path: Path) -> None:
    for folder, spacing in (("images", 1.5), ("masks", 1.5000001)):
        (tmp_path / folder).mkdir()
        pixels = np.ones((63, 5, 4), np.uint8)
        nib.save(nib.Nifti1Image(pixels, np.diag([spacing, 1, 1, 1])), tmp_path / folder / "a.nii.gz")
    dataset = open_dataset(tmp_path)
    image, labels = dataset.load(dataset.cases[0])
    assert labels is not None
    assert np.array_equal(labels.geometry.affine, image.geometry.affine)
    target = (1.0, 1.0, 1.0)
    prepared = preprocess_image(image, target, [Normalisation()])
    assert preprocess_labels(labels, target).shape == prepared.shape


UNCHANGED = (Normalisation("ct", mean=0.0, std=1.0),)
odd_sizes = st.lists(st.integers(2, 19), min_size=2, max_size=3)


@given(odd_sizes, st.data())
@settings(max_examples=25, deadline=None)
def test_resizing_is_pytorchs_for_images_and_nearest_for_masks(shape: list[int], drawn: st.DataObject) -> None:
    size = tuple(drawn.draw(st.integers(2, 19)) for _ in shape)
    dims, rng = len(shape), np.random.default_rng(shape)
    image = Image(rng.normal(size=(1, *shape)).astype(np.float32), Geometry.identity(dims))
    labels = LabelMap(rng.integers(0, 9, shape), image.geometry)
    # The spacing has no say.
    found = preprocess_image(image, (3.0,) * dims, UNCHANGED, resize=size)
    mode = {2: "bilinear", 3: "trilinear"}[dims]
    expected = F.interpolate(torch.from_numpy(image.pixels)[None], size=size, mode=mode, align_corners=False)[0]
    assert found.shape == size
    np.testing.assert_allclose(found.pixels, expected.numpy(), atol=1e-6)
    mask = preprocess_labels(labels, (3.0,) * dims, resize=size)
    nearest = F.interpolate(torch.from_numpy(labels.pixels)[None, None].double(), size=size, mode="nearest-exact")[0, 0]
    # PyTorch computes places in float32, so ties between two voxels may differ by one of them.
    assert mask.shape == size
    assert (mask.pixels == nearest.numpy()).mean() > 0.7
    assert set(np.unique(mask.pixels)) <= set(np.unique(labels.pixels))
    # Image and mask have the same grid, with the outer edges of the given one.
    assert mask.geometry.matches(found.geometry)
    extent = np.array(found.geometry.spacing) * size
    np.testing.assert_allclose(extent, shape, rtol=1e-6)


@given(odd_sizes, st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_a_mask_that_is_enlarged_by_a_whole_factor_comes_back_exactly(shape: list[int], factor: int) -> None:
    labels = LabelMap(np.random.default_rng(shape).integers(0, 9, shape), Geometry.identity(len(shape)))
    spacing = (1.0,) * len(shape)
    large = preprocess_labels(labels, spacing, resize=[factor * n for n in shape])
    # The centres of the small voxels lie within those of the large ones only for odd factors; even ones have ties.
    assert np.array_equal(preprocess_labels(large, spacing, resize=shape).pixels, labels.pixels)


@given(st.lists(st.integers(4, 12), min_size=2, max_size=3), st.integers(0, 4), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_a_crop_is_the_box_of_nonzero_voxels_with_its_margin(shape: list[int], margin: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.zeros((2, *shape), np.float32)
    corners = [sorted(rng.integers(0, n, 2)) for n in shape]
    for channel in range(2):
        pixels[(channel, *(corner[channel] for corner in corners))] = -1.0
    image = Image(pixels, Geometry.identity(len(shape)))
    # Negative numbers are not zero.
    inside = tuple(slice(max(0, low - margin), high + margin + 1) for low, high in corners)
    preprocessing = Preprocessing((1.0,) * len(shape), UNCHANGED * 2, crop_margin=margin)
    found = preprocessing.image(image)
    assert np.array_equal(found.pixels, pixels[(slice(None), *inside)])
    assert found.geometry.origin == tuple(float(part.start) for part in inside)
    ids = LabelMap(rng.integers(0, 9, shape), image.geometry)
    assert np.array_equal(preprocessing.labels(ids, preprocessing.box(image)).pixels, ids.pixels[inside])


@pytest.mark.parametrize("shape", [(31, 22), (9, 8, 7)])
def test_intensities_are_normalised_before_or_after_resampling(shape: tuple[int, ...]) -> None:
    """By NumPy: over nonzero voxels, on the image's grid or on the network's."""
    rng = np.random.default_rng(5)
    pixels = (rng.normal(3, 2, (1, *shape)) * (rng.random((1, *shape)) > 0.4)).astype(np.float32)
    image, size = Image(pixels, Geometry.identity(len(shape))), tuple(n // 2 for n in shape)
    kinds = [Normalisation("zscore_nonzero")]

    def zscore(values: np.ndarray) -> np.ndarray:
        inside = values[values != 0].astype(np.float64)
        return np.where(values != 0, (values - inside.mean()) / inside.std(), 0)

    def resample(values: np.ndarray) -> np.ndarray:
        return Image(values.astype(np.float32), image.geometry).resampled(size).pixels

    spacing = (1.0,) * len(shape)
    after = preprocess_image(image, spacing, kinds, resize=size)
    np.testing.assert_allclose(after.pixels, zscore(resample(pixels)), atol=1e-5)
    before = preprocess_image(image, spacing, kinds, resize=size, normalise_first=True)
    np.testing.assert_allclose(before.pixels, resample(zscore(pixels)), atol=1e-5)
    assert np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize("kind", ["zscore", "zscore_nonzero"])
def test_an_image_that_is_not_finite_is_refused_and_never_nan(kind: str) -> None:
    for value in (np.nan, np.inf, -np.inf):
        pixels = np.ones((3, 8, 8), np.float32)
        pixels[1, 2, 3] = value
        with pytest.raises(InputError, match="has NaN or infinite values"):
            preprocess_image(Image(pixels, Geometry.identity(2)), (1.0, 1.0), [Normalisation(kind)] * 3)
    huge = np.array([[1e38, -3e38], [0, 3e38]], np.float32)[None]
    assert np.isfinite(preprocess_image(Image(huge, Geometry.identity(2)), (1, 1), [Normalisation(kind)]).pixels).all()
