"""A scan like the training scans is not named; one in other units, of another size or another kind is."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deconvseg.data import Geometry, Image
from deconvseg.errors import InputError
from deconvseg.planning import Appearance, DataSummary, Plan
from deconvseg.planning.appearance import look_at, look_names
from plans import tiny_plan


def scan(seed: int, *, turned: bool = False, dims: int = 3) -> Image:
    """A head-like volume: dark around a bright ball with a brighter core, on noise."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(20, 24, dims)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    distance = np.sqrt(((grid - (shape / 2 - 0.5)[(..., *[None] * dims)]) ** 2).sum(0))
    pixels = 300.0 * (distance < rng.uniform(8, 9)) + 500.0 * (distance < rng.uniform(3, 4))
    pixels = pixels + rng.normal(20, 15, shape)
    affine = np.diag([*rng.uniform(0.95, 1.05, dims), 1.0])
    if turned:
        affine = affine @ np.diag([-1.0, 1, -1, 1])
        pixels = pixels[::-1, :, ::-1]
    return Image(pixels[None].astype(np.float32), Geometry(affine))


def known(count: int = 12, dims: int = 3) -> Appearance:
    return Appearance.of([look_at(scan(seed, dims=dims)) for seed in range(count)], dims, 1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("count", [1, 3, 12, 50])
def test_scans_of_the_same_kind_are_not_named(count: int, dims: int) -> None:
    trained = known(count, dims)
    named = sum(bool(trained.unusual(scan(seed, dims=dims), ["T1"])) for seed in range(1000, 1030))
    # A few scans say little of how much such scans differ.
    assert named <= (1 if count >= 12 else 5)
    assert not any(trained.unusual(scan(seed, dims=dims), ["T1"]) for seed in range(min(count, 20)))


def changed(image: Image, change: str) -> Image:
    pixels, affine = image.pixels, image.geometry.affine
    low, high = pixels.min(), pixels.max()
    if change == "voxels":
        return Image(pixels, Geometry(affine @ np.diag([1, 1, 3.0, 1])))
    if change == "size":
        return Image(np.tile(pixels, (1, 2, 2, 1)), image.geometry)
    made = {
        "0 to 1": (pixels - low) / (high - low),
        "0 to 255": (pixels - low) / (high - low) * 255,
        "inverted": high + low - pixels,
        "shifted": pixels + 1000,
        "noise": np.random.default_rng(0).normal(size=pixels.shape) * 300,
        "blank": np.zeros_like(pixels),
        "masked": np.where(pixels > 500, pixels, 0),
    }
    return Image(made[change].astype(np.float32), image.geometry)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("voxels", r"spacing along z 3\S* mm \(training: 0.9\S* to 1.\S* mm\)"),
        ("size", "size along x"),
        ("0 to 1", r"span of the intensities of FLAIR 0.\S* \(training"),
        ("0 to 255", "span of the intensities of FLAIR"),
        ("inverted", "another distribution of the intensities of FLAIR"),
        ("shifted", r"intensities of FLAIR that start elsewhere \(shifted\?\)"),
        ("noise", "FLAIR"),
        ("blank", "FLAIR"),
        ("masked", "zeros in FLAIR"),
    ],
)
def test_what_lies_outside_is_named_with_its_range(change: str, words: str) -> None:
    text = "; ".join(known().unusual(changed(scan(99), change), ["FLAIR"]))
    assert re.search(words, text), text


@pytest.mark.parametrize("level", [0.0, 100.0])
def test_a_scan_of_one_intensity_is_called_that(level: float) -> None:
    image = scan(1000)
    found = known().unusual(Image(np.full_like(image.pixels, level), image.geometry), ["T1"])
    assert found == ("one intensity in all of T1",)


def test_the_order_of_axes_and_constant_factors_of_memory_change_no_look() -> None:
    assert np.allclose(look_at(scan(3)), look_at(scan(3, turned=True)), atol=0.1)
    assert not known().unusual(scan(30, turned=True), ["T1"])


def test_figures_that_occur_but_never_together_are_named() -> None:
    rng = np.random.default_rng(0)
    dark = [np.log([1, 20, 1, 20, 1, 20])] * 40
    looks = []
    for number, axes in enumerate(dark):
        kind = number % 2
        channel = [
            np.log(100 if kind else 1000),
            0.0,
            *np.array([0.1, 0.2, 0.3, 0.5, 0.8]) * (1 if kind else 0.4),
            0,
            -3,
        ]
        looks.append(np.array([*axes, *channel]) + rng.normal(0, 0.005, 15))
    trained = Appearance.of(looks, 3, 1)
    names = look_names(3, 1)
    mixed = looks[0].copy()
    mixed[names.index("channel 0 scale")] = looks[1][names.index("channel 0 scale")]
    examples = trained._scale(np.array([list(map(float, line.split())) for line in trained.examples]))
    distances = [np.sqrt(np.square(examples - trained._scale(look[None])).mean(1)).min() for look in (*looks, mixed)]
    assert max(distances[:-1]) <= trained.reach + 0.05
    assert distances[-1] > 3 * trained.reach


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([0.0, 1e-30, 1.0, 1e30, -5.0]),
    st.booleans(),
)
def test_every_image_has_a_look_of_finite_figures(shape: tuple[int, ...], level: float, noisy: bool) -> None:
    pixels = np.full(shape, level, np.float32)
    if noisy:
        pixels = pixels * np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = Image(pixels, Geometry.identity(3))
    look = look_at(image)
    assert len(look) == len(look_names(3, shape[0]))
    assert np.isfinite(look).all()
    assert not Appearance.of([look], 3, shape[0]).unusual(image, "abc")


def test_a_plan_holds_it_checked_and_old_plans_have_none() -> None:
    trained = known()
    assert Appearance.model_validate_json(trained.model_dump_json(), strict=True) == trained
    assert len(known(50).examples) <= 32
    tree = json.loads(trained.model_dump_json())
    for spoil in (
        {"examples": ["1 2 3"]},
        {"examples": ["nan " * 15]},
        {"examples": ["__import__('os') " * 15]},
        {"examples": []},
        {"ranges": {}},
        {"reach": -1},
    ):
        with pytest.raises(ValidationError):
            Appearance.model_validate_json(json.dumps({**tree, **spoil}), strict=True)
    assert DataSummary.model_fields["appearance"].default is None
    assert isinstance(tiny_plan(), Plan)
    with pytest.raises(InputError):
        Image(np.ones((8, 8, 8), np.float32), Geometry.identity(3))
