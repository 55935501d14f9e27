"""BIDS: which mask belongs to which images by their names alone, and what is ambiguous is said, not guessed."""

import json

import nibabel as nib
import numpy as np
import pytest

from deconvseg.data import (
    Case,
    LabelMap,
    bids_mask_paths,
    check_dataset,
    is_dataset,
    list_bids_masks,
    open_dataset,
    read_image,
    report_problems,
    write_bids_description,
    write_label_map,
)
from deconvseg.errors import InputError


def volumes(root, *names, labels=False):
    for name in names:
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.arange(24).reshape(2, 3, 4) % (3 if labels else 24)
        nib.save(nib.Nifti1Image(pixels.astype(np.uint8 if labels else np.float32), np.diag([1, 1, 2, 1])), path)


def described(root, kind="raw", generator="manual"):
    root.mkdir(parents=True, exist_ok=True)
    record = {"Name": "test", "BIDSVersion": "1.9.0", "DatasetType": kind}
    if kind == "derivative":
        record["GeneratedBy"] = [{"Name": generator}]
    (root / "dataset_description.json").write_text(json.dumps(record))
    return root


@pytest.fixture
def raw(tmp_path):
    """Two subjects, one with two sessions; T1w and FLAIR on one grid, other scans beside them."""
    for visit in ("sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1"):
        stem = visit.replace("/", "_")
        volumes(tmp_path / visit, f"anat/{stem}_T1w", f"anat/{stem}_acq-3d_FLAIR", f"func/{stem}_task-rest_bold")
        (tmp_path / visit / "anat" / f"{stem}_T1w.json").write_text("{}")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n")
    return described(tmp_path)


VISITS = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1")


def folder_of(visit):
    return visit.replace("_", "/") + "/anat"


def derivative(raw, ending="desc-manual_dseg", name="manual", visits=VISITS):
    tree = described(raw / "derivatives" / name, "derivative")
    volumes(tree, *(f"{folder_of(visit)}/{visit}_{ending}" for visit in visits), labels=True)
    return tree


def test_a_raw_tree_with_masks_in_a_derivative(raw):
    tree = derivative(raw)
    (tree / "desc-manual_dseg.tsv").write_text("index\tname\n1\tlesion\n2\tventricle\n")
    (tree / "desc-other_dseg.tsv").write_text("index\tname\n1\tsomething else\n")
    assert is_dataset(raw)
    dataset = open_dataset(raw)
    assert (dataset.layout, dataset.names, dataset.problems) == ("bids", VISITS, ())
    assert dataset.channel_names == ("FLAIR", "T1w")
    assert dataset.label_names == {0: "background", 1: "lesion", 2: "ventricle"}
    case = dataset.case("sub-01_ses-2")
    folder = raw / "sub-01" / "ses-2" / "anat"
    assert case.images == (folder / "sub-01_ses-2_acq-3d_FLAIR.nii.gz", folder / "sub-01_ses-2_T1w.nii.gz")
    assert case.label == tree / "sub-01/ses-2/anat/sub-01_ses-2_desc-manual_dseg.nii.gz"
    assert dataset.load(case)[0].channels == 2
    assert check_dataset(dataset).errors == ()
    assert open_dataset(tree).cases == dataset.cases


def test_tables_beside_the_masks_name_the_labels_together_and_must_agree(raw):
    tree = derivative(raw)
    first, second = (tree / folder_of(visit) / f"{visit}_desc-manual_dseg.tsv" for visit in VISITS[:2])
    first.write_text("index\tname\tcolor\n0\tBackground\t#000\n1\tlesion\t#f00\n")
    second.write_text("name\tindex\nventricle\t2\n")
    assert open_dataset(raw).label_names == {0: "Background", 1: "lesion", 2: "ventricle"}
    second.write_text("index\tname\n1\tventricle\n")
    with pytest.raises(InputError, match=rf"{second} names the label 1 'ventricle', but {first} 'lesion'"):
        open_dataset(raw)
    for broken in (
        "number\tname\n1\tlesion\n",
        "index\tname\none\tlesion\n",
        "index,name\n1,lesion\n",
        "index\tname\n1\n",
    ):
        second.write_text(broken)
        with pytest.raises(
            InputError, match=rf"{second} is not a table of labels .* columns index and name"
        ) as failure:
            open_dataset(raw)
        assert failure.value.exit_code == 2


def test_a_mask_of_one_label_is_named_by_it(raw):
    derivative(raw, "label-lesion_mask")
    assert open_dataset(raw).label_names == {0: "background", 1: "lesion"}
    assert open_dataset(raw, foreground=True).foreground


def test_masks_in_the_raw_tree_itself(raw):
    volumes(raw, *(f"{folder_of(visit)}/{visit}_mask" for visit in VISITS), labels=True)
    dataset = open_dataset(raw)
    assert dataset.labelled_names == VISITS
    assert dataset.label_names is None


@pytest.mark.parametrize("second", [("desc-brain_mask", "manual"), ("desc-manual_dseg", "other")])
def test_several_kinds_of_masks_are_not_chosen_from(raw, second):
    tree = derivative(raw)
    other = derivative(raw, *second)
    with pytest.raises(InputError, match=r"has 2 kinds of masks: derivatives/.*nii\.gz.*\.csv file") as failure:
        open_dataset(raw)
    assert failure.value.exit_code == 2
    assert "\n" not in str(failure.value)
    if other != tree:
        assert open_dataset(tree).names == VISITS


def test_what_deconvseg_predicted_is_no_truth_unless_it_is_opened(raw):
    tree = derivative(raw)
    predicted = derivative(raw, "desc-deconvseg_dseg", "deconvseg")
    write_bids_description_over(predicted)
    assert {case.label.is_relative_to(tree) for case in open_dataset(raw).cases} == {True}
    assert {case.label.is_relative_to(predicted) for case in open_dataset(predicted).cases} == {True}


def write_bids_description_over(tree):
    (tree / "dataset_description.json").unlink()
    write_bids_description(tree, {0: "background", 1: "lesion"})


def test_what_is_missing_or_there_twice_is_a_problem_and_the_others_go_on(raw):
    derivative(raw, visits=VISITS[:2])
    volumes(raw, "sub-03/anat/sub-03_T1w", "sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w")
    dataset = open_dataset(raw)
    assert dataset.names == ("sub-01_ses-2", "sub-02_ses-1")
    found = {problem.file.rpartition("/")[2]: problem.message for problem in dataset.problems}
    assert set(found) == {
        "sub-01_ses-1_desc-manual_dseg.nii.gz", "sub-02_ses-1_T1w.nii.gz", "sub-03_T1w.nii.gz"
    }  # fmt: skip
    assert found["sub-01_ses-1_desc-manual_dseg.nii.gz"].startswith(
        "has several images T1w (sub-01_ses-1_T1w.nii.gz, sub-01_ses-1_run-2_T1w.nii.gz) and is left out; keep"
    )
    assert found["sub-02_ses-1_T1w.nii.gz"] == "has no mask"
    assert found["sub-03_T1w.nii.gz"].startswith("has no image FLAIR and is left out; add it, or give")


def test_what_is_not_fetched_is_a_problem_though_links_to_it_are_there(raw):
    """A dataset of DataLad's: image and mask of one visit are links to nothing, and so is a scan of no interest."""
    tree = derivative(raw)
    visit = VISITS[1]
    names = {raw: f"{visit}_T1w.nii.gz", tree: f"{visit}_desc-manual_dseg.nii.gz"}
    gone = [root / folder_of(visit) / name for root, name in names.items()]
    for file in (*gone, raw / "sub-01" / "ses-2" / "func" / f"{visit}_task-rest_bold.nii.gz"):
        file.unlink()
        file.symlink_to(raw / ".git" / "annex" / "objects" / "nothing")
    dataset = open_dataset(raw)
    assert dataset.names == (VISITS[0], VISITS[2])
    found = {problem.file for problem in dataset.problems if "datalad get" in problem.message}
    assert found == {str(file) for file in gone}
    assert report_problems(dataset, dataset.names)[0].startswith(tuple(map(str, gone)))


def test_a_mask_of_one_run_takes_the_images_of_that_run(raw):
    for visit in VISITS:
        volumes(raw, *(f"{folder_of(visit)}/{visit}_run-{run}_T2w" for run in (1, 2)))
    derivative(raw, "run-2_dseg")
    dataset = open_dataset(raw)
    assert dataset.names == tuple(f"{visit}_run-2" for visit in VISITS)
    assert [path.name[len(VISITS[0]) + 1 :] for path in dataset.cases[0].images] == [
        "acq-3d_FLAIR.nii.gz", "T1w.nii.gz", "run-2_T2w.nii.gz"
    ]  # fmt: skip


def test_the_sources_in_a_sidecar_are_the_channels(raw):
    tree = derivative(raw)
    for visit in VISITS:
        sidecar = {"Sources": [f"bids:raw:{folder_of(visit)}/{visit}_T1w.nii.gz"]}
        (tree / folder_of(visit) / f"{visit}_desc-manual_dseg.json").write_text(json.dumps(sidecar))
    dataset = open_dataset(raw)
    assert dataset.channel_names == ("T1w",)
    assert {case.images[0].name for case in dataset.cases} == {f"{visit}_T1w.nii.gz" for visit in VISITS}


def test_masks_in_a_space_go_with_the_images_in_it(raw):
    tree = derivative(raw, "space-MNI_label-lesion_mask")
    volumes(tree, *(f"{folder_of(visit)}/{visit}_space-MNI_desc-preproc_T1w" for visit in VISITS))
    dataset = open_dataset(raw)
    assert dataset.channel_names == ("T1w",)
    assert all(case.images[0].is_relative_to(tree) for case in dataset.cases)


def test_a_space_named_by_a_scan_is_that_scan(raw):
    derivative(raw, "space-FLAIR_dseg")
    assert open_dataset(raw).channel_names == ("FLAIR",)


def test_masks_without_images_say_what_to_open(tmp_path):
    tree = described(tmp_path / "masks", "derivative")
    volumes(tree, "sub-01/anat/sub-01_dseg", labels=True)
    with pytest.raises(InputError, match=r"has no image for its masks \(sub-01_dseg\.nii\.gz, …\); open the raw"):
        open_dataset(tree)
    described(tmp_path / "empty")
    (tmp_path / "empty" / "sub-01").mkdir()
    with pytest.raises(InputError, match="has neither images nor masks"):
        open_dataset(tmp_path / "empty")


def test_a_tree_like_that_of_isles22(tmp_path):
    """Images below rawdata/, masks straight below derivatives/, its own suffix msk, and no description."""
    for subject in ("stroke0001", "stroke0002"):
        visit = f"sub-{subject}/ses-0001"
        stem = visit.replace("/", "_")
        volumes(tmp_path / "rawdata" / visit, f"dwi/{stem}_dwi", f"dwi/{stem}_adc")
        volumes(tmp_path / "derivatives" / visit, f"{stem}_msk", labels=True)
    dataset = open_dataset(tmp_path)
    assert dataset.names == ("sub-stroke0001_ses-0001", "sub-stroke0002_ses-0001")
    assert (dataset.channel_names, dataset.problems) == (("adc", "dwi"), ())
    assert dataset.load(dataset.cases[1])[1] is not None


def test_a_raw_tree_without_masks_can_be_predicted(raw):
    for path in raw.glob("sub-*/*/func/*"):
        path.unlink()
    dataset = open_dataset(raw)
    assert (dataset.names, dataset.labelled_names, dataset.problems) == (VISITS, (), ())


def test_subjects_without_a_description_are_no_dataset(tmp_path):
    volumes(tmp_path, "sub-01/anat/sub-01_T1w")
    assert not is_dataset(tmp_path)
    (tmp_path / "sub-01" / "anat" / "notes_T1w.nii.gz").touch()
    described(tmp_path)
    assert open_dataset(tmp_path).names == ("sub-01",)


def test_predictions_are_a_derivative_that_is_read_again(raw):
    dataset = open_dataset(derivative(raw))
    output = raw / "derivatives" / "deconvseg"
    write_bids_description(output, {0: "background", 3: "white\tmatter"})
    paths = bids_mask_paths(dataset.cases, output)
    assert paths["sub-01_ses-2"] == output / "sub-01/ses-2/anat/sub-01_ses-2_desc-deconvseg_dseg.nii.gz"
    for case in dataset.cases:
        image = read_image(case.images)
        mask = LabelMap((image.pixels[0] > 5).astype(np.uint8) * 3, image.geometry)
        write_label_map(mask, paths[case.name], like=case.images[0])
    assert list_bids_masks(output) == {name: [path] for name, path in paths.items()}
    predicted = open_dataset(output)
    assert predicted.names == dataset.names
    assert [case.images for case in predicted.cases] == [case.images for case in dataset.cases]
    assert predicted.label_names == {0: "background", 3: "white matter"}
    assert check_dataset(predicted).errors == ()
    description = json.loads((output / "dataset_description.json").read_text())
    assert (description["DatasetType"], description["GeneratedBy"][0]["Name"]) == ("derivative", "deconvseg")
    write_bids_description(output, {0: "background"})  # a second prediction into the same folder


def test_a_single_scan_keeps_its_entities(tmp_path):
    case = Case("x", (tmp_path / "sub-01_acq-3d_desc-preproc_run-2_T1w.nii.gz",), None)
    (path,) = bids_mask_paths([case], "out").values()
    assert path.name == "sub-01_acq-3d_run-2_desc-deconvseg_dseg.nii.gz"
    named = Case("sub-01_run-2", (case.images[0].with_name("sub-01_acq-3d_run-2_space-MNI_T1w.nii.gz"),), None)
    (path,) = bids_mask_paths([named], "out").values()
    assert path.name == "sub-01_run-2_space-MNI_desc-deconvseg_dseg.nii.gz"


def test_what_cannot_be_a_derivative_is_refused(raw):
    with pytest.raises(InputError, match=r"scan\.nii\.gz has no BIDS name \(sub-01_T1w\.nii\.gz\)"):
        bids_mask_paths([Case("scan", (raw / "scan.nii.gz",), None)], raw / "out")
    rivals = [Case(suffix, (raw / f"sub-01_{suffix}.nii.gz",), None) for suffix in ("T1w", "T2w")]
    with pytest.raises(InputError, match=r"sub-01_T2w.* and .*sub-01_T1w.* would have the same mask"):
        bids_mask_paths(rivals, raw / "out")
    with pytest.raises(InputError, match=r"dataset_description\.json describes another dataset; choose .*derivatives"):
        write_bids_description(raw, {0: "background"})
    assert json.loads((raw / "dataset_description.json").read_text())["Name"] == "test"
