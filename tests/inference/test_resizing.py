"""Predictions of images that are resized or cropped for the network, on the images' own grids."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from deconvseg import predict, train
from deconvseg.data import Case, Geometry, Image, read_image, read_label_map
from deconvseg.errors import InputError
from deconvseg.inference import Predictor, predict_cases
from deconvseg.planning import Plan
from plans import plan_of, tiny_plan

MODE = {2: "bilinear", 3: "trilinear"}


def network_of(dims: int, classes: int = 3) -> nn.Module:
    """A convolution of one voxel: the logits of a voxel are those of its value, wherever windows begin."""
    torch.manual_seed(0)
    return (nn.Conv2d if dims == 2 else nn.Conv3d)(1, classes, 1)


def image_of(shape: tuple[int, ...], seed: int = 0, spacing: float = 0.7) -> Image:
    pixels = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    return Image(pixels, Geometry(np.diag([spacing] * len(shape) + [1.0])))


def resized(plan: Plan, size: tuple[int, ...]) -> Plan:
    return plan.with_values({"resize": list(size)})


sizes = st.integers(3, 23)


@given(
    st.one_of(
        st.tuples(st.tuples(sizes, sizes), st.tuples(sizes, sizes)),
        st.tuples(st.tuples(sizes, sizes, sizes), st.tuples(sizes, sizes, sizes)),
    )
)
@settings(max_examples=15, deadline=None)
def test_logits_of_a_resized_image_come_back_as_pytorch_interpolates(
    pair: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    shape, size = pair
    dims, image = len(shape), image_of(shape)
    network = network_of(dims)
    plan = resized(plan_of(dims, 3, (8,) * dims, (2.0,) * dims), size)
    found = Predictor([(network, plan)]).probabilities(image)
    with torch.no_grad():
        seen = F.interpolate(torch.from_numpy(image.pixels)[None], size=size, mode=MODE[dims], align_corners=False)
        logits = F.interpolate(network(seen), size=shape, mode=MODE[dims], align_corners=False)
    assert found.shape == (3, *shape)
    np.testing.assert_allclose(found, logits[0].softmax(0).numpy(), atol=1e-5)


def test_masks_of_files_and_of_arrays_have_the_grid_of_their_image(tmp_path: Path) -> None:
    network, plan = network_of(3), resized(plan_of(3, 3, (8, 8, 8), (1, 1, 1)), (10, 9, 7))
    # The axes run to the left, to the back and up, and are stored in another order.
    affine = np.array([[0, -1.5, 0, 20], [0, 0, -0.8, 9], [2.5, 0, 0, -3], [0, 0, 0, 1.0]])
    numbers = np.random.default_rng(1).normal(size=(6, 13, 17)).astype(np.float32)
    nib.save(nib.Nifti1Image(numbers, affine), tmp_path / "scan.nii.gz")
    predictor = Predictor([(network, plan)])
    case = Case("scan", (tmp_path / "scan.nii.gz",), None)
    done = predict_cases(predictor, [case], tmp_path / "masks", load=lambda one: read_image(one.images))
    written = nib.load(done.written[0])
    assert written.shape == numbers.shape
    np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    of_array = predict(numbers, models=[(network, plan)], affine=affine, device="cpu")
    assert of_array.shape == numbers.shape
    assert np.array_equal(np.asarray(written.dataobj), of_array)


def test_a_cropped_image_is_predicted_as_its_crop_alone() -> None:
    """Around the box and its margin there is certain background; inside, the result is that of the crop."""
    plan = plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0))
    pixels = np.zeros((1, 20, 18, 16), np.float32)
    pixels[0, 5:14, 2:12, 6:11] = 3 + np.random.default_rng(0).random((9, 10, 5))
    # The left axis is flipped, so that the box on canonical axes is another one.
    geometry = Geometry(np.diag([-1.3, 1.3, 1.3, 1.0]))
    network = network_of(3)
    margin = plan.with_values({"crop_margin": 3, "channels": [{"name": "image", "normalisation": "zscore_nonzero"}]})
    found = Predictor([(network, margin)]).probabilities(Image(pixels, geometry))
    inside = (slice(2, 17), slice(0, 15), slice(3, 14))
    alone = Image(np.ascontiguousarray(pixels[(slice(None), *inside)]), geometry)
    expected = Predictor([(network, margin.with_values({"crop_margin": None}))]).probabilities(alone)
    np.testing.assert_allclose(found[(slice(None), *inside)], expected, atol=1e-5)
    outside = np.ones(pixels.shape[1:], bool)
    outside[inside] = False
    assert (found[0][outside] == 1).all()
    assert (found[1:, outside] == 0).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_of_zeros_is_not_cropped_and_never_nan(dims: int) -> None:
    plan = plan_of(dims, 3, (8,) * dims, (1.0,) * dims).with_values(
        {
            "crop_margin": 2,
            "normalise_first": True,
            "resize": [5] * dims,
            "channels": [{"name": "image", "normalisation": "zscore_nonzero"}],
        }
    )
    image = Image(np.zeros((1, *[9] * dims), np.float32), Geometry.identity(dims))
    found = Predictor([(network_of(dims), plan)]).probabilities(image)
    assert np.isfinite(found).all()


def test_networks_of_other_margins_are_not_averaged_and_those_of_other_sizes_are() -> None:
    network, plan = network_of(2), plan_of(2, 3, (8, 8), (1, 1))
    cropping = plan.with_values({"crop_margin": 10})
    with pytest.raises(InputError, match="model 1: its plan has the crop_margin 10, but that of model 0 has null"):
        Predictor([(network, plan), (network, cropping)])
    for key, value, own in (("axes.order", [1, 0], r"\[1, 0\]"), ("inference.average", "logits", "logits")):
        with pytest.raises(InputError, match=rf"model 1: its plan has the {key} {own}, but that of model 0 has \w+"):
            Predictor([(network, plan), (network, plan.with_values({key: value}))])
    image = image_of((17, 12))
    both = Predictor([(network, resized(plan, (9, 9))), (network, resized(plan, (16, 5)))])
    alone = [Predictor([(network, resized(plan, size))]).probabilities(image) for size in ((9, 9), (16, 5))]
    np.testing.assert_allclose(both.probabilities(image), np.mean(alone, axis=0), atol=1e-6)


def test_a_mask_is_made_again_after_another_size(tmp_path: Path) -> None:
    """The identity of a mask depends on the new choices, and is the former one without them."""
    network, plan = network_of(2), plan_of(2, 3, (8, 8), (1, 1))
    names = {
        Predictor([(network, plan.with_values(values))]).identity
        for values in ({}, {"resize": [9, 9]}, {"crop_margin": 0}, {"normalise_first": True})
    }
    assert len(names) == 4
    older = {key: value for key, value in json.loads(plan.model_dump_json()).items() if key not in _NEW}
    same = Plan.model_validate_json(json.dumps(older))
    assert Predictor([(network, same)]).identity == Predictor([(network, plan)]).identity


_NEW = ("resize", "crop_margin", "normalise_first")


def test_memory_is_limited_on_the_resized_grid() -> None:
    plan = resized(plan_of(2, 3, (8, 8), (1, 1)), (4000, 4000))
    with pytest.raises(InputError, match=r"takes 61 MiB of memory on the network's grid \(4000 x 4000 voxels\)"):
        Predictor([(network_of(2), plan)], memory=10**7).segment(image_of((20, 20)))


def test_a_run_of_resized_images_is_scored_on_the_grid_of_the_masks(discs: Path, tmp_path: Path) -> None:
    recipe = {"epochs": 3, "steps_per_epoch": 25, "validate_every": 1, "learning_rate": 0.01}
    plan = tiny_plan(resize=[24, 36], patch_size=[24, 36], recipe=recipe)
    run = train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu")
    masks = sorted((run.path / "validation").glob("*.png"))
    assert [read_label_map(mask).shape for mask in masks] == [(40, 48)] * 2
    truth = {path.name: read_label_map(discs / "masks" / path.name).pixels > 0 for path in masks}
    found = {path.name: read_label_map(path).pixels > 0 for path in masks}
    dice = [2 * (truth[name] & mask).sum() / (truth[name].sum() + mask.sum()) for name, mask in found.items()]
    scored = json.loads((run.path / "validation" / "metrics.json").read_text())
    assert scored["summary"]["mean"]["dsc"]["mean"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert min(dice) > 0.5
