import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deconvseg.data import Augment, Augmentation, Sample, finish
from deconvseg.data.patches import transforms
from deconvseg.data.patches.augmentation import Change, change_intensities

CHANCES = (
    "affine", "flip", "noise", "smoothing", "intensity_scale", "intensity_shift", "contrast", "low_resolution",
    "gamma", "gamma_inverted",
)  # fmt: skip
NOTHING = dict.fromkeys(CHANCES, 0.0)
ALWAYS = dict.fromkeys(CHANCES, 1.0)


def image_of(shape: tuple[int, ...], channels: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(channels, *shape, generator=torch.Generator().manual_seed(seed))


def sample_of(shape: tuple[int, ...], change: Change, channels: int = 2, seed: int = 0) -> Sample:
    labels = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    centre = tuple((n - 1) / 2 for n in shape)
    return Sample(image_of(shape, channels, seed), labels, centre, change, f"case{seed}")


CUBE = (16, 16, 16)


def draws(config: dict[str, float], count: int, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> list[Change]:
    augment = Augment(spacing, CUBE[: len(spacing)], Augmentation(**config))
    rng = np.random.default_rng(0)
    return [augment.draw(rng, 2) for _ in range(count)]


shapes = st.one_of(st.tuples(*[st.integers(3, 12)] * 2), st.tuples(*[st.integers(3, 9)] * 3))


@given(shapes)
@settings(max_examples=15, deadline=None)
def test_nothing_drawn_changes_nothing(shape: tuple[int, ...]) -> None:
    (change,) = draws(NOTHING, 1, (1.0,) * len(shape))
    sample = sample_of(shape, change)
    batch = finish([sample], shape)
    assert torch.equal(batch["image"][0], sample.image)
    assert torch.equal(batch["labels"][0], sample.labels.long())
    assert batch["labels"].dtype == torch.int64
    assert batch["case"] == ["case0"]


@given(shapes)
@settings(max_examples=15, deadline=None)
def test_an_affine_without_angle_and_scale_changes_nothing(shape: tuple[int, ...]) -> None:
    config = {**NOTHING, "affine": 1.0, "rotation": 0.0, "scaling": 0.0}
    (change,) = draws(config, 1, (1.0,) * len(shape))
    assert change.matrix is not None
    sample = sample_of(shape, change)
    batch = finish([sample], shape)
    torch.testing.assert_close(batch["image"][0], sample.image, atol=2e-5, rtol=0)
    assert torch.equal(batch["labels"][0], sample.labels.long())


@given(shapes, st.integers(0, 7))
@settings(max_examples=15, deadline=None)
def test_mirrored_twice_is_not_mirrored(shape: tuple[int, ...], axes: int) -> None:
    flips = tuple(axis for axis in range(len(shape)) if axes >> axis & 1)
    sample = sample_of(shape, Change(flips=flips))
    once = finish([sample], shape)
    assert torch.equal(once["image"][0], sample.image.flip([axis + 1 for axis in flips]))
    again = finish([sample._replace(image=once["image"][0], labels=once["labels"][0])], shape)
    assert torch.equal(again["image"][0], sample.image)
    assert torch.equal(again["labels"][0], sample.labels.long())


@pytest.mark.parametrize("dims", [2, 3])
def test_resampling_is_scipys(dims: int) -> None:
    """The same affine, linear for the image and nearest for the labels, with zeros outside."""
    shape, size = (13, 11, 9)[:dims], (8, 12, 7)[:dims]
    rng = np.random.default_rng(4)
    matrix, centre = np.eye(dims) + rng.uniform(-0.3, 0.3, (dims, dims)), rng.uniform(3, 6, dims)
    image, labels = rng.normal(size=shape), rng.integers(0, 5, shape)
    found, ids = transforms.resample(
        torch.from_numpy(image).float()[None], torch.from_numpy(labels), matrix.tolist(), centre.tolist(), size
    )
    offset = centre - matrix @ ((np.array(size) - 1) / 2)
    expected = scipy.ndimage.affine_transform(image, matrix, offset, size, order=1, mode="grid-constant")
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-5)
    nearest = scipy.ndimage.affine_transform(labels, matrix, offset, size, order=0, mode="grid-constant")
    assert (ids.numpy() == nearest).mean() > 0.999  # but for places half-way between two voxels


@given(shapes, st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_label_values_are_never_new(shape: tuple[int, ...], seed: int) -> None:
    change = Augment((1.0,) * len(shape), shape, Augmentation(**ALWAYS)).draw(np.random.default_rng(seed), 2)
    sample = sample_of(shape, change)
    sample = sample._replace(labels=sample.labels * 60)  # far apart: interpolated ones would lie between
    assert set(finish([sample], shape)["labels"].unique().tolist()) <= {0, 60, 120, 180}


@pytest.mark.parametrize("shape", [(24, 20), (12, 10, 9)])
def test_a_patch_does_not_depend_on_its_batch(shape: tuple[int, ...]) -> None:
    config = {**dict.fromkeys(CHANCES, 0.5)}
    samples = [sample_of(shape, change, seed=seed) for seed, change in enumerate(draws(config, 8, (1.0,) * len(shape)))]
    batch = finish(samples, shape)
    for index, sample in enumerate(samples):
        alone = finish([sample], shape)
        assert torch.equal(batch["image"][index], alone["image"][0])
        assert torch.equal(batch["labels"][index], alone["labels"][0])


def test_samples_read_at_different_sizes_make_one_batch() -> None:
    changes = draws({**ALWAYS, "affine": 0.5}, 6)
    assert {change.matrix is None for change in changes} == {True, False}
    samples = [
        sample_of((12, 12, 12) if change.matrix is not None else (8, 8, 8), change, seed=seed)
        for seed, change in enumerate(changes)
    ]
    batch = finish(samples, (8, 8, 8))
    assert batch["image"].shape == (6, 2, 8, 8, 8)
    assert batch["image"].isfinite().all()


@pytest.mark.parametrize("inverted", [False, True])
@given(st.floats(0.5, 2.0), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_gamma_keeps_mean_and_spread_of_every_channel(inverted: bool, exponent: float, channels: int) -> None:
    image = image_of((9, 10), channels)[None] * 3 + 2
    image[:, 0] = 5.0 if channels > 1 else image[:, 0]  # a constant channel
    changed = transforms.change_gamma(image, torch.full((1, channels), exponent), inverted=inverted)
    torch.testing.assert_close(changed.mean((2, 3)), image.mean((2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(changed.std((2, 3)), image.std((2, 3)), atol=1e-4, rtol=1e-4)
    order = image[0, -1].flatten().argsort()
    assert (changed[0, -1].flatten()[order].diff() >= -1e-5).all()  # brighter stays brighter


def test_gamma_darkens_the_dark_and_inverted_the_bright() -> None:
    ramp = torch.linspace(0, 1, 101)[None, None, None]
    plain, inverted = (
        transforms.change_gamma(ramp, torch.tensor([[2.0]]), inverted=inverted)[0, 0, 0] for inverted in (False, True)
    )
    assert plain.diff()[:10].mean() < plain.diff()[-10:].mean()
    assert inverted.diff()[:10].mean() > inverted.diff()[-10:].mean()


def test_noise_has_the_standard_deviation_and_depends_on_the_seed_alone() -> None:
    image = torch.zeros(3, 1, 60, 60)
    noisy = transforms.add_noise(image, torch.tensor([0.1, 0.5, 0.5]), [1, 2, 2])
    assert noisy.mean((1, 2, 3)).abs().max() < 0.03
    torch.testing.assert_close(noisy.std((1, 2, 3)), torch.tensor([0.1, 0.5, 0.5]), rtol=0.05, atol=0)
    assert torch.equal(noisy[1], noisy[2])
    assert not torch.allclose(noisy[0] * 5, noisy[1])


@pytest.mark.parametrize("shape", [(21, 17), (11, 12, 13)])
def test_smoothing_is_scipys(shape: tuple[int, ...]) -> None:
    sigmas = np.random.default_rng(0).uniform(0.5, 1.0, (2, len(shape)))
    image = image_of(shape, 2)[:, None]
    found = transforms.blur(image, sigmas.tolist())
    for sample, blurred, sigma in zip(image, found, sigmas, strict=True):
        expected = scipy.ndimage.gaussian_filter(sample[0].double().numpy(), sigma, mode="nearest", truncate=3.0)
        np.testing.assert_allclose(blurred[0].numpy(), expected, atol=0.01)
    constant = torch.full((1, 1, *shape), 3.5)
    torch.testing.assert_close(transforms.blur(constant, [[0.8] * len(shape)]), constant)


def test_contrast_keeps_mean_and_range() -> None:
    image = image_of((40, 40), 2)[None]
    lower = transforms.change_contrast(image, torch.tensor([[0.75, 0.5]]))
    torch.testing.assert_close(lower.mean((2, 3)), image.mean((2, 3)))
    torch.testing.assert_close(lower.std((2, 3)), image.std((2, 3)) * torch.tensor([[0.75, 0.5]]))
    higher = transforms.change_contrast(image, torch.tensor([[1.25, 1.5]]))
    assert (higher.amax((2, 3)) <= image.amax((2, 3))).all()
    assert (higher.std((2, 3)) > image.std((2, 3))).all()


def test_brightness_is_a_factor_and_a_shift() -> None:
    image = image_of((5, 6), 3).expand(2, -1, -1, -1)
    found = transforms.scale_and_shift(image, torch.tensor([1.2, 0.5]), torch.tensor([0.0, -0.1]))
    torch.testing.assert_close(found[0], image[0] * 1.2)
    torch.testing.assert_close(found[1], image[1] * 0.5 - 0.1)


def test_low_resolution_takes_detail_and_keeps_what_is_smooth() -> None:
    detail = image_of((32, 32, 8), 1)[None]
    coarse = transforms.lower_resolution(detail, [[0.5, 0.5, 1.0]])
    assert coarse.diff(dim=2).square().mean() < 0.5 * detail.diff(dim=2).square().mean()
    constant = torch.full((1, 1, 7, 9), 2.0)
    torch.testing.assert_close(transforms.lower_resolution(constant, [[0.6, 0.6]]), constant)
    assert torch.equal(transforms.lower_resolution(detail, [[1.0, 1.0, 1.0]]), detail)


def test_changes_are_drawn_as_often_and_as_strongly_as_asked() -> None:
    config = {
        "affine": 0.4, "flip": 0.25, "noise": 0.1, "noise_std": 0.2, "intensity_scale": 0.5, "intensity_shift": 0.0,
        "gamma": 0.3, "low_resolution": 0.2,
    }  # fmt: skip
    changes = draws(config, 4000)
    rate = {
        "affine": np.mean([change.matrix is not None for change in changes]),
        "flip": np.mean([0 in change.flips for change in changes]),
        "noise": np.mean([change.noise is not None for change in changes]),
        "intensity_scale": np.mean([change.brightness is not None for change in changes]),
        "gamma": np.mean([change.gamma is not None for change in changes]),
        "low_resolution": np.mean([change.zoom is not None for change in changes]),
    }
    assert rate == pytest.approx({name: config[name] for name in rate}, abs=0.03)
    strengths = Augmentation(**config)
    assert all(0 <= change.noise <= 0.2 for change in changes if change.noise is not None)
    assert all(abs(change.brightness[0] - 1) <= 0.25 for change in changes if change.brightness)
    low, high = strengths.gamma_range
    assert all(low <= value <= high for change in changes if change.gamma for value in change.gamma)


def test_only_the_chosen_axes_are_mirrored() -> None:
    rng = np.random.default_rng(0)
    draws = [Augment((1, 1, 1), CUBE, Augmentation(flip_axes=(0, 2))).draw(rng, 1).flips for _ in range(50)]
    assert {axis for flips in draws for axis in flips} == {0, 2}
    assert Augmentation(flip=0).mirrored(3) == ()
    assert Augmentation(flip_axes=(0, 2)).mirrored(2) == (0,)


def test_rotations_are_of_the_body_and_scalings_keep_its_shape() -> None:
    """In mm the matrix is a rotation times one factor, whatever the voxels' shape."""
    spacing = np.array([0.5, 1.0, 1.4])
    augment = Augment(spacing, CUBE, Augmentation(**{**ALWAYS, "rotation": 0.7, "scaling": 0.2}))
    for seed in range(10):
        matrix = augment.draw(np.random.default_rng(seed), 1).matrix
        assert matrix is not None
        in_mm = matrix * spacing[:, None] / spacing
        gram = in_mm.T @ in_mm
        np.testing.assert_allclose(gram, gram[0, 0] * np.eye(3), atol=1e-12)
        assert 0.8 <= np.sqrt(gram[0, 0]) <= 1.2


def test_a_coarse_axis_is_left_alone() -> None:
    for change in draws(ALWAYS, 20, (5.0, 1.0, 1.0)):
        assert change.matrix is not None
        assert change.zoom is not None
        assert change.matrix[0].tolist() == [1, 0, 0]
        assert change.matrix[:, 0].tolist() == [1, 0, 0]
        assert not np.allclose(change.matrix, np.eye(3))
        assert change.zoom[0] == 1
        assert change.zoom[1] == change.zoom[2] < 1
    assert any(change.matrix is not None and change.matrix[0, 1] != 0 for change in draws(ALWAYS, 20, (2.5, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("patch", "axes"), [((64, 64, 1), (0, 1)), ((96, 96, 8), (0, 1)), ((96, 96, 32), (0, 1, 2)), ((1, 64, 64), (1, 2))]
)
def test_a_thin_patch_is_not_turned_out_of_its_plane(patch: tuple[int, ...], axes: tuple[int, ...]) -> None:
    augment = Augment((1, 1, 1), patch, Augmentation(**ALWAYS))
    assert augment.axes == axes
    left = [axis for axis in range(3) if axis not in axes]
    for _ in range(5):
        change = augment.draw(np.random.default_rng(0), 1)
        assert change.matrix is not None
        assert change.zoom is not None
        assert np.array_equal(change.matrix[left], np.eye(3)[left])
        assert np.array_equal(change.matrix[:, left], np.eye(3)[:, left])
        assert all(change.zoom[axis] == 1 for axis in left)


def test_intensities_leave_the_given_images_as_they_are() -> None:
    image = image_of((8, 8), 2)[None].repeat(3, 1, 1, 1)
    before = image.clone()
    changed = change_intensities(image, [Change(), *draws(ALWAYS, 2, (1.0, 1.0))])
    assert torch.equal(image, before)
    assert torch.equal(changed[0], before[0])
    assert not torch.allclose(changed[1], before[1])


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma_range goes from 1.5 to 0.7: give the lower end first"):
        Augmentation(gamma_range=(1.5, 0.7))


@pytest.mark.parametrize(("padding", "mode"), [("border", "nearest"), ("reflection", "reflect")])
@pytest.mark.parametrize("dims", [2, 3])
def test_padding_is_scipys(dims: int, padding: str, mode: str) -> None:
    shape, size = (13, 11, 9)[:dims], (15, 12, 14)[:dims]
    rng = np.random.default_rng(4)
    matrix, centre = np.eye(dims) + rng.uniform(-0.3, 0.3, (dims, dims)), rng.uniform(3, 6, dims)
    image, labels = 1 + rng.random(shape), rng.integers(1, 5, shape)
    found, ids = transforms.resample(
        torch.from_numpy(image).float()[None], torch.from_numpy(labels), matrix.tolist(), centre.tolist(), size, padding
    )
    offset = centre - matrix @ ((np.array(size) - 1) / 2)
    expected = scipy.ndimage.affine_transform(image, matrix, offset, size, order=1, mode=mode)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-5)
    assert (found > 0).all()
    assert (ids > 0).all()
