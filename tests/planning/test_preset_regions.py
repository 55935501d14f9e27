"""The regions of a preset follow from the meaning of labels, or are refused."""

import itertools
from pathlib import Path

import pytest

from deconvseg.catalog import PRESETS
from deconvseg.data import Dataset, Region, open_dataset, resolve_splits
from deconvseg.errors import InputError
from deconvseg.planning import StepCost, make_plan
from deconvseg.planning.preset_regions import describe_outputs, preset_regions

UNNAMED = {1: "label 1", 2: "label 2", 3: "label 3"}
BRATS23 = (Region("WT", (1, 2, 3), 2), Region("TC", (1, 3), 1), Region("ET", (3,), 3))
COST = StepCost(seconds=0.01, base=1, memory=1, inference=1, parameters=1)


def dataset(**changes: object) -> Dataset:
    return Dataset(Path("cases.csv"), "csv", (), ("t1n", "t1c", "t2w", "t2f"), **changes)


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (UNNAMED, {"NCR": 1, "ED": 2, "ET": 3}),
        ({1: "label 1", 2: "label 2", 4: "label 4"}, {"NCR": 1, "ED": 2, "ET": 4}),
        ({1: "NCR", 2: "ED", 3: "ET"}, {"NCR": 1, "ED": 2, "ET": 3}),
        # The Decathlon's, nnU-Net's and BraTS'23's own names, in British spelling, and in another order.
        ({1: "edema", 2: "non-enhancing tumor", 3: "enhancing tumour"}, {"ED": 1, "NCR": 2, "ET": 3}),
        ({7: "Enhancing_Tumor", 8: "necrotic tumor core", 9: "SNFH"}, {"ET": 7, "NCR": 8, "ED": 9}),
        ({1: "NETC", 2: "Peritumoral Oedema", 3: "GD-enhancing tumor"}, {"NCR": 1, "ED": 2, "ET": 3}),
    ],
)
def test_labels_are_found_by_their_names_or_the_values_of_brats(labels: dict, values: dict) -> None:
    regions, reason = preset_regions("brats23", dataset(), labels)
    ncr, ed, et = (values[name] for name in ("NCR", "ED", "ET"))
    assert regions == (
        Region("WT", tuple(sorted((ncr, ed, et))), ed),
        Region("TC", tuple(sorted((ncr, et))), ncr),
        Region("ET", (et,), et),
    )
    assert all(f"{value} is {name}" in reason for name, value in values.items())
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({1: "label 1", 2: "label 2"}, "the labels 1 (label 1), 2 (label 2)"),
        ({**UNNAMED, 4: "label 4"}, "4 (label 4)"),
        ({1: "NCR", 2: "liver", 3: "ET"}, "2 (liver)"),
        ({1: "NCR", 2: "label 2", 3: "ET"}, "2 (label 2)"),
        ({1: "ET", 2: "enhancing tumour", 3: "ED"}, "2 (enhancing tumour)"),
        ({1: "NCR", 2: "ED", 3: "ET", 4: "resection cavity"}, "4 (resection cavity)"),
        ({}, "the labels none"),
    ],
)
def test_other_labels_are_refused_with_what_is_needed(labels: dict, told: str) -> None:
    with pytest.raises(InputError) as caught:
        preset_regions("brats23", dataset(), labels)
    text = str(caught.value)
    assert told in text
    assert "needs NCR, ED, ET for its regions WT (NCR + ED + ET), TC (NCR + ET), ET (ET)" in text
    assert text.endswith("name them by `labels`, such as 1=NCR, 2=ED, 3=ET, or omit `preset`")


def test_one_class_of_all_labels_has_no_regions() -> None:
    with pytest.raises(InputError, match="has all labels as one class, but preset brats23 needs"):
        preset_regions("brats23", dataset(foreground=True), UNNAMED)


def test_declared_regions_are_kept_under_their_names_if_they_overlap_alike() -> None:
    assert preset_regions("brats23", dataset(regions=BRATS23), {})[0] == BRATS23
    # nnU-Net's names and order, and its own values.
    others = (Region("enh", (3,), 3), Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2))
    regions, reason = preset_regions("brats23", dataset(regions=others), {})
    assert regions == others
    assert reason.endswith("whole is WT, core is TC, enh is ET")


@pytest.mark.parametrize(
    "regions",
    [
        BRATS23[:2],
        (Region("a", (1,), 1), Region("b", (2,), 2), Region("c", (3,), 3)),
        (Region("a", (1, 2, 3), 2), Region("b", (1, 2), 1), Region("c", (3,), 3)),
        (*BRATS23, Region("cavity", (4,), 4)),
    ],
)
def test_declared_regions_that_overlap_otherwise_are_refused(regions: tuple) -> None:
    with pytest.raises(InputError, match=r"cases.csv: declares the regions .*, but preset brats23 needs WT"):
        preset_regions("brats23", dataset(regions=regions), {})


def test_a_preset_for_another_number_of_structures_is_named() -> None:
    assert describe_outputs("isles22", dataset(), ["lesion"]) is None
    told = describe_outputs("isles22", dataset(), ["lesion", "organ"])
    assert told is not None
    assert told.startswith("preset isles22 is a paper's for 1 structure, and the dataset has 2 (lesion, organ)")
    assert describe_outputs("brats23", dataset(regions=BRATS23), ["WT", "TC", "ET"]) is None
    assert describe_outputs("btcv", dataset(), [f"organ {n}" for n in range(13)]) is None
    assert "for 13 structures" in (describe_outputs("btcv", dataset(), ["organ"]) or "")


def test_every_label_of_a_preset_s_regions_is_in_one_region_more_than_those_around_it() -> None:
    for preset in PRESETS.values():
        sets = [set(members) for members in (preset.regions or {}).values()]
        assert all(inner < outer for outer, inner in itertools.pairwise(sets))


def test_data_of_two_classes_is_refused_when_it_is_read_and_warned_of_by_other_presets(balls: Path) -> None:
    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)
    with pytest.raises(InputError, match=r"has the labels 3 \(.*\), 7 \(.*\), but preset brats23 needs NCR, ED, ET"):
        make_plan(data, parts, preset="brats23", device="cpu", measure=lambda *a, **k: COST)
    plan = make_plan(data, parts, preset="isles22", device="cpu", measure=lambda *a, **k: COST)
    assert any("preset isles22 is a paper's for 1 structure, and the dataset has 2" in text for text in plan.warnings)
    assert plan.outputs == plan.model.config["out_channels"]
