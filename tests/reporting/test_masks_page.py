"""The page of predicted masks without truth: pictures, volumes, warnings."""

import json

import nibabel as nib
import numpy as np
import pytest

from deconvseg.data import Geometry, LabelMap, write_label_map
from deconvseg.errors import InputError
from deconvseg.reporting import write_mask_report
from deconvseg.reporting.masks import is_mask_folder, measure_volumes, read_mask_folder
from html_pages import Page

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])
WARNING = "spacing 3 mm is unlike the training scans' <1 mm>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three masks of two classes with their records, as ``predict`` leaves them, and the scans elsewhere."""
    root = tmp_path_factory.mktemp("masks")
    (root / "scans").mkdir()
    records = []
    for name, organ in (("a", 400), ("b", 20), ("empty", 0)):
        pixels = np.zeros((20, 24, 10), np.uint8)
        pixels.reshape(-1)[:organ] = 3
        pixels[10:12, 5:7, 4] = 7 if organ else 0
        write_label_map(LabelMap(pixels, Geometry(AFFINE)), root / "found" / f"{name}.nii.gz")
        for channel in range(2):
            scan = np.random.default_rng(channel).normal(size=pixels.shape).astype(np.float32)
            nib.save(nib.Nifti1Image(scan, AFFINE), root / "scans" / f"{name}_{channel:04d}.nii.gz")
        records.append(
            {
                "mask": f"{name}.nii.gz",
                "images": [{"name": f"{name}_{channel:04d}.nii.gz"} for channel in range(2)],
                "warnings": [WARNING] if name == "b" else [],
                "doubt": {"doubtful": name == "b"},
                "runs": [{"name": "liver", "labels": {"3": "organ", "7": "tail <&>"}, "colours": {"organ": "#123456"}}],
            }
        )
    lines = ["not a record", *map(json.dumps, records)]
    (root / "found" / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "masks.html"
    return Page(write_mask_report(folder / "found", images=folder / "scans", output=output))


def test_volumes_are_voxels_times_their_size(folder):
    masks = {mask.name: mask for mask in read_mask_folder(folder / "found").masks}
    mask, image = masks["a"].read()
    assert measure_volumes(mask) == pytest.approx({3: 400 * 6 / 1000, 7: 4 * 6 / 1000})
    assert image is None
    flat = LabelMap(np.array([[0, 1], [1, 1]]), Geometry.identity(2))
    assert measure_volumes(flat) == {1: 3.0}


def test_scans_are_those_that_were_recorded_else_those_of_the_name(folder, tmp_path):
    (mask, *_) = read_mask_folder(folder / "found", folder / "scans").masks
    assert [file.name for file in mask.images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    _, image = mask.read()
    assert image.channels == 2
    for name in ("a", "b"):
        write_label_map(LabelMap(np.eye(9, dtype=np.uint8), Geometry.identity(2)), tmp_path / "m" / f"{name}.png")
    write_label_map(LabelMap(np.eye(9, dtype=np.uint8), Geometry.identity(2)), tmp_path / "scans" / "b.png")
    found = read_mask_folder(tmp_path / "m", tmp_path / "scans").masks
    assert [[file.name for file in each.images] for each in found] == [[], ["b.png"]]


class TestPage:
    def test_names_colours_and_volumes(self, page):
        assert "organ 2.4 mL" in page.text
        assert "tail <&> 0.024 mL" in page.text
        assert page.source.count('fill="#123456"') >= 4

    def test_what_there_is_to_look_at_comes_first(self, page):
        pictures = [picture["alt"] for picture in page.pictures]
        assert pictures == ["b", "empty", "a"]
        assert f"doubtful {WARNING}" in page.text
        assert "the mask is empty" in page.text
        assert "2 of them have a remark" in page.text

    def test_links_and_nothing_from_outside(self, page):
        assert len(page.ids) == len(set(page.ids))
        assert all(link[1:] in page.ids for link in page.links)
        assert "http:" not in page.source
        assert "https:" not in page.source
        assert all(picture["loading"] == "lazy" for picture in page.pictures)

    def test_sides_of_the_patient_scale_and_no_score(self, page):
        assert ">R</span>" in page.source
        assert "mm</i></span>" in page.source
        assert "no scores" in page.text
        assert "Dice" not in page.text

    def test_without_scans_and_with_fewer_pictures(self, folder, tmp_path):
        page = Page(write_mask_report(folder / "found", output=tmp_path / "x.html", most=1))
        assert "The scans were not given" in page.text
        assert [picture["alt"] for picture in page.pictures] == ["b"]
        assert "2 more masks without a picture" in page.text


def test_a_damaged_mask_is_told_and_the_others_are_shown(folder, tmp_path):
    write_label_map(LabelMap(np.eye(9, dtype=np.uint8), Geometry.identity(2)), tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    page = Page(write_mask_report(tmp_path))
    assert "cannot be read" in page.text
    assert [picture["alt"] for picture in page.pictures] == ["good"]


def test_which_folders_are_of_masks(folder, trained, tmp_path):
    assert is_mask_folder(folder / "found")
    assert is_mask_folder(trained / "validation")
    assert not is_mask_folder(trained)
    assert not is_mask_folder(tmp_path)
    assert not is_mask_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="contains no masks"):
        write_mask_report(tmp_path)
