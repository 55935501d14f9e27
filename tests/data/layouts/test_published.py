"""Published datasets are read in place: by the publishers' names, with what is missing named."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from deconvseg.catalog import CARDS
from deconvseg.data import check_dataset, list_demos, make_demo_dataset, open_dataset, resolve_folds, resolve_splits
from deconvseg.errors import InputError


@pytest.fixture(scope="module")
def published(generated_trees):
    return generated_trees


@pytest.fixture
def tree(published, tmp_path, request):
    return Path(shutil.copytree(published[request.param], tmp_path / request.param))


def messages(dataset):
    return [f"{Path(problem.file).name} {problem.message}" for problem in dataset.problems]


def empty_files(root, *names):
    for folder in {Path(name).parent for name in names}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).touch()
    return root


def test_strokes_have_dwi_and_adc_and_leave_flair_out(published):
    outer, inner = open_dataset(published["isles22"]), open_dataset(published["isles22"] / "ISLES-2022")
    for dataset in (outer, inner):
        assert (dataset.layout, dataset.channel_names) == ("isles22", ("DWI", "ADC"))
        assert dict(dataset.label_names) == {0: "background", 1: "lesion"}
        assert dataset.names == tuple(f"sub-strokecase000{number}_ses-0001" for number in range(1, 6))
        assert dataset.groups[dataset.names[0]] == "sub-strokecase0001"
        image, label_map = dataset.load(dataset.cases[0])
        assert image.pixels.shape == (2, *label_map.pixels.shape)
    assert any("has 5 FLAIR scans on other grids, left out" in text for text in messages(outer))
    assert any("publisher states 250: missing are sub-strokecase0006_ses-0001, " in text for text in messages(outer))


def test_tumours_have_regions_and_the_time_points_of_a_subject_are_one_group(published):
    dataset = open_dataset(published["brats23"])
    assert (dataset.layout, dataset.channel_names) == ("brats23", ("t1n", "t1c", "t2w", "t2f"))
    assert {region.name: region.labels for region in dataset.regions} == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    groups = dataset.groups
    assert groups["BraTS-GLI-00003-000"] == groups["BraTS-GLI-00003-001"] != groups["BraTS-GLI-00002-000"]
    assert len(dataset.labelled_names) == 5
    assert len(dataset.names) == 6
    assert not [problem for problem in dataset.problems if problem.severity == "error"]
    files = [path.name for path in dataset.case("BraTS-GLI-00000-000").images]
    assert files == [f"BraTS-GLI-00000-000-{sequence}.nii.gz" for sequence in ("t1n", "t1c", "t2w", "t2f")]


@pytest.mark.parametrize("inside", ["", "RawData", "RawData/Training"])
def test_an_abdomen_has_thirteen_named_organs(published, inside):
    dataset = open_dataset(published["btcv"] / inside)
    assert (dataset.layout, dataset.channel_names) == ("btcv", ("CT",))
    assert len(dataset.label_names) == 14
    assert dataset.label_names[5] == "esophagus"
    assert len(dataset.labelled_names) == 5
    assert dataset.names[-1] == ("img0007" if inside.endswith("Training") else "img0061")


def test_pictures_of_skin_pool_the_parts_and_draw_the_test_cases(published):
    dataset = open_dataset(published["isic"])
    assert (dataset.layout, dataset.channel_names) == ("isic", ("red", "green", "blue"))
    assert (dataset.foreground, dataset.foreground_name) == (True, "lesion")
    assert len(dataset.names) == len(dataset.labelled_names) == 5
    assert len(dataset.declared_test) == 1
    parts = resolve_folds(dataset, None, folds=2, strata=None, seed=0)
    assert all(part.test == dataset.declared_test for part in parts)
    assert {name for part in parts for name in part.val} == {*dataset.names} - {*dataset.declared_test}


def test_glands_are_one_class_and_the_three_parts_are_pooled(published):
    dataset = open_dataset(published["glas"])
    assert (dataset.layout, dataset.channel_names, dataset.declared_test) == ("glas", ("red", "green", "blue"), ())
    assert (dataset.foreground, dataset.foreground_name) == (True, "gland")
    assert dataset.names == ("testA_1", "testA_2", "testB_1", "train_1", "train_2")
    case = dataset.case("train_1")
    assert len(np.unique(np.asarray(PIL.Image.open(case.label)))) > 2
    assert {value: found.name for value, found in check_dataset(dataset).labels.items()} == {
        0: "background",
        1: "gland",
    }


def test_vessels_of_both_parts_are_pooled_under_the_names_of_their_parts(published):
    root = next(published["fives"].glob("FIVES*"))
    names = {"train": ("train_151_D", "train_1_A", "train_301_G", "train_451_N"), "test": ("test_1_A",)}
    for folder, expected in (
        (published["fives"], (*names["test"], *names["train"])),
        (root, (*names["test"], *names["train"])),
        (root / "train", names["train"]),
        (root / "test", names["test"]),
    ):
        dataset = open_dataset(folder)
        assert (dataset.layout, dataset.channel_names, dataset.declared_test) == ("fives", ("red", "green", "blue"), ())
        assert dataset.names == dataset.labelled_names == expected
    images = open_dataset(root / "train/Original")
    assert (images.names, images.labelled_names) == (names["train"], ())
    labels = check_dataset(dataset).labels
    assert {value: found.name for value, found in labels.items()} == {0: "background", 1: "vessel"}


def test_breast_images_unite_the_masks_of_several_lesions_and_leave_normal_ones_out(published):
    dataset = open_dataset(published["busi"])
    assert (dataset.layout, dataset.channel_names) == ("busi", ("red", "green", "blue"))
    assert dataset.names == (*(f"benign ({n})" for n in (1, 2, 3, 4)), "malignant (1)")
    case = dataset.case("benign (4)")
    assert [path.name for path in case.mask_files] == ["benign (4)_mask.png", "benign (4)_mask_1.png"]
    image, label = dataset.load(case)
    assert image.pixels.shape == (3, *label.pixels.shape)
    both = [np.asarray(PIL.Image.open(path)) > 0 for path in case.mask_files]
    assert np.array_equal(label.pixels > 0, both[0] | both[1])
    assert label.pixels.any()
    assert any("has 1 image of normal tissue of the 133" in text for text in messages(dataset))
    labels = check_dataset(dataset).labels
    assert {value: found.name for value, found in labels.items()} == {0: "background", 1: "lesion"}
    part = open_dataset(published["busi"] / "Dataset_BUSI_with_GT/malignant")
    assert (part.layout, part.names) == ("busi", ("malignant (1)",))


def test_cases_that_the_paper_does_not_use_are_in_no_split_but_those_of_a_file(tmp_path):
    root = make_demo_dataset(tmp_path / "busi", like="busi", cases=30)
    dataset = open_dataset(root)
    test, unused = {*dataset.declared_test}, {*dataset.declared_unused}
    assert (len(test), len(unused)) == (4, 2)
    rest = {*dataset.names} - test - unused
    folds = resolve_folds(dataset, None, folds=3, strata=lambda data: dict.fromkeys(data.names, "all"))
    assert {name for fold in folds for name in fold.val} == rest
    assert all({*fold.test} == test for fold in folds)
    splits = resolve_splits(dataset, None, fold=0)
    assert ({*splits.train, *splits.val}, {*splits.test}) == (rest, test)
    assert f"unused    2 cases in no split: {', '.join(sorted(unused))}" in check_dataset(dataset).to_text()
    assert any("keeps 2 cases out of all splits" in text for text in messages(dataset))
    first = sorted(unused)[0]
    fewer = open_dataset(root, exclude=[first])
    assert resolve_splits(fewer, None, fold=0) == splits
    (root / "splits.json").write_text(json.dumps({"test": [first]}))
    dataset = open_dataset(root)
    given = resolve_splits(dataset, dataset.splits_file, fold="all")
    assert given.test == (first,)
    assert {*given.train} == {*dataset.names} - {first}


def test_excluding_a_declared_test_case_moves_no_other_case(tmp_path):
    folder = make_demo_dataset(tmp_path / "isic", like="isic", cases=20)
    whole = open_dataset(folder)
    first = whole.declared_test[0]
    for excluded in (first, next(name for name in whole.names if name not in whole.declared_test)):
        fewer = open_dataset(folder, exclude=[excluded])
        pairs = [resolve_folds(data, None, folds=4, strata=None, seed=0) for data in (whole, fewer)]
        for before, after in zip(*pairs, strict=True):
            assert [name for name in before.val if name != excluded] == list(after.val)
            assert [name for name in before.test if name != excluded] == list(after.test)


def name_all(name):
    """Return the names of all files of a published dataset, without those of the cases that are not public."""
    card, tree = CARDS[name], CARDS[name].tree
    if name == "glas":
        parts = [(part, n) for part, count in card.counts.items() for n in range(1, count + 1)]
        named = [f"{Path(tree[0]).parent}/{part}_{n}{end}" for part, n in parts for end in (".bmp", "_anno.bmp")]
    elif name == "busi":
        ends = (".png", "_mask.png")
        named = [f"{p}/{p} ({n}){e}" for p, count in card.counts.items() for n in range(1, count + 1) for e in ends]
        named += [f"normal/normal ({n}){e}" for n in range(1, 134) for e in ends]
        named += ["benign/benign (4)_mask_1.png", "benign/benign (195)_mask_1.png", "benign/benign (195)_mask_2.png"]
    elif name == "fives":
        places = ((part, holds) for part in card.masks for holds in ("Original", "Ground truth"))
        each = {part: card.counts[part] // 4 for part in card.masks}
        named = [
            f"{Path(tree[0]).parts[0]}/{part}/{holds}/{place * each[part] + n}_{letter}.png"
            for part, holds in places
            for place, letter in enumerate("ADGN")
            for n in range(1, each[part] + 1)
        ]
    elif name == "btcv":
        numbers = [*range(1, 11), *range(21, 41)]
        named = [path.replace("0001", f"{n:04d}") for path in tree[:2] for n in numbers]
        named += [tree[2].replace("0061", f"{n:04d}") for n in range(61, 81)]
    elif name == "isic":
        named = []
        for part, first, count in (("Training", 0, 2594), ("Validation", 2594, 100), ("Test", 2694, 1000)):
            for path in tree[:2]:
                own = path.replace("Training", part)
                named += [own.replace("0000000", f"{n:07d}") for n in range(first, first + count)]
    else:
        old, new = ("case0001", "case{:04d}") if name == "isles22" else ("00000-000", "{:05d}-000")
        named = [path.replace(old, new.format(n)) for path in tree for n in range(1, card.counts["training"] + 1)]
    return named


@pytest.mark.parametrize("name", list_demos())
def test_the_whole_dataset_opens_without_a_warning_about_its_number(name, tmp_path):
    card = CARDS[name]
    dataset = open_dataset(empty_files(tmp_path, *name_all(name)))
    assert len(dataset.labelled_names) == sum(card.counts[part] for part in card.masks)
    drawn = {"isic": (1094, 0), "busi": (87, 40), "btcv": (12, 0)}.get(name, (0, 0))
    assert (len(dataset.declared_test), len(dataset.declared_unused)) == drawn
    assert not {*dataset.declared_test} & {*dataset.declared_unused}
    splits = resolve_splits(dataset, None, fold="all")
    assert len(splits.train) == len(dataset.labelled_names) - sum(drawn)
    assert not [text for text in messages(dataset) if "publisher" in text]
    if len(dataset.cases) < 1000:
        dataset.cases[1].images[0].unlink()
        assert [text for text in messages(open_dataset(tmp_path)) if "publisher states" in text]


@pytest.mark.parametrize(
    ("tree", "removed", "case", "message"),
    [
        ("isles22", "*case0002*_adc.nii.gz", "sub-strokecase0002_ses-0001", "has no adc beside it"),
        ("isles22", "*case0003*_msk.nii.gz", "sub-strokecase0003_ses-0001", "has no mask"),
        ("brats23", "*00001-000-t2[fw].nii.gz", "BraTS-GLI-00001-000", "has no t2w and no t2f beside it"),
        ("brats23", "*00002-000-seg.nii.gz", "BraTS-GLI-00002-000", "has no mask"),
        ("isic", "*0000001_seg*.png", "ISIC_0000001", "has no mask"),
        ("isic", "*0000003.jpg", "ISIC_0000003", "is a mask without an image"),
        ("glas", "train_2_anno.bmp", "train_2", "has no mask"),
        ("glas", "testA_1.bmp", "testA_1", "is a mask without an image"),
        ("fives", "train/Ground truth/151_D.png", "train_151_D", "has no mask"),
        ("fives", "test/Original/1_A.png", "test_1_A", "is a mask without an image"),
        ("busi", "benign (4)_mask.png", "benign (4)", "has no mask"),
        ("busi", "malignant (1).png", "malignant (1)", "is a mask without an image"),
        ("btcv", "label0002.nii.gz", "img0002", "has no mask"),
        ("btcv", "img0005.nii.gz", "img0005", "is a mask without an image"),
    ],
    indirect=["tree"],
)
def test_a_missing_file_is_named_with_its_case(tree, removed, case, message):
    for path in tree.rglob(removed):
        path.unlink()
    dataset = open_dataset(tree)
    found = [problem for problem in dataset.problems if problem.case == case]
    assert len(found) == 1
    assert message in found[0].message
    kept = "no mask" in message
    assert (case in dataset.names) == kept
    if kept:
        assert case not in dataset.labelled_names


@pytest.mark.parametrize(
    ("tree", "masks"),
    [
        ("isles22", "*_msk.nii.gz"),
        ("brats23", "*-seg.nii.gz"),
        ("btcv", "label*.nii.gz"),
        ("isic", "*.png"),
        ("glas", "*_anno.bmp"),
        ("fives", "Ground truth/*.png"),
        ("busi", "*_mask*.png"),
    ],
    indirect=["tree"],
)
def test_without_any_mask_all_cases_are_for_prediction(tree, masks):
    for path in tree.rglob(masks):
        path.unlink()
    dataset = open_dataset(tree)
    assert dataset.labelled_names == ()
    assert len(dataset.names) == (5 if tree.name != "brats23" and tree.name != "btcv" else 6)
    assert (dataset.declared_test, dataset.declared_unused) == ((), ()) or tree.name == "btcv"
    assert not [problem for problem in dataset.problems if problem.severity == "error"]


@pytest.mark.parametrize("tree", ["isles22"], indirect=True)
def test_a_scan_that_is_there_twice_is_not_chosen_silently(tree):
    scan = next(tree.rglob("*case0001*_dwi.nii.gz"))
    shutil.copy(scan, scan.parents[1] / scan.name)
    dataset = open_dataset(tree)
    assert "sub-strokecase0001_ses-0001" not in dataset.names
    assert any("is there again as" in text for text in messages(dataset))


def test_single_cases_are_opened(published):
    case = next(published["brats23"].rglob("BraTS-GLI-00001-000"))
    assert open_dataset(case).names == ("BraTS-GLI-00001-000",)
    subject = published["isles22"] / "ISLES-2022/sub-strokecase0002"
    for folder in (subject, subject / "ses-0001", subject / "ses-0001/dwi"):
        dataset = open_dataset(folder)
        assert (dataset.layout, dataset.names) == ("isles22", ("sub-strokecase0002_ses-0001",))


def test_masks_alone_and_other_layouts_around_are_not_taken_for_a_published_dataset(published, tmp_path):
    assert open_dataset(published["isles22"]).layout == "isles22"
    with pytest.raises(InputError):
        open_dataset(published["isles22"] / "ISLES-2022/derivatives")
    pixels = nib.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4))
    for name in ("images/a.nii.gz", "masks/a.nii.gz", "old/BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1c.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(pixels, tmp_path / name)
    assert open_dataset(tmp_path).layout == "folders"


def test_the_papers_test_cases_of_btcv_are_in_no_fold(published):
    dataset = open_dataset(published["btcv"])
    splits = resolve_splits(dataset, None, fold=0)
    assert splits.test == ("img0001", "img0002")
    folds = resolve_folds(dataset, None, folds=3, strata=lambda data: dict.fromkeys(data.names, "all"))
    assert {fold.test for fold in folds} == {splits.test}
    assert sorted(name for fold in folds for name in fold.val) == ["img0005", "img0006", "img0007"]


PLAIN = {
    "glas": ("train_1.bmp", "train_1_anno.bmp", "testA_1.bmp", "testA_1_anno.bmp"),
    "busi": ("benign/benign (1).png", "benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png"),
    "fives": tuple(f"{part}/{holds}/1_A.png" for part in ("train", "test") for holds in ("Original", "Ground truth")),
    "isic": (
        "ISIC2018_Task1-2_Test_Input/ISIC_0000001.jpg",
        "ISIC2018_Task1_Test_GroundTruth/ISIC_0000001_segmentation.png",
    ),
}


def plain(root, name, *, images=True):
    """Write the files of a case or two, masks alone if not ``images``, as pictures of 16 by 16 pixels."""
    for place in PLAIN[name]:
        is_mask = any(word in place for word in ("_anno", "_mask", "Ground"))
        if is_mask or images:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(np.full((16, 16) if is_mask else (16, 16, 3), is_mask, np.uint8)).save(root / place)
    return root


@pytest.mark.parametrize("name", PLAIN)
def test_a_folder_too_far_above_says_which_one_to_give(tmp_path, name):
    inner = plain(tmp_path / "a/b/c", name)
    assert open_dataset(inner).layout == open_dataset(tmp_path / "a/b").layout == name
    above = tmp_path if name == "fives" else tmp_path / "a"
    (above / "other").mkdir()
    (above / "other/notes.txt").touch()
    if name == "fives":
        above = plain(tmp_path / "deep/er/x/y/z", name).parents[3]
    with pytest.raises(InputError, match=f"not a known layout; give {above}.*, which is {CARDS[name].title}$"):
        open_dataset(above)


@pytest.mark.parametrize("name", PLAIN)
def test_masks_alone_are_named_with_their_dataset(tmp_path, name):
    plain(tmp_path, name, images=False)
    with pytest.raises(
        InputError, match=f"holds masks of {CARDS[name].title} .* and no images; .*'deconvseg data card"
    ):
        open_dataset(tmp_path)


def test_two_datasets_or_two_copies_in_one_folder_are_refused(tmp_path):
    plain(tmp_path / "two/glands", "glas")
    plain(tmp_path / "two/breasts", "busi")
    with pytest.raises(InputError, match=r"holds several datasets: .*breasts \(busi\), .*glands \(glas\); give one"):
        open_dataset(tmp_path / "two")
    plain(tmp_path / "twice", "glas")
    plain(tmp_path / "twice/copy", "glas")
    with pytest.raises(InputError, match=r"testA_1.bmp is there again as .*; keep one of them"):
        open_dataset(tmp_path / "twice")


@pytest.mark.parametrize("name", ["glas", "busi"])
def test_images_and_masks_in_folders_of_their_own_keep_the_publishers_names(tmp_path, name):
    for path in plain(tmp_path / "from", name).rglob("*.*"):
        for kept, to in ((path.name, name), (path.name.replace("_anno", "").replace("_mask", ""), "same")):
            folder = tmp_path / to / ("masks" if "_anno" in path.name or "_mask" in path.name else "images")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / kept)
    dataset = open_dataset(tmp_path / name)
    assert dataset.layout == name
    assert dataset.labelled_names == open_dataset(tmp_path / "from").labelled_names
    assert len(dataset.cases[0].mask_files) == (2 if name == "busi" else 1)
    # With the names of the images, the masks are those of any folder.
    assert open_dataset(tmp_path / "same").layout == "folders"


def test_a_part_that_is_absent_is_named_but_not_where_there_are_no_masks(tmp_path):
    plain(tmp_path, "fives")
    shutil.rmtree(tmp_path / "test")
    assert any(
        "has 0 complete test cases, and its publisher states 200" in text for text in messages(open_dataset(tmp_path))
    )
    shutil.rmtree(tmp_path / "train/Ground truth")
    assert not any("publisher" in text for text in messages(open_dataset(tmp_path)))
