"""What a plan says of data that are not as they should be."""

from dataclasses import replace
from pathlib import Path

import pytest

from deconvseg.data import PreparedCase, open_dataset
from deconvseg.errors import InputError
from deconvseg.planning import Fingerprint, take_fingerprint
from deconvseg.planning.choices import plan_channel, spacing_warnings
from deconvseg.planning.fingerprint import ChannelStatistics
from deconvseg.training.case_warnings import warn_of_padding
from plans import tiny_plan


@pytest.fixture(scope="module")
def measured(balls: Path) -> Fingerprint:
    return take_fingerprint(open_dataset(balls))


def test_ordinary_spacings_say_nothing(measured: Fingerprint) -> None:
    assert spacing_warnings(measured, (1.0, 1.0, 20.0)) == []


@pytest.mark.parametrize("factor", [1e-3, 1e3, 25.4])
def test_a_case_in_another_unit_is_counted_with_its_spacing(measured: Fingerprint, factor: float) -> None:
    usual = measured.spacings[0]
    other = tuple(round(length * factor, 6) for length in usual)
    (text,) = spacing_warnings(measured.model_copy(update={"spacings": (usual, usual, usual, usual, other)}), usual)
    assert text.startswith("1 of 5 cases have spacings ten times off the median")
    assert " x ".join(f"{length:g}" for length in other) in text


def test_voxels_that_are_nearly_lines_are_told(measured: Fingerprint) -> None:
    (text,) = spacing_warnings(measured, (0.1, 0.1, 5.0))
    assert "voxels of 0.1 x 0.1 x 5 mm are 50 times as long along one axis" in text


def test_values_that_the_dataset_does_not_declare_are_refused_while_planning(balls: Path) -> None:
    data = replace(open_dataset(balls), label_names={0: "background", 3: "shell"})
    with pytest.raises(InputError, match=r"ball\d\.nii\.gz: has the label values 7, but the dataset declares 0, 3"):
        take_fingerprint(data, workers=0)
    assert take_fingerprint(replace(data, foreground=True)).label_voxels.keys() == {0, 1}
    assert 7 not in take_fingerprint(replace(data, ignore_label=7)).label_voxels


def test_ct_whose_foreground_has_one_value_is_not_clipped_to_it() -> None:
    def statistics(low: float, high: float) -> ChannelStatistics:
        return ChannelStatistics(
            zero_fraction=0,
            minimum=-1000,
            maximum=1000,
            mean=low,
            std=high - low,
            percentile_0_5=low,
            percentile_99_5=high,
        )

    assert plan_channel("CT", statistics(40, 40), 3, False)[0].normalisation == "zscore"
    assert plan_channel("CT", statistics(40, 90), 3, False)[0].clip == (40, 90)


def test_a_patch_that_cases_hardly_fill_is_told() -> None:
    plan = tiny_plan()
    cases = [PreparedCase(str(size), Path(), (size, size), ()) for size in (6, 8, 200)]
    (text,) = warn_of_padding(plan, cases)
    assert "the median case has 8 x 8 voxels and fills 6% of a patch of 32 x 32" in text
    assert warn_of_padding(plan, cases[2:]) == warn_of_padding(plan, []) == []
