"""What all tests share: poisoned memory, tiny datasets, tiny plans, and the folder of real data."""

import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage

from deconvseg.planning import Plan
from plans import tiny_plan


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import all tests without searching for garbage, and leave out what they imported in later searches.

    There is none among these million objects, and each search of them takes half a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Let libraries that count what they leak at the end find nothing."""
    gc.unfreeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no GPU")


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("DECONVSEG_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DECONVSEG_DATA does not name a folder of real data")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep fingerprints away from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2D dataset in the folder layout: bright discs on noise, masks 0/255, with splits.json."""
    root = tmp_path_factory.mktemp("discs")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :48]
    for index in range(8):
        centre, radius = rng.uniform(14, 26, 2), rng.uniform(6, 11)
        mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        image = 60 + 120 * mask + rng.normal(0, 15, mask.shape)
        PillowImage.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(root / "images" / f"disc{index}.png")
        PillowImage.fromarray((mask * 255).astype(np.uint8)).save(root / "masks" / f"disc{index}.png")
    splits = {"train": [f"disc{i}" for i in range(4)], "val": ["disc4", "disc5"], "test": ["disc6", "disc7"]}
    (root / "splits.json").write_text(json.dumps(splits))
    return root


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3D dataset in nnU-Net's layout: two channels, labels 0, 3, 7, flipped and rotated axes, anisotropic spacing."""
    root = tmp_path_factory.mktemp("balls")
    (root / "imagesTr").mkdir()
    (root / "labelsTr").mkdir()
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(24), np.arange(12), indexing="ij"))
    affine = np.array([[0, -1.0, 0, 5], [1.0, 0, 0, -3], [0, 0, 2.0, 9], [0, 0, 0, 1]])
    for index in range(5):
        centre = rng.uniform([8, 8, 5], [12, 16, 7])
        distance = np.sqrt(
            (((grid - centre[:, None, None, None]) * np.array([1, 1, 2])[:, None, None, None]) ** 2).sum(0)
        )
        labels = np.where(distance < 3, 7, np.where(distance < 6, 3, 0)).astype(np.uint8)
        for channel in range(2):
            image = (labels * (1 + channel) + rng.normal(0, 1, labels.shape)).astype(np.float32)
            nib.save(nib.Nifti1Image(image, affine), root / "imagesTr" / f"ball{index}_{channel:04d}.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), root / "labelsTr" / f"ball{index}.nii.gz")
    declared = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "shell": 3, "core": 7},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(declared))
    return root


@pytest.fixture
def plan() -> Plan:
    return tiny_plan()


@pytest.fixture(scope="session")
def trained(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on ``discs``, good enough to find a disc."""
    from deconvseg.training import train

    output = tmp_path_factory.mktemp("runs") / "discs"
    recipe = {"epochs": 4, "steps_per_epoch": 25, "validate_every": 2, "learning_rate": 0.01}
    train(discs, output, plan=tiny_plan(recipe=recipe), splits=discs / "splits.json", device="cpu")
    return output


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what ``torch.empty`` gives with NaN, so that an element that nobody writes fails loudly."""
    import torch

    empty, empty_like = torch.empty, torch.empty_like

    def poison(make):  # type: ignore[no-untyped-def]
        def poisoned(*args, **kwargs):  # type: ignore[no-untyped-def]
            tensor = make(*args, **kwargs)
            if tensor.is_floating_point() and tensor.device.type == "cpu" and type(tensor) is torch.Tensor:
                tensor.fill_(float("nan"))
            return tensor

        return poisoned

    monkeypatch.setattr(torch, "empty", poison(empty))
    monkeypatch.setattr(torch, "empty_like", poison(empty_like))
