"""Probabilities as images: the grid of the case, numbers that are shares, and what Python gets."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from torch import nn

from deconvseg.data import Case, Geometry, Image, read_image, write_shares
from deconvseg.errors import DeconvsegError
from deconvseg.inference import Predictor, predict, predict_cases
from deconvseg.inference.map_files import hold_maps, map_paths
from deconvseg.runs import Run
from plans import plan_of, volume_run

STEP = 1 / 65535
AFFINE = np.array([[0, -1.5, 0, 5], [1.0, 0, 0, -3], [0, 0, 2.0, 9], [0, 0, 0, 1]])


@settings(deadline=None, max_examples=20)
@given(array_shapes(min_dims=4, max_dims=4, max_side=6), st.integers(0, 999))
def test_shares_of_a_volume_read_again_are_themselves_to_half_a_step(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], seed: int
) -> None:
    file = tmp_path_factory.mktemp("shares") / "p.nii.gz"
    shares = np.random.default_rng(seed).random(shape, np.float32)
    write_shares(shares, Geometry(AFFINE), file)
    read = nib.load(file)
    assert np.abs(np.moveaxis(read.get_fdata().reshape(*shape[1:], shape[0]), -1, 0) - shares).max() <= STEP * 0.51
    assert np.allclose(read.affine, AFFINE)
    assert read.header.get_xyzt_units()[0] == "mm"
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    assert np.allclose(itk.reshape(shape[0], *shape[:0:-1]).transpose(0, 3, 2, 1), shares, atol=STEP)


def test_the_place_of_a_nifti_is_that_of_its_image(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 3)
    nib.save(image, tmp_path / "scan.nii.gz")
    geometry = read_image([tmp_path / "scan.nii.gz"]).geometry
    write_shares(np.ones((2, 3, 4, 5), np.float32), geometry, tmp_path / "p.nii.gz", like=tmp_path / "scan.nii.gz")
    found, source = (nib.load(tmp_path / name).header for name in ("p.nii.gz", "scan.nii.gz"))
    for field in ("qform_code", "sform_code", "srow_x", "quatern_b", "xyzt_units"):
        assert np.array_equal(found[field], source[field])
    assert np.array_equal(found["pixdim"][:4], source["pixdim"][:4])


@pytest.mark.parametrize("bids", [False, True])
def test_probabilities_of_volumes_lie_on_the_images_grid(tmp_path: Path, bids: bool) -> None:
    run = Run.open(volume_run(tmp_path / "run"))
    scans = tmp_path / "anat"
    scans.mkdir()
    rng = np.random.default_rng(0)
    file = scans / "sub-01_T1w.nii.gz"
    nib.save(nib.Nifti1Image(rng.normal(size=(9, 8, 11)).astype(np.float32), AFFINE), file)
    options = {"device": "cpu", "bids": bids, "probabilities": True}
    done = predict(scans, run.path, tmp_path / "masks", save_probabilities=True, **options)
    (mask,) = done.written
    (path,) = map_paths(mask, run.plan)
    expected = "sub-01/anat/sub-01_desc-deconvseg_probseg.nii.gz" if bids else "probabilities/sub-01_T1w.nii.gz"
    assert path == tmp_path / "masks" / expected
    found = nib.load(path)
    assert np.array_equal(found.affine, nib.load(mask).affine)
    maps = found.get_fdata()
    assert maps.shape == (9, 8, 11, 3)
    assert np.abs(maps.sum(-1) - 1).max() <= 3 * STEP
    assert np.array_equal(np.array([0, 5, 300])[maps.argmax(-1)], np.asarray(nib.load(mask).dataobj))
    described = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert described == {"LabelMap": ["background", "a", "b"], "exclusive": True}
    # nnU-Net's form is the same, unrounded.
    with np.load(next((tmp_path / "masks").rglob("*.npz"))) as archive:
        assert np.abs(np.moveaxis(maps, -1, 0) - archive["probabilities"]).max() <= STEP * 0.51
    assert predict(scans, run.path, tmp_path / "masks", skip_existing=True, **options).skipped == [mask]
    path.write_bytes(b"")
    assert not hold_maps(mask, run.plan, (9, 8, 11))
    assert predict(scans, run.path, tmp_path / "masks", skip_existing=True, **options).written == [mask]
    assert hold_maps(mask, run.plan, (9, 8, 11))


def test_probabilities_of_pictures_are_grey_pictures_of_16_bits(trained: Path, discs: Path, tmp_path: Path) -> None:
    predict(discs / "images", trained, tmp_path, probabilities=True, device="cpu")
    maps = {}
    for name in ("background", "disc"):
        with PIL.Image.open(tmp_path / "probabilities" / "disc0" / f"{name}.png") as picture:
            assert picture.mode.startswith("I")
            maps[name] = np.asarray(picture).astype(float) * STEP
    assert np.abs(maps["background"] + maps["disc"] - 1).max() <= 2 * STEP
    with PIL.Image.open(tmp_path / "disc0.png") as mask:
        assert np.array_equal(np.asarray(mask) > 0, maps["disc"] > 0.5)


def test_names_of_classes_become_names_of_files_of_their_own(tmp_path: Path) -> None:
    plan = plan_of(2, 3, (8, 8), (1, 1))
    plan = plan.model_copy(update={"labels": plan.labels.model_copy(update={"names": ("a/b", "a b", "../c")})})
    paths = map_paths(tmp_path / "case.png", plan)
    assert [path.name for path in paths] == ["0_a_b.png", "1_a_b.png", ".._c.png"]
    assert {path.parent for path in paths} == {tmp_path / "probabilities" / "case"}


def test_earlier_probabilities_go_with_their_mask(tmp_path: Path) -> None:
    torch.manual_seed(0)
    predictor = Predictor([(nn.Conv3d(1, 3, 1), plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0)))])
    scan = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 8), np.uint8), np.eye(4)), scan)
    image = Image(np.random.default_rng(0).normal(size=(1, 9, 8, 8)).astype(np.float32), Geometry.identity(3))
    case = Case("a", (scan,), None)
    predict_cases(predictor, [case], tmp_path / "masks", load=lambda _: image, probabilities=True)

    def broken(_: Case) -> Image:
        raise DeconvsegError("broken")

    done = predict_cases(predictor, [case], tmp_path / "masks", load=broken, probabilities=True)
    assert done.problems
    assert sorted(path.name for path in (tmp_path / "masks" / "probabilities").iterdir()) == ["a.json", "a.nii.gz.old"]


def test_a_new_mask_leaves_no_earlier_probabilities_beside_it(tmp_path: Path) -> None:
    plan, masks = plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0)), tmp_path / "masks"
    torch.manual_seed(0)
    one, other = (Predictor([(nn.Conv3d(1, 3, 1), plan)]) for _ in range(2))
    scan = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 8), np.uint8), np.eye(4)), scan)
    image = Image(np.random.default_rng(0).normal(size=(1, 9, 8, 8)).astype(np.float32), Geometry.identity(3))
    case, maps = Case("a", (scan,), None), masks / "probabilities" / "a.nii.gz"

    def again(predictor: Predictor, **options: bool) -> list[str]:
        done = predict_cases(predictor, [case], masks, load=lambda _: image, **options)
        return done.remarks.get("a", [])

    again(one, probabilities=True)
    first = maps.read_bytes()
    assert again(other)[-1] == "the probabilities of its earlier mask are now a.nii.gz.old"
    assert not maps.exists()
    # As versions without this left them.
    maps.write_bytes(first)
    assert "its probabilities are missing or damaged" in again(other, probabilities=True, skip_existing=True)[0]
    expected = other.probabilities(image)
    assert np.allclose(np.moveaxis(nib.load(maps).get_fdata(), -1, 0), expected, atol=1e-4)
    assert again(other, probabilities=True, skip_existing=True) == []


def test_python_gets_probabilities_in_the_type_of_its_image(tmp_path: Path) -> None:
    run = volume_run(tmp_path / "run")
    pixels = np.random.default_rng(0).normal(size=(9, 8, 11)).astype(np.float32)
    mask, maps = predict(pixels, run, affine=AFFINE, probabilities=True, device="cpu")
    assert (maps.shape, maps.dtype) == ((3, 9, 8, 11), np.float32)
    assert np.allclose(maps.sum(0), 1, atol=1e-5)
    assert np.array_equal(np.array([0, 5, 300])[maps.argmax(0)], mask)
    _, tensor = predict(torch.from_numpy(pixels), run, affine=AFFINE, probabilities=True, device="cpu")
    assert torch.equal(tensor, torch.from_numpy(maps))
    scan = nib.Nifti1Image(pixels, AFFINE)
    scan.header.set_xyzt_units("mm")
    nibabel_mask, volume = predict(scan, run, probabilities=True, device="cpu")
    assert np.array_equal(np.asarray(nibabel_mask.dataobj), mask)
    assert np.array_equal(np.moveaxis(volume.get_fdata(dtype=np.float32), -1, 0), maps)
    assert np.array_equal(volume.affine, AFFINE)
    label_map, image = predict(Image(pixels[None], Geometry(AFFINE)), run, probabilities=True, device="cpu")
    assert np.array_equal(image.pixels, maps)
    assert np.array_equal(image.geometry.affine, label_map.geometry.affine)
    itk = sitk.GetImageFromArray(pixels.T)
    itk.SetSpacing((1.0, 1.5, 2.0))
    itk_mask, vector = predict(itk, run, probabilities=True, device="cpu")
    assert vector.GetNumberOfComponentsPerPixel() == 3
    assert (vector.GetSize(), vector.GetSpacing(), vector.GetOrigin()) == (
        *(itk.GetSize(), itk.GetSpacing(), itk.GetOrigin()),
    )
    values = sitk.GetArrayFromImage(vector)
    assert np.array_equal(np.array([0, 5, 300])[values.argmax(-1)], sitk.GetArrayFromImage(itk_mask))
