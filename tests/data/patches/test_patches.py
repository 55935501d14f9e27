from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deconvseg.data import (
    Augment,
    Augmentation,
    LabelEncoding,
    Normalisation,
    PatchDataset,
    PreparedCase,
    finish,
    open_dataset,
    prepare_cases,
)
from deconvseg.data.patches.sampling import EpochSampler, crop

_NOTHING = {name: 0.0 for name in Augmentation.model_fields if isinstance(getattr(Augmentation(), name), float)}


@pytest.fixture(scope="module")
def cases(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> list[PreparedCase]:
    return prepare_cases(
        open_dataset(balls),
        tmp_path_factory.mktemp("cache"),
        spacing=(1.0, 1.0, 2.0),
        normalisations=[Normalisation(), Normalisation()],
        encoding=LabelEncoding((0, 3, 7), ("background", "shell", "core")),
    )


def test_patch_is_a_function_of_seed_epoch_and_sample(cases: list[PreparedCase]) -> None:
    augment = Augment((1.0, 1.0, 2.0), (8, 8, 8), Augmentation())

    def make(seed: int) -> PatchDataset:
        return PatchDataset(cases, (8, 8, 8), 6, seed=seed, foreground=0.5, augment=augment)

    def patch(patches: PatchDataset, epoch: int, sample: int) -> dict:
        return finish([patches[(epoch, sample)]], patches.patch_size)

    one, two = make(0), make(0)
    _ = [two[(0, sample)] for sample in (5, 2)]  # what was requested before does not matter
    for index in ((0, 0), (0, 3), (4, 1)):
        assert torch.equal(patch(one, *index)["image"], patch(two, *index)["image"])
        assert torch.equal(patch(one, *index)["labels"], patch(two, *index)["labels"])
    assert not torch.equal(patch(one, 0, 0)["image"], patch(one, 1, 0)["image"])
    assert not torch.equal(patch(one, 0, 0)["image"], patch(make(1), 0, 0)["image"])


def test_cases_are_seen_equally_often(cases: list[PreparedCase]) -> None:
    patches = PatchDataset(cases, (4, 4, 4), 4, seed=0)
    names = [patches[(epoch, sample)].case for epoch in range(5) for sample in range(4)]
    assert sorted(names) == sorted([case.name for case in cases] * 4)
    assert names[:5] != names[5:10]


def test_foreground_patches_hold_a_class(cases: list[PreparedCase]) -> None:
    patches = PatchDataset(cases, (6, 6, 4), 40, seed=0, foreground=1.0)
    found = [set(torch.unique(patches[(0, sample)].labels).tolist()) - {0} for sample in range(40)]
    assert all(found)
    assert sum(2 in classes for classes in found) >= 15


def test_a_volume_smaller_than_the_patch_is_padded_on_both_sides(cases: list[PreparedCase]) -> None:
    shape = cases[0].labels.shape
    size = tuple(n + 4 for n in shape)
    sample = PatchDataset(cases[:1], size, 1, seed=0, foreground=1.0)[(0, 0)]
    assert sample.image.shape[1:] == size
    inner = (slice(None), *[slice(2, -2)] * 3)
    assert np.array_equal(sample.image[inner].numpy(), cases[0].image[...])
    assert sample.image.abs().sum() == pytest.approx(np.abs(cases[0].image[...]).sum(), rel=1e-4)


@pytest.mark.parametrize(("share", "least"), [(0.5, 4), (0.34, 2), (0.0, 0), (1.0, 8)])
def test_every_batch_has_its_share_of_foreground(
    cases: list[PreparedCase], share: float, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patches on a class draw from the case's remembered voxels, the others don't look at them."""
    looked: list[int] = []
    centres = PreparedCase.centres.fget
    monkeypatch.setattr(PreparedCase, "centres", property(lambda case: (looked.append(1), centres(case))[1]))
    patches = PatchDataset(cases, (6, 6, 4), 24, seed=0, foreground=share)
    for batch in range(3):
        looked.clear()
        _ = [patches[(1, sample)] for sample in range(8 * batch, 8 * batch + 8)]
        assert least <= len(looked) <= least + 1


def test_a_turned_patch_shows_what_the_volume_has_beyond_the_patch(cases: list[PreparedCase]) -> None:
    """Turned by 45 degrees a patch needs corners of the volume that the straight one does not have."""
    case = cases[0]
    settings = Augmentation(**{**_NOTHING, "affine": 1.0, "rotation": 0.8})
    patches = PatchDataset([case], (10, 10, 4), 40, seed=0, augment=Augment((1, 1, 9), (10, 10, 4), settings))
    whole = case.image[...]
    for sample in range(40):
        read = patches[(0, sample)]
        assert read.change.matrix is not None
        patch = finish([read], (10, 10, 4))
        start = _position(read.image.numpy(), whole)
        centre = np.add(start, read.centre)
        corner = centre + read.change.matrix @ (np.array([0, 0, 0]) - 4.5 * np.array([1, 1, 1 / 3]))
        nearest = np.round(corner).astype(int)
        inside = all(0 <= place < n for place, n in zip(nearest, case.shape, strict=True))
        assert patch["labels"][0, 0, 0, 0] == (case.labels[...][tuple(nearest)] if inside else 0)
        if all(1 <= place < n - 1 for place, n in zip(nearest, case.shape, strict=True)):
            assert patch["image"][0, 0, 0, 0, 0] != 0


def _position(part: np.ndarray, whole: np.ndarray) -> tuple[int, ...]:
    """Where the part begins in the whole, of which it is a box of random numbers."""
    (found,) = np.argwhere(whole[0] == part[0, 0, 0, 0])
    return tuple(found)


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(-5, 8), st.integers(1, 9)), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_crop_reads_every_voxel_or_zero(axes: list[tuple[int, int, int]]) -> None:
    shape, start, size = zip(*axes, strict=True)
    array = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    box = crop(array, start, size)
    assert box.shape == size
    for index in np.ndindex(*size):
        place = tuple(i + s for i, s in zip(index, start, strict=True))
        inside = all(0 <= p < n for p, n in zip(place, shape, strict=True))
        assert box[index] == (array[place] if inside else 0)


def test_sampler_gives_the_epoch_it_was_told() -> None:
    sampler = EpochSampler(3)
    sampler.set_epoch(7)
    assert list(sampler) == [(7, 0), (7, 1), (7, 2)]


def bright(folder: Path, shape: tuple[int, ...]) -> list[PreparedCase]:
    """A case without a zero."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    pixels = np.random.default_rng(0).integers(100, 200, shape).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "one.png")
    Image.fromarray(np.full(shape, 255, np.uint8)).save(folder / "masks" / "one.png")
    raw = [Normalisation("ct", mean=0.0, std=1.0)]
    encoding = LabelEncoding((0, 255), ("background", "disc"))
    dataset = open_dataset(folder)
    return prepare_cases(dataset, folder / "cache", spacing=(1.0, 1.0), normalisations=raw, encoding=encoding)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_a_turned_patch_of_a_large_image_has_zeros_only_with_zeros_as_padding(tmp_path: Path, padding: str) -> None:
    cases = bright(tmp_path, (40, 36))
    turned = Augmentation(**{**_NOTHING, "affine": 1.0, "rotation": 0.5, "scaling": 0.2, "padding": padding})
    patches = PatchDataset(cases, (32, 32), 8, seed=0, augment=Augment((1.0, 1.0), (32, 32), turned))
    batch = finish([patches[0, number] for number in range(8)], (32, 32))
    assert bool((batch["image"] < 50).any()) == (padding == "zeros")
    assert bool((batch["labels"] == 0).any()) == (padding == "zeros")


def test_the_border_of_an_image_smaller_than_the_patch_is_not_drawn_out(tmp_path: Path) -> None:
    """It is padded with zeros to the patch, as without turning, and only what lies beyond that is a border."""
    cases = bright(tmp_path, (16, 48))
    turned = Augmentation(**{**_NOTHING, "affine": 1.0, "rotation": 0.01, "scaling": 0.0, "padding": "border"})
    patches = PatchDataset(cases, (32, 32), 1, seed=0, augment=Augment((1.0, 1.0), (32, 32), turned))
    (image,) = finish([patches[0, 0]], (32, 32))["image"]
    assert (image[0, :6] == 0).all()
    assert (image[0, 26:] == 0).all()
    assert (image[0, 10:22] > 50).all()
