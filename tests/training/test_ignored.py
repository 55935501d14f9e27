"""Voxels that nobody has judged, from the dataset to the mask."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvseg.data import PatchDataset, open_dataset, prepare_cases, resolve_splits
from deconvseg.errors import InputError
from deconvseg.planning import make_plan, read_plan
from deconvseg.training import train
from plans import tiny_plan
from sparse import IGNORE, sparse_plan, write_sparse_discs


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sparse_discs(tmp_path_factory.mktemp("sparse"))


def test_the_plan_has_the_ignore_label_beside_the_regions(sparse: Path) -> None:
    data = open_dataset(sparse)
    plan = make_plan(data, resolve_splits(data, sparse / "splits.json", fold=0), seconds=5, device="cpu")
    assert plan.labels.values == (0, 1, 2)
    assert plan.labels.ignore == IGNORE
    assert [(region.name, region.labels, region.paints) for region in plan.regions or ()] == [
        ("disc", (1, 2), 1),
        ("core", (2,), 2),
    ]
    assert plan.outputs == 2


def test_a_sparsely_judged_dataset_trains_to_whole_masks(sparse: Path, tmp_path: Path) -> None:
    plan = sparse_plan(epochs=4, steps_per_epoch=25, validate_every=4, learning_rate=0.01)
    run = train(sparse, tmp_path / "run", plan=plan, splits=sparse / "splits.json", device="cpu")
    assert read_plan(run.path / "plan.json").labels.ignore == IGNORE
    assert run.metrics[-1]["val_dice_disc"] > 0.8
    for case in ("disc4", "disc5", "disc6"):
        found = np.asarray(Image.open(run.path / "validation" / f"{case}.png"))
        truth = np.asarray(Image.open(sparse / "labelsTr" / f"{case}.png"))
        judged = truth != IGNORE
        assert set(np.unique(found)) <= {0, 1, 2}
        common = ((found > 0) & (truth > 0) & judged).sum()
        assert 2 * common / (((found > 0) & judged).sum() + ((truth > 0) & judged).sum()) > 0.8
        # Where nobody has judged, the mask is a disc all the same.
        assert (found[~judged] > 0).any()


@pytest.mark.parametrize("foreground", [0.0, 1.0])
def test_patches_lie_on_judged_voxels(tmp_path: Path, foreground: float) -> None:
    data = open_dataset(write_sparse_discs(tmp_path / "sparse", judged=0.02))
    plan = sparse_plan()
    encoding = plan.labels.to_encoding()
    cases = prepare_cases(
        data, tmp_path / "cache", spacing=plan.spacing, normalisations=plan.normalisations, encoding=encoding
    )
    judged = [case for case in cases if (np.asarray(case.labels) != encoding.ignore_id).any()]
    patches = PatchDataset(judged, (8, 8), 20, seed=0, foreground=foreground)
    for sample in range(20):
        assert (patches[0, sample].labels != encoding.ignore_id).any()


def test_an_ignore_label_that_is_a_class_is_refused() -> None:
    with pytest.raises((InputError, ValueError), match="ignore label 255 is the value of a class too"):
        tiny_plan(labels={"values": [0, 255], "names": ["background", "disc"], "ignore": 255})
