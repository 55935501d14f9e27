"""Files that are named after a network's channels are the channels of one case, in the network's order."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import open_dataset, open_images, resolve_folds, resolve_splits
from deconvseg.errors import InputError

BRATS = ("t1n", "t1c", "t2w", "t2f")


def volume(path, shape=(4, 5, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), path)
    return path


def fill(folder, *stems):
    for stem in stems:
        volume(folder / f"{stem}.nii.gz")
    return folder


@given(order=st.permutations(BRATS), separator=st.sampled_from("-_."), upper=st.booleans())
def test_the_order_is_that_of_the_network(tmp_path_factory, order, separator, upper):
    folder = tmp_path_factory.mktemp("case")
    stems = [f"p.1-x{separator}{name.upper() if upper else name}" for name in BRATS]
    fill(folder, *stems)
    ((case,), problems) = open_images(folder, channels=4, channel_names=order)
    assert (case.name, problems) == ("p.1-x", ())
    assert [path.name[-10:-7].lower() for path in case.images] == list(order)
    alone = open_images(folder / f"{stems[2]}.nii.gz", channels=4, channel_names=order)
    assert alone == ((case,), ())


def test_masks_and_further_sequences_of_a_case_are_left_out_by_name(tmp_path):
    fill(tmp_path, "a_dwi", "a_adc", "a_flair", "a_msk", "b_adc", "b_dwi", "b_seg")
    cases, problems = open_images(tmp_path, channels=2, channel_names=("DWI", "ADC"))
    assert [case.name for case in cases] == ["a", "b"]
    assert [path.name for path in cases[1].images] == ["b_dwi.nii.gz", "b_adc.nii.gz"]
    told = " ".join(problem.message for problem in problems)
    assert "2 files that are no channel of the network (a_flair.nii.gz, a_msk.nii.gz), left out" in told
    assert {problem.severity for problem in problems} == {"warning"}


def test_an_incomplete_case_is_left_out_and_its_missing_channel_named(tmp_path):
    fill(tmp_path, *(f"a-{name}" for name in BRATS), "b-t1n", "b-t2w", "b-t2f")
    cases, (problem,) = open_images(tmp_path, channels=4, channel_names=BRATS)
    assert [case.name for case in cases] == ["a"]
    assert (problem.case, problem.severity) == ("b", "error")
    assert problem.message.startswith("has no t1c beside it")
    fill(tmp_path / "alone", "b-t1n", "b-t2w", "b-t2f")
    with pytest.raises(InputError, match="has no t1c beside it"):
        open_images(tmp_path / "alone", channels=4, channel_names=BRATS)


@pytest.mark.parametrize("names", [("image",), ("red", "green", "blue"), ("channel 0", "channel 1"), ("0", "1"), ()])
def test_names_that_say_nothing_join_nothing(tmp_path, names):
    fill(tmp_path, "a_0", "a_1", "a_image", "a_red", "a_green", "a_blue")
    cases, _ = open_images(tmp_path, channels=len(names) or None, channel_names=names)
    assert all(len(case.images) == 1 for case in cases)
    assert len(cases) == 6


def test_files_with_several_channels_are_cases_of_their_own(tmp_path):
    for name in BRATS:
        volume(tmp_path / f"a-{name}.nii.gz", (4, 5, 6, 4))
    cases, _ = open_images(tmp_path, channels=4, channel_names=BRATS)
    assert [case.name for case in cases] == sorted(f"a-{name}" for name in BRATS)


def test_a_table_without_masks_is_for_prediction_and_not_for_training(tmp_path):
    fill(tmp_path, "a_dwi", "a_adc")
    table = tmp_path / "scans.csv"
    table.write_text("case,image_DWI,image_ADC\na,a_dwi.nii.gz,a_adc.nii.gz\n")
    dataset = open_dataset(table)
    assert (dataset.names, dataset.labelled_names, dataset.channel_names) == (("a",), (), ("DWI", "ADC"))
    told = r"scans.csv: none of its 1 case has a mask; add a column label with their masks"
    with pytest.raises(InputError, match=told):
        resolve_splits(dataset, None, fold=0)
    with pytest.raises(InputError, match=told):
        resolve_folds(dataset, None, strata=lambda data: {})
    table.write_text("case,image_DWI,label,mask\na,a_dwi.nii.gz,a_adc.nii.gz,a_adc.nii.gz\n")
    with pytest.raises(InputError, match="and, for training, label"):
        open_dataset(table)
