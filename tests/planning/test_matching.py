"""Plans held against datasets: put in order where names say how, else refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deconvseg.data import Dataset, open_dataset
from deconvseg.errors import InputError
from deconvseg.planning import Plan, channel_order, check_pretrained, match_plan
from plans import tiny_plan

LABELS = {"background": 0, "organ": 1, "lesion": 2}


def dataset(root: Path, channels: Sequence[str] = ("T1", "FLAIR"), labels: object = LABELS, **more: object) -> Dataset:
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    voxels = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    for number in range(len(channels)):
        nib.save(voxels, root / "imagesTr" / f"a_{number:04d}.nii.gz")
    nib.save(voxels, root / "labelsTr" / "a.nii.gz")
    names = {str(number): name for number, name in enumerate(channels)}
    record = {"channel_names": names, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1, **more}
    (root / "dataset.json").write_text(json.dumps(record))
    return open_dataset(root)


def volume_plan(channels: Sequence[str] = ("T1", "FLAIR"), labels: object = None, **changes: object) -> Plan:
    names = [{"name": name, "normalisation": "ct", "mean": float(i), "std": 1.0} for i, name in enumerate(channels)]
    labels = labels or {"values": [0, 1, 2], "names": ["background", "organ", "lesion"]}
    return tiny_plan(spatial_dims=3, spacing=[1.0] * 3, patch_size=[4] * 3, channels=names, labels=labels, **changes)


def test_channels_take_the_dataset_s_order_with_their_normalisations(tmp_path: Path) -> None:
    plan, notes = match_plan(volume_plan(("flair", "T1")), dataset(tmp_path))
    assert [(channel.name, channel.mean) for channel in plan.channels] == [("T1", 1.0), ("flair", 0.0)]
    assert notes[0] == "the plan's channels flair, T1 are taken in the dataset's order T1, FLAIR"
    again, _ = match_plan(plan, open_dataset(tmp_path))
    assert again == plan


@pytest.mark.parametrize(
    ("planned", "declared"),
    [(["CT"], ["PET"]), (["T1", "T2"], ["T1", "FLAIR"]), (["T1"], ["T1", "T2"]), (["a", "a"], ["a", "b"])],
)
def test_other_channels_are_refused_by_both_names(tmp_path: Path, planned: list[str], declared: list[str]) -> None:
    with pytest.raises(InputError, match=rf"has the channels {', '.join(declared)}, .* for {', '.join(planned)};"):
        match_plan(volume_plan(planned), dataset(tmp_path, declared))


@pytest.mark.parametrize(
    ("given", "wanted", "order"),
    [
        (["T1", "FLAIR"], ["flair ", "t1"], (1, 0)),
        (["image_0", "image_1"], ["T1", "T2"], (0, 1)),
        (["grey"], ["US"], (0,)),
        (["R", "G", "B"], ["red", "green", "blue"], (0, 1, 2)),
        (["a", "b", "c"], ["c", "a", "b"], (2, 0, 1)),
        (["a", "a"], ["a", "b"], None),
        (["a"], ["a", "b"], None),
    ],
)
def test_channels_are_found_by_name(given: list[str], wanted: list[str], order: tuple[int, ...] | None) -> None:
    assert channel_order(given, wanted) == order


def test_a_plan_without_names_of_its_own_takes_those_of_the_dataset(tmp_path: Path) -> None:
    plan, _ = match_plan(volume_plan(("channel 0", "channel 1")), dataset(tmp_path))
    assert [channel.name for channel in plan.channels] == ["T1", "FLAIR"]


def test_labels_take_the_dataset_s_values_by_name(tmp_path: Path) -> None:
    data = dataset(tmp_path, labels={"background": 0, "lesion": 1, "organ": 7})
    plan, notes = match_plan(volume_plan(), data)
    assert dict(zip(plan.labels.names, plan.labels.values, strict=True)) == {"background": 0, "organ": 7, "lesion": 1}
    assert plan.labels.names == ("background", "organ", "lesion")
    assert notes[-1] == "the plan's labels get the dataset's values, by name: organ 1 → 7, lesion 2 → 1"


def test_labels_that_nobody_named_take_the_names_of_their_values(tmp_path: Path) -> None:
    plan = volume_plan(labels={"values": [0, 1, 2], "names": ["background", "label 1", "label 2"]})
    assert match_plan(plan, dataset(tmp_path))[0].labels.names == ("background", "organ", "lesion")


@pytest.mark.parametrize(
    "labels",
    [
        {"values": [0, 1, 2], "names": ["background", "organ", "vessel"]},
        {"values": [0, 1], "names": ["background", "organ"]},
        {"values": [0, 1, 2, 3], "names": ["background", "organ", "lesion", "vessel"]},
        {"values": [0, 1, 3], "names": ["background", "label 1", "label 3"]},
    ],
)
def test_other_labels_are_refused_by_both_names(tmp_path: Path, labels: dict[str, list[object]]) -> None:
    names = ", ".join(f"{n} {v}" for n, v in list(zip(labels["names"], labels["values"], strict=True))[1:])
    with pytest.raises(InputError, match=rf"has the labels organ 1, lesion 2, but the plan is for {names};"):
        match_plan(volume_plan(labels=labels), dataset(tmp_path))


def test_the_ignore_label_is_the_dataset_s(tmp_path: Path) -> None:
    data = dataset(tmp_path / "a", labels={**LABELS, "ignore": 3})
    plan, notes = match_plan(volume_plan(), data)
    assert plan.labels.ignore == 3
    assert "voxels of 3 are ignored, as the dataset declares" in notes
    kept, notes = match_plan(plan, dataset(tmp_path / "b"))
    assert kept.labels.ignore == 3
    assert "voxels of 3 are ignored: so says the plan, and the dataset does not" in notes


def test_regions_are_compared_whatever_their_order(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "lesion": 2}
    data = dataset(tmp_path, labels=labels, regions_class_order=[1, 2])
    named = {"values": [0, 1, 2], "names": ["background", "label 1", "lesion"]}
    whole = {"name": "whole", "labels": [1, 2], "paints": 1}
    lesion = {"name": "lesion", "labels": [2], "paints": 2}
    plan = volume_plan(labels=named, regions=[lesion, whole])
    assert match_plan(plan, data)[0].regions == plan.regions
    for regions in (None, [whole], [{**whole, "labels": [1]}, lesion]):
        with pytest.raises(InputError, match=r"declares the regions whole \[1, 2\]; lesion \[2\], but the plan has"):
            match_plan(volume_plan(labels=named, regions=regions), data)


def test_a_plan_of_other_dimensions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a_0000\.nii\.gz: is 3D, but the plan is for 2D images"):
        match_plan(tiny_plan(), dataset(tmp_path, ["grey"]))


def test_a_dataset_that_declares_nothing_takes_every_plan_of_as_many_channels(discs: Path) -> None:
    plan = tiny_plan(channels=[{"name": "US"}])
    assert match_plan(plan, open_dataset(discs)) == (plan, ())


def test_weights_of_channels_or_classes_in_another_order_are_refused() -> None:
    plan = volume_plan()
    assert check_pretrained(plan, plan, "--pretrained run") == ()
    with pytest.raises(InputError, match=r"run: .* channels FLAIR, T1, but this training has T1, FLAIR"):
        check_pretrained(plan, volume_plan(("FLAIR", "T1")), "--pretrained run")
    swapped = volume_plan(labels={"values": [0, 1, 2], "names": ["background", "lesion", "organ"]})
    with pytest.raises(InputError, match=r"classes lesion, organ, but this training has organ, lesion"):
        check_pretrained(plan, swapped, "--pretrained run")
    (note,) = check_pretrained(plan, volume_plan(("CT", "PET")), "--pretrained run")
    assert note == "pretrained: CT, PET were the channels of --pretrained run, now T1, FLAIR"
