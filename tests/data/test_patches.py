from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import (
    LabelEncoding,
    MonaiAugment,
    Normalisation,
    PatchDataset,
    PreparedCase,
    open_dataset,
    prepare_cases,
)
from deconvseg.data.patches import EpochSampler, crop
from deconvseg.errors import DeconvsegError
from deconvseg.planning import Augmentation


@pytest.fixture(scope="module")
def cases(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> list[PreparedCase]:
    return prepare_cases(
        open_dataset(balls),
        tmp_path_factory.mktemp("cache"),
        spacing=(1.0, 1.0, 2.0),
        normalisations=[Normalisation(), Normalisation()],
        encoding=LabelEncoding((0, 3, 7), ("background", "shell", "core")),
    )


def test_prepared_cases_hold_consecutive_ids_and_true_centres(cases: list[PreparedCase]) -> None:
    for case in cases:
        assert case.image.dtype == np.float32
        assert case.image.shape[1:] == case.labels.shape
        assert set(np.unique(case.labels)) == {0, 1, 2}
        for label, *voxel in case.centres:
            assert case.labels[tuple(voxel)] == label


def test_prepared_arrays_are_what_numpy_would_save(cases: list[PreparedCase], tmp_path: Path) -> None:
    for kind in ("image", "labels", "centres"):
        np.save(tmp_path / "expected.npy", getattr(cases[0], kind))
        written = cases[0].folder / f"{cases[0].name}.{kind}.npy"
        assert written.read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_prepared_cases_are_kept(balls: Path, cases: list[PreparedCase], monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(balls)

    def read(self: object, case: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(type(dataset), "load", read)
    again = prepare_cases(
        dataset,
        cases[0].folder,
        spacing=(1.0, 1.0, 2.0),
        normalisations=[Normalisation()] * 2,
        encoding=LabelEncoding((0,), ("b",)),
    )
    assert again == cases


def test_full_disk_while_preparing_is_one_clear_error(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(DeconvsegError, match="disk is full"):
        prepare_cases(
            open_dataset(balls),
            tmp_path,
            spacing=(1.0, 1.0, 2.0),
            normalisations=[Normalisation()] * 2,
            encoding=LabelEncoding((0, 3, 7), ("a", "b", "c")),
        )
    assert not list(tmp_path.glob("*.npy"))


def test_patch_is_a_function_of_seed_epoch_and_sample(cases: list[PreparedCase]) -> None:
    augment = MonaiAugment((1.0, 1.0, 2.0), **Augmentation().model_dump())

    def make(seed: int) -> PatchDataset:
        return PatchDataset(cases, (8, 8, 8), 6, seed=seed, foreground=0.5, augment=augment)

    one, two = make(0), make(0)
    _ = [two[(0, sample)] for sample in (5, 2)]  # what was asked for before does not matter
    for index in ((0, 0), (0, 3), (4, 1)):
        assert torch.equal(one[index]["image"], two[index]["image"])
        assert torch.equal(one[index]["labels"], two[index]["labels"])
    assert not torch.equal(one[(0, 0)]["image"], one[(1, 0)]["image"])
    assert not torch.equal(one[(0, 0)]["image"], make(1)[(0, 0)]["image"])


def test_cases_are_seen_equally_often(cases: list[PreparedCase]) -> None:
    patches = PatchDataset(cases, (4, 4, 4), 4, seed=0)
    names = [patches[(epoch, sample)]["case"] for epoch in range(5) for sample in range(4)]
    assert sorted(names) == sorted([case.name for case in cases] * 4)
    assert names[:5] != names[5:10]


def test_foreground_patches_hold_a_class(cases: list[PreparedCase]) -> None:
    patches = PatchDataset(cases, (6, 6, 4), 40, seed=0, foreground=1.0)
    found = [set(torch.unique(patches[(0, sample)]["labels"]).tolist()) - {0} for sample in range(40)]
    assert all(found)
    assert sum(2 in classes for classes in found) >= 15


def test_a_volume_smaller_than_the_patch_is_padded_on_both_sides(cases: list[PreparedCase]) -> None:
    shape = cases[0].labels.shape
    size = tuple(n + 4 for n in shape)
    item = PatchDataset(cases[:1], size, 1, seed=0, foreground=1.0)[(0, 0)]
    assert item["image"].shape[1:] == size
    inner = (slice(None), *[slice(2, -2)] * 3)
    assert np.array_equal(item["image"][inner].numpy(), cases[0].image)
    assert item["image"].abs().sum() == pytest.approx(np.abs(cases[0].image).sum(), rel=1e-4)


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


def test_augmentation_moves_image_and_labels_together() -> None:
    image = np.zeros((1, 32, 32), np.float32)
    labels = np.zeros((32, 32), np.uint8)
    image[0, 6:14, 4:20], labels[6:14, 4:20] = 1, 1
    settings = {**Augmentation().model_dump(), "affine": 1.0, "noise": 0, "smoothing": 0}
    augment = MonaiAugment((1.0, 1.0), **{**settings, "intensity_scale": 0, "intensity_shift": 0})
    moved = False
    for seed in range(10):
        new_image, new_labels = augment(image, labels, np.random.default_rng(seed))
        assert set(torch.unique(new_labels).tolist()) <= {0, 1}
        assert ((new_image[0] > 0.5) == (new_labels == 1)).float().mean() > 0.97
        moved |= not np.array_equal(new_labels.numpy(), labels)
    assert moved


def test_sampler_gives_the_epoch_it_was_told() -> None:
    sampler = EpochSampler(3)
    sampler.set_epoch(7)
    assert list(sampler) == [(7, 0), (7, 1), (7, 2)]


@pytest.mark.parametrize(("spacing", "moved"), [((1.0, 1.0, 2.0), True), ((1.0, 1.0, 5.0), False)])
def test_anisotropic_volumes_are_turned_in_their_plane_only(spacing: tuple[float, ...], moved: bool) -> None:
    """Without turning out of the plane, a stack of constant slices stays one."""
    settings = dict.fromkeys(Augmentation().model_dump(), 0)
    settings |= {"affine": 1.0, "rotation": 0.5, "scaling": 0.0, "smoothing_sigma": (0.5, 1.0)}
    augment = MonaiAugment(spacing, **settings)
    image = np.broadcast_to(np.arange(12, dtype=np.float32), (1, 24, 24, 12)).copy()
    turned, _ = augment(image, np.zeros((24, 24, 12), np.uint8), np.random.default_rng(3))
    assert (not np.allclose(turned.numpy(), image, atol=1e-3)) == moved
