"""A layout that is added, as the documentation adds one, and the order in which layouts are asked."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from deconvseg.catalog import CARDS
from deconvseg.data import (
    check_dataset,
    is_dataset,
    list_layouts,
    open_dataset,
    register_layout,
    resolve_splits,
    unregister_layout,
)
from deconvseg.errors import DeconvsegError, InputError
from documents import code_of, imported, install

PAGE = "how-to/add-a-layout.md"
GENERAL = ["csv", "msd", "nnunet", "folders", "bids"]
# Published datasets come first: general layouts would read some of them in part.
ORDER = [*(layout.name for layout in list_layouts() if layout.name in CARDS), *GENERAL]


@pytest.fixture
def patients(tmp_path_factory):
    """The layout of the documentation."""
    with imported(PAGE, "patients_layout", tmp_path_factory.mktemp("module")):
        yield
    unregister_layout("patients")


def volume(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(pixels, np.eye(4)), path)


def make_patients(root, count=6):
    for number in range(count):
        labels = np.zeros((4, 5, 6), np.uint8)
        labels[1:3, 1:3, 1 + number % 3] = 1
        noise = np.random.default_rng(number).normal(size=(4, 5, 6))
        volume(root / f"patient-{number}" / "ct.nii.gz", (labels + noise).astype(np.float32))
        volume(root / f"patient-{number}" / "tumour.nii.gz", labels)
    return root


def test_the_page_s_layout_is_listed_checked_and_split(patients, tmp_path):
    make_patients(tmp_path)
    (tmp_path / "patient-5" / "tumour.nii.gz").unlink()
    volume(tmp_path / "patient-4" / "mr.nii.gz", np.zeros((4, 5, 6), np.uint8))
    assert is_dataset(tmp_path)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.channel_names) == ("patients", ("CT",))
    assert dataset.names == tuple(f"patient-{number}" for number in range(6))
    assert [(p.severity, Path(p.file).name, p.case) for p in dataset.problems] == [
        ("error", "ct.nii.gz", "patient-5"),
        ("error", tmp_path.name, None),
    ]
    assert "holds 1 image file of another name (patient-4/mr.nii.gz), left out" in dataset.problems[1].message
    report = check_dataset(dataset)
    assert report.to_text().startswith(f"{tmp_path}: 6 cases, 1 without a mask, layout patients")
    assert {frequency.name for frequency in report.labels.values()} == {"background", "tumour"}
    splits = resolve_splits(open_dataset(tmp_path, foreground=True), None, fold=0)
    assert sorted((*splits.train, *splits.val)) == list(dataset.labelled_names)
    assert open_dataset(tmp_path, foreground=True).foreground


def test_the_error_for_another_folder_lists_every_layout(patients, tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError) as failure:
        open_dataset(tmp_path)
    text = str(failure.value)
    assert [text.index(f"{layout.looks} ({layout.name})") for layout in list_layouts()] == sorted(
        text.index(f"({name})") - len(layout.looks) - 1
        for name, layout in zip([*ORDER, "patients"], list_layouts(), strict=True)
    )


def everything(root):
    """A folder that every layout for folders recognises."""
    for folder in ("imagesTr", "labelsTr", "images", "masks", "derivatives"):
        (root / folder).mkdir()
    for folder, name in (("imagesTr", "a_0000"), ("labelsTr", "a"), ("images", "b"), ("masks", "b")):
        volume(root / folder / f"{name}.nii.gz", np.ones((2, 2, 2), np.uint8))
    volume(root / "sub-1" / "anat" / "sub-1_T1w.nii.gz", np.ones((2, 2, 2), np.uint8))
    record = {"training": [{"image": "imagesTr/a_0000.nii.gz", "label": "labelsTr/a.nii.gz"}], "modality": {"0": "CT"}}
    (root / "dataset.json").write_text(json.dumps(record))
    (root / "description").write_text("")
    return root


def test_layouts_are_asked_in_one_order(tmp_path):
    """Of a folder that several layouts recognise the first opens it; without that one, the next does."""
    assert [layout.name for layout in list_layouts()] == ORDER
    root = everything(tmp_path)
    opened = []
    for clue in ("dataset.json", "labelsTr", "masks", "sub-1"):
        opened.append(open_dataset(root).layout)
        (root / clue).rename(root / f"_{clue}")
    assert opened == GENERAL[1:]
    assert not is_dataset(root)


def test_a_layout_may_be_asked_before_another(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "special").touch()
    PIL.Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "images" / "a.png")
    PIL.Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "masks" / "a.png")
    folders = next(layout for layout in list_layouts() if layout.name == "folders")

    def opens(root):
        from dataclasses import replace

        return replace(folders.opens(root), layout="special")

    register_layout(
        "special", looks="special", recognises=lambda root: (root / "special").exists(), opens=opens, before="folders"
    )
    try:
        assert [layout.name for layout in list_layouts()] == [*ORDER[:-2], "special", *ORDER[-2:]]
        assert open_dataset(tmp_path).layout == "special"
        with pytest.raises(InputError, match="there is a layout 'special'"):
            register_layout("special", looks="", recognises=lambda root: False, opens=opens)
    finally:
        unregister_layout("special")
    assert open_dataset(tmp_path).layout == "folders"
    with pytest.raises(InputError, match="before='other': there is no such layout; known are .*csv, msd"):
        register_layout("new", looks="", recognises=lambda root: False, opens=opens, before="other")
    with pytest.raises(InputError, match="there is no layout 'new'"):
        unregister_layout("new")


def test_a_layout_that_fails_is_named(tmp_path):
    def fails(root):
        raise KeyError("x")

    for recognises, opens in ((fails, fails), (lambda root: True, fails), (lambda root: True, lambda root: None)):
        register_layout("failing", looks="", recognises=recognises, opens=opens, before="csv")
        try:
            with pytest.raises(DeconvsegError, match=r"the layout 'failing': (KeyError|AttributeError): "):
                open_dataset(tmp_path)
        finally:
            unregister_layout("failing")


def test_an_installed_layout_is_known(tmp_path, monkeypatch):
    install(tmp_path / "site", "patients_layout", code_of(PAGE), "deconvseg.layouts")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr("deconvseg.system.plugins._loaded", set())
    root = make_patients(tmp_path / "data", 2)
    try:
        assert open_dataset(root).layout == "patients"
    finally:
        unregister_layout("patients")


def test_installed_layouts_can_be_left_out(tmp_path, monkeypatch):
    install(tmp_path / "site", "patients_layout", code_of(PAGE), "deconvseg.layouts")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr("deconvseg.system.plugins._loaded", set())
    monkeypatch.setenv("DECONVSEG_PLUGINS", "0")
    assert not is_dataset(make_patients(tmp_path / "data", 2))
