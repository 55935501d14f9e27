"""A segmentation that Slicer has cropped to its segments is the mask of the whole image, by its own place."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import open_dataset, read_mask_pair
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate

WHOLE = np.zeros((9, 10, 11), np.uint8)
WHOLE[3:6, 2:7, 5:9] = 1
WHOLE[4, 4, 6] = 2


def image(pixels):
    found = sitk.GetImageFromArray(pixels.T)
    found.SetSpacing((0.5, 0.7, 2))
    found.SetOrigin((-10, 20, 30))
    found.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    return found


def save(folder, crop):
    for name in ("images", "masks", "whole"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image(WHOLE.astype(np.int16)), str(folder / "images" / "a.nrrd"))
    sitk.WriteImage(image(WHOLE)[crop], str(folder / "masks" / "a.seg.nrrd"), True)
    sitk.WriteImage(image(WHOLE), str(folder / "whole" / "a.nrrd"))
    return folder


@settings(deadline=None, max_examples=20)
@given(st.tuples(st.integers(0, 3), st.integers(6, 9)), st.tuples(st.integers(0, 2), st.integers(7, 10)), st.booleans())
def test_every_box_about_the_segments_is_the_whole_mask(tmp_path_factory, rows, columns, cropped_below):
    crop = (slice(*rows), slice(*columns), slice(5, 9) if cropped_below else slice(None))
    dataset = open_dataset(save(tmp_path_factory.mktemp("slicer"), crop))
    scan, mask = dataset.load(dataset.cases[0])
    assert np.array_equal(mask.pixels, WHOLE)
    assert mask.geometry.matches(scan.geometry, tolerance=0)


def test_cropped_truth_is_scored_on_the_whole_prediction(tmp_path):
    save(tmp_path, (slice(3, 6), slice(2, 7), slice(5, 9)))
    cropped, whole = tmp_path / "masks" / "a.seg.nrrd", tmp_path / "whole" / "a.nrrd"
    for pair in ((cropped, whole), (whole, cropped)):
        assert all(np.array_equal(mask.pixels, WHOLE) for mask in read_mask_pair(*pair))
    assert evaluate(tmp_path / "masks", tmp_path / "whole").mean_dice == 1


def test_segments_beyond_the_image_and_other_grids_are_refused(tmp_path):
    save(tmp_path, (slice(3, 6), slice(2, 7), slice(5, 9)))
    small = image(WHOLE)[:5]
    sitk.WriteImage(small, str(tmp_path / "images" / "a.nrrd"))
    dataset = open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"a\.seg\.nrrd has 20 voxels of segments outside of its image"):
        dataset.load(dataset.cases[0])
    moved = image(WHOLE)[3:6, 2:7, 5:9]
    moved.SetOrigin(np.add(moved.GetOrigin(), (0.2, 0, 0)).tolist())
    sitk.WriteImage(moved, str(tmp_path / "masks" / "a.seg.nrrd"))
    with pytest.raises(InputError, match=r"a\.seg\.nrrd has the shape"):
        dataset.load(dataset.cases[0])
