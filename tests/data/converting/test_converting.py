"""Labels, splits, resumption and refusals of a conversion."""

import hashlib
import json
import pickle
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from consoles import Listening
from deconvseg.cli import main
from deconvseg.data import convert, open_dataset, resolve_folds
from deconvseg.errors import InputError


def record_of(folder, name="dataset.json"):
    return json.loads((folder / name).read_text())


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def volume(path, pixels, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(pixels, np.eye(4) if affine is None else affine), path)


@pytest.fixture
def blocks(tmp_path):
    """Four volumes of 4x4x2 voxels whose masks hold 0, 2, 5, 9 and 255, listed by a CSV."""
    rng = np.random.default_rng(0)
    rows = ["case,image,label"]
    for name in "abcd":
        volume(tmp_path / "data" / f"{name}.nii.gz", rng.normal(size=(4, 4, 2)).astype(np.float32))
        labels = np.array([0, 2, 5, 9, 255, 2, 5, 0] * 4, np.uint8).reshape(4, 4, 2)
        volume(tmp_path / "data" / f"{name}_seg.nii.gz", labels)
        rows.append(f"{name},{name}.nii.gz,{name}_seg.nii.gz")
    (tmp_path / "data" / "cases.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "data" / "cases.csv"


def values_of(folder, name="a"):
    return np.asarray(nib.load(folder / "labelsTr" / f"{name}.nii.gz").dataobj).ravel()[:8].tolist()


@pytest.mark.parametrize(
    ("labels", "declared", "written"),
    [
        ([], {"background": 0, "label 2": 1, "label 5": 2, "label 9": 3, "label 255": 4}, [0, 1, 2, 3, 4, 1, 2, 0]),
        (
            ["5=core", "2=rim", "9=edge", "255=ignore"],
            {"background": 0, "rim": 1, "core": 2, "edge": 3, "ignore": 4},
            [0, 1, 2, 3, 4, 1, 2, 0],
        ),
        (
            ["2=rim", "5=rim", "9=edge", "255=ignore"],
            {"background": 0, "rim": 1, "edge": 2, "ignore": 3},
            [0, 1, 1, 2, 3, 1, 1, 0],
        ),
        (
            # 9 is in no region.
            ["whole=2,5", "inner=5", "9=vessel", "255=ignore"],
            {"background": 0, "whole": [1, 2], "inner": 2, "ignore": 3},
            [0, 1, 2, 0, 3, 1, 2, 0],
        ),
    ],
    ids=["undeclared", "named", "merged", "regions"],
)
def test_labels_get_consecutive_values_and_the_manifest_says_which(blocks, tmp_path, labels, declared, written):
    console = Listening()
    done = convert(open_dataset(blocks, labels=labels), tmp_path / "Dataset001_B", workers=0, console=console)
    assert record_of(done.folder)["labels"] == declared
    assert values_of(done.folder) == written
    manifest = record_of(done.folder, "conversion.json")
    mapping = {value: entry["value"] for entry in manifest["labels"] for value in entry["from"]}
    dropped = {int(value) for value in manifest["dropped"]}
    assert [0 if value in dropped else mapping[value] for value in (0, 2, 5, 9, 255, 2, 5, 0)] == written
    assert any(line.startswith("labels get consecutive values: 2 → 1") or "2, 5 → 1" in line for line in console.said)
    if any("whole" in label for label in labels):
        assert record_of(done.folder)["regions_class_order"] == [1, 2]
        assert dropped == {9}
        assert any("9 vessel is in no region, and is written as background" in line for line in console.said)


def test_the_manifest_names_every_file_and_its_hash(balls, tmp_path):
    done = convert(open_dataset(balls), tmp_path / "Dataset001_B", workers=0)
    manifest = record_of(done.folder, "conversion.json")
    written = hashes(done.folder)
    files = {entry["file"]: entry for case in manifest["cases"] for entry in case["files"]}
    assert {name: entry["sha256"] for name, entry in files.items()} | manifest["files"] == {
        name: digest for name, digest in written.items() if name != "conversion.json"
    }
    sources = {entry["file"]: entry["sha256"] for case in manifest["cases"] for entry in case["sources"]}
    assert sources == {name: digest for name, digest in hashes(balls).items() if name != "dataset.json"}
    image, mask = files["imagesTr/ball0_0001.nii.gz"], files["labelsTr/ball0.nii.gz"]
    assert (image["how"], image["from"]) == ("copied", ["imagesTr/ball0_0001.nii.gz"])
    assert (mask["how"], mask["changes"]) == ("written", "labels with consecutive values")
    assert str(balls) not in done.manifest.read_text()


def test_links_share_the_file_of_the_source(balls, tmp_path):
    done = convert(open_dataset(balls), tmp_path / "Dataset001_B", workers=0, link=True)
    first, second = done.folder / "imagesTr" / "ball0_0000.nii.gz", balls / "imagesTr" / "ball0_0000.nii.gz"
    assert first.samefile(second)
    assert not (done.folder / "labelsTr" / "ball0.nii.gz").samefile(balls / "labelsTr" / "ball0.nii.gz")
    assert convert(open_dataset(balls), done.folder, workers=0).kept == open_dataset(balls).names


def test_declared_folds_are_those_of_nnunet(balls, tmp_path):
    names = open_dataset(balls).names
    folds = [{"train": list(names[1:4]), "val": [names[0]]}, {"train": [names[0], *names[2:4]], "val": [names[1]]}]
    splits = tmp_path / "folds.json"
    splits.write_text(json.dumps([{**fold, "test": [names[4]]} for fold in folds]))
    done = convert(open_dataset(balls), tmp_path / "Dataset001_B", splits=splits, workers=0)
    assert (done.training, done.testing) == (4, 1)
    assert record_of(done.folder, "splits_final.json") == folds
    assert (done.folder / "labelsTs" / f"{names[4]}.nii.gz").is_file()
    converted = open_dataset(done.folder)
    pairs = zip(resolve_folds(converted, None, strata=None), folds, strict=True)
    assert all((list(a.val), list(a.test)) == (b["val"], [names[4]]) for a, b in pairs)
    # The same folder with other splits: cases move.
    splits.write_text(json.dumps({"train": list(names[:2]), "test": [names[2]]}))
    console = Listening()
    again = convert(open_dataset(balls), done.folder, splits=splits, workers=0, console=console)
    assert (again.training, again.testing, again.kept) == (2, 1, names[:2])
    assert [line for line in console.said if line.startswith("2 cases in no split are left out: ball3, ball4")]
    assert not (done.folder / "splits_final.json").exists()
    assert sorted(path.name for path in (done.folder / "imagesTs").iterdir()) == [
        "ball2_0000.nii.gz",
        "ball2_0001.nii.gz",
    ]
    assert {path.name[:5] for path in (done.folder / "imagesTr").iterdir()} == {"ball0", "ball1"}


class Interrupting(Listening):
    """Interrupts the work before the case ``name`` is converted."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def track(self, text, total=None):
        context = super().track(text, total)

        def tell(done, what=None, /):
            if what == self.name and text.startswith("converting"):
                raise KeyboardInterrupt

        return type("Tracking", (), {"__enter__": lambda _: tell, "__exit__": lambda *_: context.__exit__(*_)})()


def test_an_interrupted_conversion_goes_on(balls, tmp_path):
    dataset = open_dataset(balls)
    whole = convert(dataset, tmp_path / "a" / "Dataset001_B", workers=0)
    folder = tmp_path / "b" / "Dataset001_B"
    with pytest.raises(KeyboardInterrupt):
        convert(dataset, folder, workers=0, console=Interrupting("ball2"))
    assert not (folder / "dataset.json").exists()
    (folder / "imagesTr" / ".unfinished-0123456789abcdef.nii.gz").write_bytes(b"half")
    # A line that was cut off, and a written file that was damaged.
    with (folder / ".conversion.jsonl").open("a") as journal:
        journal.write('{"case": "ball2", "rec')
    (folder / "labelsTr" / "ball0.nii.gz").write_bytes(b"damaged")
    done = convert(dataset, folder, workers=0)
    assert done.kept == ("ball1",)
    assert hashes(folder) == hashes(whole.folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert convert(dataset, folder, workers=0).kept == dataset.names
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")}.keys() == before.keys()
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path.is_file())


def test_a_journal_of_anything_else_is_no_conversion(balls, tmp_path):
    folder = tmp_path / "Dataset001_B"
    folder.mkdir()
    (folder / ".conversion.jsonl").write_bytes(b"3\n")
    with pytest.raises(InputError, match=r"Dataset001_B holds other files \(\.conversion\.jsonl\)"):
        convert(open_dataset(balls), folder, workers=0)


def test_what_goes_to_other_processes_can_be_sent(balls, tmp_path, monkeypatch):
    sent = []

    def send(function, items, workers, describe):
        # Starting processes takes seconds, and `tests/system` does it: they get what is pickled here.
        function, items, describe = pickle.loads(pickle.dumps((function, items, describe)))  # noqa: S301
        sent.extend((workers, describe(item)) for item in items)
        return map(function, items)

    alone = convert(open_dataset(balls), tmp_path / "a" / "Dataset001_B", workers=0)
    monkeypatch.setattr("deconvseg.system.workers._WORTH_PROCESSES", 0.0)
    monkeypatch.setattr("deconvseg.system.workers.map_in_processes", send)
    shared = convert(open_dataset(balls), tmp_path / "b" / "Dataset001_B", workers=3)
    assert hashes(shared.folder) == hashes(alone.folder)
    assert sent == 2 * [(0, "ball0"), *((3, f"ball{number}") for number in range(1, 5))]


def test_a_damaged_case_stops_no_other_and_is_named(balls, tmp_path, capsys):
    source = Path(shutil.copytree(balls, tmp_path / "balls"))
    whole = (source / "labelsTr" / "ball1.nii.gz").read_bytes()
    (source / "labelsTr" / "ball1.nii.gz").write_bytes(whole[:-40])
    done = convert(open_dataset(source), tmp_path / "Dataset001_B", workers=0)
    assert done.written == ("ball0", "ball2", "ball3", "ball4")
    assert len(done.problems) == 1
    assert done.problems[0].startswith(f"ball1: {source / 'labelsTr' / 'ball1.nii.gz'} is truncated")
    assert not (done.folder / "dataset.json").exists()
    less = convert(open_dataset(source, exclude=["ball1"]), done.folder, workers=0)
    assert (less.kept, less.written, less.problems) == (done.written, (), ())
    assert record_of(done.folder)["numTraining"] == 4
    assert record_of(done.folder, "conversion.json")["excluded"] == ["ball1"]
    (source / "labelsTr" / "ball1.nii.gz").write_bytes(whole)
    assert convert(open_dataset(source), done.folder, workers=0).written == ("ball1",)
    # Excluded again: its files go.
    convert(open_dataset(source, exclude=["ball1"]), done.folder, workers=0)
    assert not list(done.folder.rglob("ball1*"))
    # Changed at its source: only this case is written again.
    shutil.copy(source / "imagesTr" / "ball0_0000.nii.gz", source / "imagesTr" / "ball3_0000.nii.gz")
    assert convert(open_dataset(source, exclude=["ball1"]), done.folder, workers=0).written == ("ball3",)


def test_axes_that_are_not_perpendicular_ask_nnunet_for_another_reader(tmp_path):
    affine = np.array([[1, 0.2, 0, 5], [0, 1.0, 0, 2], [0, 0, 2, 1], [0, 0, 0, 1]])
    (tmp_path / "cases.csv").write_text("image,label\na.nii,a_seg.nii\n")
    volume(tmp_path / "a.nii", np.ones((3, 4, 5), np.int16), affine)
    volume(tmp_path / "a_seg.nii", np.ones((3, 4, 5), np.uint8), affine)
    done = convert(open_dataset(tmp_path / "cases.csv"), tmp_path / "Dataset001_A", workers=0)
    assert record_of(done.folder)["overwrite_image_reader_writer"] == "NibabelIO"


@pytest.mark.parametrize(
    ("where", "options", "message"),
    [
        ("out", {}, r"out has no number, as datasets of nnU-Net have: give one \(`number=1`\), or the folder "),
        ("out", {"to": "nnunett"}, r"`to` 'nnunett' is unknown: did you mean 'nnunet'\? choose from nnunet, msd"),
        ("Dataset003_X", {"number": 4}, r"`number=4` contradicts the folder .*Dataset003_X; leave one of them out"),
        ("out", {"number": 1000}, r"`number=1000`: give a number from 1 to 999"),
        ("out", {"number": 1, "name": "my data"}, r"`name='my data'`: give a name of letters, digits, - and _"),
        ("Dataset009_X", {}, r"Dataset009_Other has the number of Dataset009_X, which must be its own; choose another"),
        ("full/Dataset001_X", {}, r"full/Dataset001_X holds other files \(thesis\.txt\); give a new folder, or remove"),
        (
            "Dataset001_X",
            {"labels": ["2=a", "5=b", "9=c"]},
            r"a_seg\.nii\.gz has the label 255, and the dataset has",
        ),
        ("Task01_X", {"to": "msd", "labels": ["255=ignore"]}, r"has no label of ignored voxels; convert it to nnU-Net"),
        ("Task01_X", {"to": "msd", "labels": ["r=2,5", "s=5"]}, r"has no regions; convert it to nnU-Net's \(`to='nnu"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(blocks, tmp_path, where, options, message):
    (tmp_path / "Dataset009_Other").mkdir()
    (tmp_path / "full" / "Dataset001_X").mkdir(parents=True)
    (tmp_path / "full" / "Dataset001_X" / "thesis.txt").write_text("mine")
    before = hashes(tmp_path)
    dataset = open_dataset(blocks, labels=options.pop("labels", None))
    if "label 255" in message:
        done = convert(dataset, tmp_path / where, workers=0, **options)
        assert len(done.problems) == 4
        text = done.problems[0]
    else:
        with pytest.raises(InputError) as failure:
            convert(dataset, tmp_path / where, workers=0, **options)
        text = str(failure.value)
        assert hashes(tmp_path) == before
    assert "\n" not in text
    assert re.search(message, text), text


def test_a_folder_with_another_conversion_is_refused(blocks, balls, tmp_path):
    folder = tmp_path / "Dataset001_X"
    convert(open_dataset(blocks), folder, workers=0)
    before = hashes(folder)
    with pytest.raises(InputError, match=r"Dataset001_X holds the conversion of cases\.csv \(csv\) to nnunet; give an"):
        convert(open_dataset(balls), folder, workers=0)
    lines = blocks.read_text().replace("\nd,", "\ne,")
    blocks.write_text(lines)
    with pytest.raises(InputError, match=r"holds cases that .*cases\.csv does not have \(d\); give another folder"):
        convert(open_dataset(blocks), folder, workers=0)
    assert hashes(folder) == before


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "a"), "two classes are called 'a'; name one of them otherwise"),
        (("a", "ignore"), "a class is called 'ignore', which means something else to nnU-Net; name it otherwise"),
    ],
)
def test_names_that_nnunet_cannot_hold_are_refused(tmp_path, names, message):
    volume(tmp_path / "msd" / "imagesTr" / "a.nii.gz", np.ones((3, 3, 3), np.int16))
    volume(tmp_path / "msd" / "labelsTr" / "a.nii.gz", np.ones((3, 3, 3), np.uint8))
    labels = {"0": "background", "1": names[0], "2": names[1]}
    pairs = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    (tmp_path / "msd" / "dataset.json").write_text(json.dumps({"labels": labels, "training": pairs}))
    with pytest.raises(InputError, match=message):
        convert(open_dataset(tmp_path / "msd"), tmp_path / "Dataset001_A", workers=0)


def test_a_folder_in_the_dataset_itself_is_refused(balls):
    before = hashes(balls)
    with pytest.raises(InputError, match=r"Dataset001_A lies in the dataset .*; give a folder outside of it"):
        convert(open_dataset(balls), balls / "Dataset001_A", workers=0)
    assert hashes(balls) == before


def test_a_manifest_cannot_remove_other_files(blocks, tmp_path):
    done = convert(open_dataset(blocks), tmp_path / "Dataset001_X", workers=0)
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    manifest = record_of(done.folder, "conversion.json")
    manifest["cases"][0]["files"].append({"file": "../mine.txt", "sha256": ""})
    done.manifest.write_text(json.dumps(manifest))
    assert convert(open_dataset(blocks), done.folder, workers=0).written == ("a",)
    assert mine.read_text() == "mine"


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["deconvseg", "data", "convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return end.value.code, out, err


def test_the_command(blocks, tmp_path, monkeypatch, capsys):
    arguments = (blocks, tmp_path / "raw", "--to", "nnunet", "--id", 12, "--name", "Blocks", "--exclude", "d=late")
    code, out, err = run(monkeypatch, capsys, *arguments, "--labels", "255=ignore", "--workers", 0)
    folder = tmp_path / "raw" / "Dataset012_Blocks"
    assert (code, out) == (1, "")
    assert "a_seg.nii.gz has the label 2, 5, 9, and the dataset has 0 background; correct the mask, or name" in err
    assert "3 cases could not be converted, 0 are in place; correct or --exclude them" in err
    labels = [part for text in ("2=a", "5=b", "9=c", "255=ignore") for part in ("--labels", text)]
    code, out, _ = run(monkeypatch, capsys, *arguments, *labels, "--workers", 0)
    assert (code, out) == (0, f"3 training cases, 0 test cases\n{folder}\n")
    code, out, _ = run(monkeypatch, capsys, *arguments, *labels, "--workers", 0, "--json")
    assert json.loads(out)["kept"] == ["a", "b", "c"]
    code, _, err = run(monkeypatch, capsys, blocks, tmp_path / "raw", "--to", "nnunet")
    assert code == 2
    assert "give one (--id 1), or the folder" in err
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["Dataset012_Blocks"]
