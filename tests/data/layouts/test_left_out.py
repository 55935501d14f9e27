"""Images that a folder holds and no case uses are counted and named, a line for each kind; companions are no noise."""

import json

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from deconvseg.data import check_dataset, open_dataset, open_images, report_problems
from deconvseg.data.formats import registry
from deconvseg.errors import InputError

PIXELS = np.zeros((6, 5), np.uint8)
PIXELS[2:4, 1:3] = 255
VOLUME = np.zeros((4, 5, 6), np.uint8)
VOLUME[1:3, 1:3, 2:4] = 1

COMPANIONS = (
    *("README", "README.md", "notes.txt", "table.csv", "dataset.json", "a.json", "dwi.bval", "dwi.bvec", "Thumbs.db"),
    *(".DS_Store", "._a.png", "desktop.ini", "figure.pdf", "export.zip", "labels.label", "surface.gii"),
)


def raster(path, pixels=PIXELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def volume(path, pixels=VOLUME):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(pixels, np.eye(4)), path)
    return path


def dicom(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + bytes(20))
    return path


@pytest.fixture
def without_dicom(monkeypatch):
    """As where the extra for DICOM is not installed."""
    monkeypatch.delitem(registry._FORMATS, "dicom")
    registry._suffixes.cache_clear()
    yield
    monkeypatch.undo()
    registry._suffixes.cache_clear()


def bare_dicom(path):
    """Without the preamble, as old scanners write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100\x08\0\x16\0" + bytes(200))
    return path


def folders(root):
    for name in "ab":
        raster(root / "images" / f"{name}.png")
        raster(root / "masks" / f"{name}.png")
    return root


def nnunet(root):
    for name in "ab":
        volume(root / "imagesTr" / f"{name}_0000.nii.gz")
        volume(root / "labelsTr" / f"{name}.nii.gz")
    record = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(record))
    return root


def decathlon(root):
    nnunet(root)
    for name in "ab":
        (root / "imagesTr" / f"{name}_0000.nii.gz").rename(root / "imagesTr" / f"{name}.nii.gz")
    pairs = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "ab"]
    record = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "organ"}, "training": pairs}
    (root / "dataset.json").write_text(json.dumps(record))
    return root


def bids(root):
    for name in ("sub-01", "sub-02"):
        volume(root / name / "anat" / f"{name}_T1w.nii.gz")
        volume(root / "derivatives" / "manual" / name / "anat" / f"{name}_dseg.nii.gz")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0"}))
    return root


def table(root):
    folders(root)
    (root / "pairs.csv").write_text("image,label\nimages/a.png,masks/a.png\nimages/b.png,masks/b.png\n")
    return root / "pairs.csv"


LAYOUTS = {
    "folders": (folders, "images"),
    "nnunet": (nnunet, "imagesTr"),
    "msd": (decathlon, "imagesTr"),
    "bids": (bids, "sub-01/anat"),
    "csv": (table, "images"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_companions_are_no_noise(tmp_path, layout):
    make, images = LAYOUTS[layout]
    dataset = make(tmp_path)
    for name in COMPANIONS:
        if not (tmp_path / images / name).exists():
            (tmp_path / images / name).write_text("no image")
    raster(tmp_path / images / "thumbs" / "a.png")
    raster(tmp_path / images / ".ipynb_checkpoints" / "a-checkpoint.png")
    assert open_dataset(dataset).problems == ()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "name",
    [
        *("c.vti", "c.npy", "c.czi", "C.MNC", "c.nii.bz2", "c.jp2", "c.svs", "c.img.gz"),
        *("c.BRIK", "c.mnc", "c d (1).heic", "c.lif"),
    ],
)
def test_other_formats_are_counted_and_named_in_every_layout(tmp_path, layout, name):
    make, images = LAYOUTS[layout]
    dataset = make(tmp_path)
    (tmp_path / images / name).write_bytes(bytes(200))
    (problem,) = open_dataset(dataset).problems
    assert name in problem.message
    assert "holds 1 " in problem.message
    report = check_dataset(open_dataset(dataset))
    assert f"{problem.severity}: {problem.file}: {problem.message}" in report.to_text()
    assert problem.message in json.dumps(report.to_json(), ensure_ascii=False)
    assert report_problems(open_dataset(dataset), ()) == [f"{problem.file} {problem.message}"]


@pytest.mark.parametrize("layout", ["folders", "nnunet", "bids"])
@pytest.mark.parametrize("name", ["siteB/c_0000.nii.gz", "p/q/c.png", ".c_0000.nii.gz", "sub-PAT_05_T1w.nii.gz"])
def test_images_in_other_places_or_with_other_names_are_named(tmp_path, layout, name):
    make, images = LAYOUTS[layout]
    dataset = make(tmp_path)
    path = tmp_path / images / name
    (volume if name.endswith(".nii.gz") else raster)(path)
    told = [f"{problem.file} {problem.message}" for problem in open_dataset(dataset).problems]
    assert any(path.name in text for text in told), told


def test_subjects_that_are_nearly_bids_are_named(tmp_path):
    bids(tmp_path)
    names = ("sub-CON-04", "sub-PAT_05", "Sub-06", "sub_07", "patient8")
    for name in names:
        volume(tmp_path / name / "anat" / f"{name}_T1w.nii.gz")
    (problem,) = open_dataset(tmp_path).problems
    assert problem.severity == "error"
    assert "holds 5 image files whose names or folders are not those of BIDS" in problem.message
    assert "Sub-06/anat/Sub-06_T1w.nii.gz, patient8/" in problem.message


@pytest.mark.parametrize("make", [table, decathlon])
def test_images_that_a_list_does_not_have_are_a_warning(tmp_path, make):
    dataset = make(tmp_path)
    for name in ("c", "d", "e", "f"):
        (raster if make is table else volume)(
            tmp_path / ("images" if make is table else "imagesTr") / f"{name}{'.png' if make is table else '.nii.gz'}"
        )
    (problem,) = open_dataset(dataset).problems
    listed_in = "pairs.csv" if make is table else "dataset.json"
    assert problem.severity == "warning"
    assert f"holds 4 image files that {listed_in} does not list (" in problem.message
    assert problem.message.endswith("and 1 more), left out")


@pytest.mark.parametrize("make", [table, decathlon])
def test_images_below_those_that_a_list_has_are_named_once_and_masks_are_not(tmp_path, make):
    dataset = make(tmp_path)
    folder = tmp_path / ("images" if make is table else "imagesTr")
    for name in ("old/c", "old/older/d"):
        (raster if make is table else volume)(folder / f"{name}{'.png' if make is table else '.nii.gz'}")
    volume(tmp_path / "elsewhere" / "e.nii.gz")  # of anything else that lies in the dataset's folder
    (problem,) = open_dataset(dataset).problems
    assert "holds 2 image files that" in problem.message
    assert "/old/c." in problem.message
    assert "/old/older/d." in problem.message


def test_many_files_are_one_line(tmp_path):
    images = folders(tmp_path) / "images"
    for number in range(200):
        (images / f"c{number:03d}.jp2").write_bytes(b"")
    (problem,) = open_dataset(tmp_path).problems
    assert problem.message == (
        "holds 200 files ending in .jp2 (c000.jp2, c001.jp2, c002.jp2 and 197 more), which is not read, left out; "
        "convert to .nii.gz (3D) or .png (2D)"
    )


@pytest.mark.parametrize(
    "name", ["IM0001", "1.2.840.113619.2.55.3", "scan.dcm", "slice.ima", "DICOMDIR", "0001.unknown"]
)
def test_dicom_says_how_to_convert_it_where_it_is_not_read(tmp_path, name, without_dicom):
    dicom(tmp_path / "series" / "study" / name)
    for opening in (open_dataset, open_images):
        with pytest.raises(InputError, match="DICOM.*dcm2niix -z y -o OUTPUT") as failure:
            opening(tmp_path / "series")
        assert failure.value.exit_code == 2
        with pytest.raises(InputError, match="is DICOM, which is not read; convert the series with 'dcm2niix"):
            opening(tmp_path / "series" / "study" / name)
    volume(tmp_path / "mixed" / "a.nii.gz")
    dicom(tmp_path / "mixed" / name)
    cases, (problem,) = open_images(tmp_path / "mixed")
    assert [case.name for case in cases] == ["a"]
    assert (problem.severity, "holds 1 DICOM file" in problem.message) == ("error", True)


def test_images_without_an_ending_are_named_by_their_content(tmp_path):
    raster(folders(tmp_path) / "images" / "c.png").rename(tmp_path / "images" / "c")
    (tmp_path / "images" / "LICENSE").write_text("free")
    (problem,) = open_dataset(tmp_path).problems
    assert problem.message.startswith("holds 1 image file without an ending that is read (c), left out")


def test_previews_and_voxels_beside_a_case_are_no_noise(tmp_path):
    for name in ("a.gif", "b.webp"):
        (folders(tmp_path / "pairs") / "images" / name).write_bytes(b"GIF8")
    assert open_dataset(tmp_path / "pairs").problems == ()
    for folder in ("images", "masks"):
        place = tmp_path / "meta" / folder
        place.mkdir(parents=True)
        (place / "a.mhd").write_text(
            "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = voxels.raw\n"
        )
        (place / "voxels.raw").write_bytes(bytes(8))
    assert open_dataset(tmp_path / "meta").problems == ()


def test_links_that_lead_to_themselves_stop_nothing(tmp_path):
    folders(tmp_path)
    (tmp_path / "images" / "around").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images" / "loop")
    (tmp_path / "masks" / "z.png").symlink_to(tmp_path / "masks" / "z.png")
    dataset = open_dataset(tmp_path)
    assert dataset.names == ("a", "b")
    assert [problem.message for problem in dataset.problems] == ["is a mask without an image"]
    (tmp_path / "images" / "z.png").symlink_to(tmp_path / "images" / "z.png")
    (error,) = check_dataset(open_dataset(tmp_path)).errors
    assert "z.png, which does not exist" in error.message


def test_a_folder_without_a_readable_file_says_what_it_holds(tmp_path):
    folders(tmp_path / "gif")
    for name in "ab":
        (tmp_path / "gif" / "masks" / f"{name}.png").rename(tmp_path / "gif" / "masks" / f"{name}.jp2")
    with pytest.raises(InputError, match=r"has a mask in .*holds 2 files ending in \.jp2 \(a\.jp2, b\.jp2\)"):
        open_dataset(tmp_path / "gif")
    raster(tmp_path / "deep" / "site" / "a.png")
    with pytest.raises(InputError, match=r"holds no image file; .*holds 1 image file in subfolders.*site/a\.png"):
        open_images(tmp_path / "deep")


def test_dicom_without_its_preamble_is_told(tmp_path, without_dicom):
    folders(tmp_path)
    bare_dicom(tmp_path / "images" / "series" / "IM0001")
    problem = next(problem for problem in open_dataset(tmp_path).problems if "DICOM" in problem.message)
    assert problem.severity == "error"
    assert "series/IM0001" in problem.message
    with pytest.raises(InputError, match=r"1 DICOM files \(IM0001\).*dcm2niix"):
        open_dataset(tmp_path / "images" / "series")
