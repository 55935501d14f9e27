"""The transforms and the inferer of a bundle, in MONAI's own machinery, make the masks of `predict`."""

import doctest
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, LoadImage, LoadImaged, SaveImaged
from torch import nn

from deconvseg.data import Geometry, Image
from deconvseg.errors import InputError
from deconvseg.inference import Postprocessing, Predictor, make_step
from deconvseg.integrations import monai as monai_parts
from deconvseg.integrations.exporting import Members
from deconvseg.integrations.monai import Decided, ImageFileReader, Structuresd, list_cases
from deconvseg.integrations.monai.configs import inference_config
from deconvseg.integrations.monai.reading import as_monai
from deconvseg.planning import Plan
from variants import NESTED, OBLIQUE, VARIANTS, contract_of, networks_of, plan_of, scan


class Concatenated(nn.Module):
    """What `Members` does, for networks that are no `Network`."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    forward = Members.forward


def masks(plan: Plan, image: Image, count: int = 1, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The masks of the package, and of MONAI with the configuration of a bundle, which is JSON alone."""
    networks = networks_of(plan, count)
    predictor = Predictor([(network, plan) for network in networks], **options)
    contract = contract_of(predictor, count)
    parser = ConfigParser(json.loads(json.dumps(inference_config(contract))))
    preprocessing, postprocessing, inferer = map(
        parser.get_parsed_content, ("preprocessing", "postprocessing", "inferer")
    )
    assert isinstance(preprocessing.transforms[0], LoadImaged)
    assert isinstance(postprocessing.transforms[-1], SaveImaged)
    flat = plan.spatial_dims == 2
    pixels, meta = as_monai(image.pixels, image.geometry)
    given = {"image": MetaTensor(torch.from_numpy(pixels.copy()), meta=meta)}
    batch = list_data_collate([Compose(preprocessing.transforms[1:])(given)])
    with torch.no_grad():
        batch["pred"] = inferer(batch["image"], Concatenated(networks))
    made = Compose(postprocessing.transforms[:-1])(decollate_batch(batch)[0])["pred"]
    assert np.allclose(made.affine, meta["affine"])
    mask = made.numpy()[0]
    return predictor.segment(image, note=lambda text: None).pixels, mask.T if flat else mask


def assert_equal(made: tuple[np.ndarray, np.ndarray], values: int = 3) -> None:
    ours, theirs = made
    assert len(np.unique(ours)) >= values
    np.testing.assert_array_equal(ours, theirs)


QUICK = ("crop to nonzero", "regions of two")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in VARIANTS])
def test_a_volume_gets_the_mask_of_predict(name: str) -> None:
    changes, count, options = VARIANTS[name]
    image = Image(scan((14, 19, 11)), Geometry(OBLIQUE))
    assert_equal(masks(plan_of(3, **changes), image, count, **options))


@pytest.mark.parametrize("name", ["usual", pytest.param("mirrored", marks=pytest.mark.slow)])
def test_a_picture_gets_the_mask_of_predict(name: str) -> None:
    changes, count, options = VARIANTS[name]
    changes = {key: value for key, value in changes.items() if key not in ("spacing", "patch_size", "resize")}
    image = Image(scan((31, 26)), Geometry(np.diag([1.5, 0.8, 1.0])))
    assert_equal(masks(plan_of(2, **changes), image, count, **options))


def test_a_grey_picture_is_repeated_for_a_network_of_colours() -> None:
    channels = [{"name": name} for name in ("red", "green", "blue")]
    image = Image(scan((31, 26), channels=1), Geometry.identity(2))
    assert_equal(masks(plan_of(2, channels=channels), image))


@pytest.mark.parametrize("count", [1, 2])
def test_two_classes_with_a_threshold_are_decided_by_their_margin(count: int) -> None:
    labels = {"values": [0, 255], "names": ["background", "disc"]}
    plan = plan_of(3, labels=labels, crop_to_nonzero=True, crop_margin=0)
    assert_equal(masks(plan, Image(scan((14, 19, 11)), Geometry(OBLIQUE)), count, threshold=0.3), 2)


@pytest.mark.parametrize("crop", [False, True])
def test_an_image_of_zeros_gets_the_mask_of_predict(crop: bool) -> None:
    plan = plan_of(3, crop_to_nonzero=crop, crop_margin=1)
    ours, theirs = masks(plan, Image(np.zeros((2, 9, 8, 10), np.float32), Geometry(OBLIQUE)))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dims", [2, 3])
def test_post_processing_is_part_of_the_mask(dims: int) -> None:
    plan = plan_of(dims, regions=NESTED)
    steps = tuple(make_step("keep_largest", part, plan.structures) for part in plan.structures)
    noise = np.random.default_rng(0).normal(size=(2, 14, 19, 11)[: dims + 1]).astype(np.float32)
    image = Image(noise, Geometry(OBLIQUE) if dims == 3 else Geometry.identity(2))
    plain, _ = masks(plan, image, threshold=0.6)
    made = masks(plan, image, threshold=0.6, postprocessing=Postprocessing(steps=steps))
    assert (made[0] != plain).any()
    assert_equal(made)


def test_a_network_of_another_bundle_is_refused_by_the_number_of_its_maps() -> None:
    decide = Decided("pred", decision={"kind": "largest"}, labels=[0, 1], networks=2)
    with pytest.raises(InputError, match="3 maps are not those of 2 networks"):
        decide({"pred": torch.zeros(3, 4, 4)})


def test_true_masks_are_split_with_merged_values_and_without_ignored_voxels() -> None:
    split = Structuresd(["pred", "label"], values=[[1, 7], [2]], ignore=9)
    made = split({"label": torch.tensor([[[1, 7, 2, 9]]]), "pred": torch.tensor([[[1, 1, 1, 1]]])})
    assert made["label"].tolist() == [[[1, 1, 0, 0]], [[0, 0, 1, 0]]]
    assert made["pred"].tolist() == [[[1, 1, 1, 0]], [[0, 0, 0, 0]]]


@pytest.mark.parametrize("part", monai_parts.__all__)
def test_an_example_gives_what_it_shows(
    part: str, discs: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "DATASET").symlink_to(discs)
    (tmp_path / "scan.nii.gz").symlink_to(balls / "imagesTr" / "ball0_0000.nii.gz")
    (tmp_path / "truth.nii.gz").symlink_to(balls / "labelsTr" / "ball0.nii.gz")
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder().find(getattr(monai_parts, part), part, module=False, globs={})[:1]
    assert example.examples
    said: list[str] = []
    assert not doctest.DocTestRunner().run(example, out=said.append).failed, "".join(said)


def test_an_unreadable_image_is_an_error_of_this_package(tmp_path: Path) -> None:
    """MONAI's own readers, which it tries where one fails, would take it."""
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4)), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match="64 NaN"):
        LoadImage(reader=ImageFileReader())(tmp_path / "scan.nii.gz")


def test_cases_have_their_files_in_the_order_of_the_network(balls: Path, discs: Path, tmp_path: Path) -> None:
    first = list_cases(balls, ["T2", "T1"], labels=True)[0]
    assert [Path(file).name for file in first["image"]] == ["ball0_0001.nii.gz", "ball0_0000.nii.gz"]
    assert first["label"] == str(balls / "labelsTr" / "ball0.nii.gz")
    assert [Path(case["image"]).stem for case in list_cases(discs, ["grey"], split="test")] == ["disc6", "disc7"]
    with pytest.raises(InputError, match="has the channels T1, T2, but the network needs T1, FLAIR"):
        list_cases(balls, ["T1", "FLAIR"])
    with pytest.raises(InputError, match="`split='test'`.*is no dataset with splits"):
        list_cases(discs / "images", ["grey"], split="test")
