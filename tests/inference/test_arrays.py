"""Images in memory: an array lies where its affine says, and an image keeps its own geometry."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from torch import nn

import deconvseg
from deconvseg.data import Geometry, Image, read_image
from deconvseg.errors import InputError
from deconvseg.inference import Predictor, predict
from deconvseg.inference.arrays import image_of
from deconvseg.planning import Plan
from plans import plan_of, tiny_plan, volume_run

RNG = np.random.default_rng(0)
CODES = ["".join(code) for axes in itertools.permutations(["LR", "PA", "IS"]) for code in itertools.product(*axes)]


class Rightwards(nn.Module):
    """Class 1 where the intensity falls from left to right, 2 where it rises: what tells left from right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slope = torch.gradient(x, dim=2)[0]
        return torch.cat([0 * x, -slope, slope], dim=1)


def trained_on(orientations: dict[str, int], **changes: object) -> Plan:
    """A plan of volumes whose training files had these orientations."""
    spread = {"low": 1.0, "median": 1.0, "high": 1.0}
    numbers = dict.fromkeys(("zero_fraction", "minimum", "maximum", "mean", "std"), 0.0)
    data = {
        "cases": 3,
        "shapes": [[8, 8, 8]] * 3,
        "spacings": [[1.0, 1.0, 1.0]] * 3,
        "orientations": orientations,
        "classes": [
            {
                **{"value": 1, "cases": 3, "voxels": 9, "share": spread, "volume": spread, "components": 1},
                **{"component_volume": None, "component_voxels": None},
            }
        ],
        "channels": [{**numbers, "percentile_0_5": 0.0, "percentile_99_5": 0.0}],
    }
    plan = plan_of(3, 3, (8, 8, 8), (1, 1, 1))
    return tiny_plan(**{**plan.model_dump(mode="json"), "data": data, **changes})


def array_of(
    orientation: str, pixels: np.ndarray, steps: tuple[float, ...] = (1, 1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """The array and the affine of a RAS volume, stored in another orientation."""
    source = nib.Nifti1Image(pixels, np.diag([*steps, 1.0]))
    turned = source.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(orientation))
        )
    )
    return np.asarray(turned.dataobj), turned.affine


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(CODES), st.sampled_from(["<f4", ">f4", "<i2", ">i4", "u8", "f2", "?"]), st.booleans())
def test_an_array_with_an_affine_is_the_image_that_lies_there(orientation: str, dtype: str, strided: bool) -> None:
    plan = plan_of(3, 3, (8, 8, 8), (1, 1, 1))
    array, affine = array_of(orientation, RNG.integers(0, 100, (9, 8, 7)).astype(np.int16))
    array = array.astype(dtype)
    if strided:
        array = np.repeat(array[..., None], 2, axis=-1)[..., 0][::-1][::-1]
    expected = Image(array[None].astype(np.float32), Geometry(affine))
    found = image_of(array, plan, affine=affine)
    assert found.image.geometry.matches(expected.geometry, 1e-9)
    assert np.array_equal(found.image.pixels, expected.pixels)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "LAS"])
def test_a_bare_array_lies_as_all_training_files_did(orientation: str, caplog: pytest.LogCaptureFixture) -> None:
    plan = trained_on({orientation: 3})
    array, affine = array_of(orientation, RNG.normal(size=(9, 8, 7)), (1.0, 1.5, 2.0))
    steps = nib.affines.voxel_sizes(affine)
    bare = image_of(array, plan, spacing=steps)
    assert np.allclose(bare.image.geometry.affine[:3, :3], affine[:3, :3])
    assert f"axes are assumed to be {orientation} (as those of all training files)" in caplog.text
    caplog.clear()
    given_affine = image_of(array, plan, affine=affine, spacing=steps)
    assert caplog.text == ""
    predictor = Predictor([(Rightwards(), plan)])
    assert np.array_equal(
        bare.give_back(predictor.segment(bare.image)), given_affine.give_back(predictor.segment(given_affine.image))
    )


def test_without_one_orientation_a_bare_array_is_ras_and_that_is_said_where_it_matters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    array = RNG.normal(size=(9, 8, 7))
    for plan in (trained_on({"LPS": 2, "RAS": 1}), plan_of(3, 3, (8, 8, 8), (1, 1, 1))):
        caplog.clear()
        assert np.array_equal(image_of(array, plan).image.geometry.affine, np.eye(4))
        assert caplog.text == ""
    one_way = trained_on({"LPS": 2, "RAS": 1}, recipe={"augmentation": {"flip_axes": [1, 2]}})
    for plan in (one_way, plan_of(3, 3, (8, 8, 8), (1, 1, 3))):
        caplog.clear()
        image_of(array, plan, spacing=(1, 1, 1))
        assert "assumed to be RAS (x to the right, y to the front, z up)" in caplog.text
    caplog.clear()
    image_of(array, plan_of(3, 3, (8, 8, 8), (0.8, 0.8, 0.8)))
    assert "assumed to be 1 mm wide, but the run works at 0.8 x 0.8 x 0.8 mm" in caplog.text


def test_images_of_other_libraries_keep_their_geometry_and_come_back_as_such(tmp_path: Path) -> None:
    run = volume_run(tmp_path / "run")
    angle = 0.3
    affine = np.array(
        [[-np.cos(angle), np.sin(angle), 0, 10], [np.sin(angle), np.cos(angle), 0, -5], [0, 0, -2.5, 7], [0, 0, 0, 1]]
    )
    scan = nib.Nifti1Image(RNG.normal(size=(9, 8, 7)).astype(np.float32), affine)
    nib.save(scan, tmp_path / "scan.nii.gz")
    expected = predict(read_image(tmp_path / "scan.nii.gz"), run).pixels
    assert len(np.unique(expected)) > 1
    by_nibabel = predict(scan, run)
    assert isinstance(by_nibabel, nib.Nifti1Image)
    assert np.array_equal(by_nibabel.affine, affine)
    assert np.array_equal(np.asarray(by_nibabel.dataobj), expected)
    itk = sitk.ReadImage(str(tmp_path / "scan.nii.gz"))
    by_itk = predict(itk, run)
    assert (by_itk.GetSize(), by_itk.GetOrigin(), by_itk.GetDirection()) == (
        itk.GetSize(),
        itk.GetOrigin(),
        itk.GetDirection(),
    )
    assert np.array_equal(sitk.GetArrayFromImage(by_itk).transpose(), expected)
    tensor = MetaTensor(torch.from_numpy(np.asarray(scan.dataobj))[None], affine=torch.from_numpy(affine))
    by_tensor = predict(tensor, run)
    assert type(by_tensor) is torch.Tensor
    assert np.array_equal(by_tensor.numpy(), expected)
    plain = predict(torch.from_numpy(np.asarray(scan.dataobj)), run, affine=torch.from_numpy(affine))
    assert np.array_equal(plain.numpy(), expected)
    with pytest.raises(InputError, match="affine: an image of nibabel has a geometry of its own"):
        predict(scan, run, affine=affine)
    with pytest.raises(InputError, match="spacing: an Image has a geometry of its own"):
        predict(read_image(tmp_path / "scan.nii.gz"), run, spacing=(1, 1, 1))


def test_nibabel_s_units_are_brought_to_millimetres() -> None:
    plan = plan_of(3, 3, (8, 8, 8), (1, 1, 1))
    scan = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.diag([0.001, 0.001, 0.002, 1]))
    scan.header.set_xyzt_units("meter")
    assert np.allclose(image_of(scan, plan).image.geometry.spacing, (1, 1, 2))


def test_arrays_and_images_give_their_probabilities_on_request(tmp_path: Path) -> None:
    run = volume_run(tmp_path / "run")
    array, affine = array_of("PIR", RNG.normal(size=(9, 8, 7)))
    mask, maps = predict(array, run, affine=affine, save_probabilities=True)
    assert maps.shape == (3, *array.shape)
    assert maps.dtype == np.float32
    assert np.array_equal(np.array([0, 5, 300])[maps.argmax(0)], mask)
    assert np.array_equal(mask, predict(array, run, affine=affine))


REFUSED = {
    "complex numbers": np.ones((8, 8, 8), np.complex64),
    "elements of type object": np.ones((8, 8, 8), object),
    "elements of type <U1": np.full((8, 8, 8), "a"),
    "masked elements": np.ma.masked_equal(np.arange(512).reshape(8, 8, 8), 3),
    "NaN or infinite values": np.full((8, 8, 8), 1e300),
    "looks like channels last.*moveaxis": np.ones((8, 9, 7, 1)),
    "3 spatial axes": np.ones((8, 8)),
    "without an axis for the batch": np.ones((1, 1, 8, 8, 8)),
    "a list of 2 is several images": [np.ones((8, 8, 8))] * 2,
    "the tensor has complex numbers": torch.ones(8, 8, 8, dtype=torch.complex64),
    "a sparse or quantised tensor": torch.ones(8, 8, 8).to_sparse(),
    "not PIL.Image.Image|not builtins.dict": {"image": np.ones((8, 8, 8))},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_an_image_is_refused_by_name(message: str) -> None:
    with pytest.raises(InputError, match=message):
        image_of(REFUSED[message], plan_of(3, 3, (8, 8, 8), (1, 1, 1)))


def test_geometries_that_contradict_or_cannot_be_are_refused() -> None:
    plan, array = plan_of(3, 3, (8, 8, 8), (1, 1, 1)), np.ones((8, 8, 8))
    for options, message in (
        (
            {"spacing": (1, 1, 2), "affine": np.eye(4)},
            r"spacing \(1.0, 1.0, 2.0\): the affine has another one \(1, 1, 1\)",
        ),
        ({"affine": np.eye(3)}, r"affine: has the shape \(3, 3\); give real numbers \(4, 4\)"),
        ({"affine": np.diag([1, 1, 0, 1])}, "singular"),
        ({"affine": np.full((4, 4), np.nan)}, "last row|NaN"),
        ({"affine": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 7, 1]])}, "last row is"),
        ({"spacing": (1, 1, np.inf)}, "give 3 positive numbers"),
        ({"spacing": 1.0}, "give 3 positive numbers"),
        ({"spacing": ("a", 1, 1)}, "give 3 positive numbers"),
    ):
        with pytest.raises(InputError, match=message):
            image_of(array, plan, **options)
    with pytest.raises(InputError, match="20 channels of a 2D image, where the run needs 1.*slice by slice"):
        image_of(np.ones((20, 24, 16)), plan_of(2, 2, (8, 8), (1, 1)))
    with pytest.raises(InputError, match="is a volume, but the run needs 2D images"):
        image_of(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), plan_of(2, 2, (8, 8), (1, 1)))


def test_arguments_that_would_be_ignored_are_refused(tmp_path: Path, discs: Path) -> None:
    trained = volume_run(tmp_path / "run")
    for options, name in (({"output": tmp_path}, "output"), ({"split": "val"}, "split"), ({"bids": True}, "bids")):
        with pytest.raises(InputError, match=f"^`{name}`: an image in memory"):
            deconvseg.predict(np.ones((8, 8, 8)), trained, **options)
    with pytest.raises(InputError, match="^`affine`: files contain their geometry"):
        deconvseg.predict(discs, trained, tmp_path, affine=np.eye(3))
    with pytest.raises(InputError, match=r"the image: give a deconvseg.data.Image .* not a ndarray"):
        Predictor([(nn.Conv2d(1, 2, 1), plan_of(2, 2, (8, 8), (1, 1)))]).segment(np.ones((8, 8)))
    with pytest.raises(InputError, match="these pixels are complex64"):
        Image(np.ones((1, 8, 8), np.complex64), Geometry.identity(2))
