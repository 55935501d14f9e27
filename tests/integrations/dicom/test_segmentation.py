"""DICOM segmentations: what is written for a series has the voxels and places of its mask, however the series lies."""

import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deconvseg.data import AxisOrder, Geometry
from deconvseg.errors import InputError
from deconvseg.planning import SegmentCode

pytest.importorskip("highdicom", reason="highdicom is not installed")

import highdicom
import pydicom

from deconvseg.integrations.dicom import Algorithm, CodedSegment, find_code, read_codes, read_segmentation
from deconvseg.integrations.dicom.codes import UNKNOWN
from deconvseg.integrations.dicom.segmentation import write_segmentation
from dicom_series import AXIAL, CORONAL, PATIENT, SAGITTAL, GeneratedSeries, oblique, save_picture, save_series

ALGORITHM = Algorithm("deconvseg deconver", "deconver", ("ab" * 32,))
SHAPE = (4, 6, 5)


def segments(*values: int) -> list[CodedSegment]:
    names = ("left kidney", "liver tumour", "class 9")
    return [
        CodedSegment(value, name, "#cc6677", find_code(name) or UNKNOWN)
        for value, name in zip(values, names, strict=False)
    ]


def mask_of(series: GeneratedSeries, values: Sequence[int], seed: int = 0) -> NDArray[np.uint8]:
    """Labels in the inner slices, which no mirroring leaves as they are."""
    mask = np.random.default_rng(seed).choice(np.array([0, *values], np.uint8), series.pixels.shape)
    mask[:, :, [0, -1]] = 0
    return mask


def write(series: GeneratedSeries, mask: NDArray[Any], file: Path, values: Sequence[int], **options: Any) -> Any:
    geometry = options.pop("geometry", Geometry(series.affine))
    parts = {"series": series.files, "segments": segments(*values), "algorithm": ALGORITHM}
    write_segmentation(mask, geometry, file, **parts, **options)
    return highdicom.seg.segread(file)


def on_grid(found: Any, series: GeneratedSeries) -> NDArray[Any]:
    """A label map of highdicom as (columns, rows, slices) on the grid of the series, by the affines alone."""
    whole = np.zeros(series.pixels.shape, np.int64)
    volume = found.get_volume(combine_segments=True)
    places = np.argwhere(volume.array)
    world = np.column_stack([places, np.ones(len(places))]) @ volume.get_affine("RAS").T
    voxels = world @ np.linalg.inv(series.affine).T
    assert np.abs(voxels - np.rint(voxels)).max(initial=0) < 1e-6
    whole[tuple(np.rint(voxels[:, :3]).astype(int).T)] = volume.array[tuple(places.T)]
    return whole


@settings(max_examples=12, deadline=None)
@given(
    base=st.sampled_from([AXIAL, SAGITTAL, CORONAL]),
    angles=st.sampled_from([(0, 0, 0), (10, -20, 35), (3.7, 0, 0)]),
    against_normal=st.booleans(),
    multi_frame=st.booleans(),
    order=st.permutations(range(3)),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    kind=st.sampled_from(["binary", "labelmap"]),
)
def test_masks_in_any_orientation_have_the_voxels_and_places_of_the_route_by_nifti(
    base: Any, angles: Any, against_normal: bool, multi_frame: bool, order: Any, flips: Any, kind: Any
) -> None:
    with TemporaryDirectory() as folder:
        series = save_series(
            Path(folder) / "series",
            np.zeros(SHAPE),
            orientation=oblique(angles, base),
            against_normal=against_normal,
            multi_frame=multi_frame,
        )
        mask = mask_of(series, (1, 2))
        # The axes of a NIfTI may have any order and direction.
        turned = AxisOrder(tuple(order), flips)
        geometry = turned.apply_geometry(Geometry(series.affine), mask.shape)
        file = Path(folder) / "seg.dcm"
        found = write(series, turned.apply(mask), file, (1, 2), geometry=geometry, kind=kind)
        np.testing.assert_array_equal(on_grid(found, series), mask)
        read = read_segmentation(file).labels
        inner = mask[:, :, 1:-1]
        np.testing.assert_array_equal(read.pixels, inner[:, :, ::-1] if against_normal else inner)
        assert np.linalg.det(read.geometry.direction) > 0


def test_each_frame_refers_to_the_image_of_its_slice(tmp_path: Path) -> None:
    series = save_series(tmp_path / "series", np.zeros(SHAPE), orientation=CORONAL, against_normal=True)
    mask = mask_of(series, (1,))
    found = write(series, mask, tmp_path / "seg.dcm", (1,))
    headers = [pydicom.dcmread(file) for file in series.files]
    uids = [header.SOPInstanceUID for header in headers]
    planes = found.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)[..., 0]
    np.testing.assert_array_equal(planes.transpose(2, 1, 0), mask)
    for frame in found.PerFrameFunctionalGroupsSequence:
        assert len(frame.DerivationImageSequence[0].SourceImageSequence) == 1
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == series.uid
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert found.StudyInstanceUID == series.study_uid


def test_segments_have_codes_colours_and_the_weights_of_their_algorithm(tmp_path: Path) -> None:
    series = save_series(tmp_path / "series", np.zeros(SHAPE), PatientComments="lives next door", PatientAge="050Y")
    found = write(series, mask_of(series, (1, 2)), tmp_path / "seg.dcm", (1, 2))
    kidney, tumour = found.SegmentSequence
    assert kidney.SegmentLabel == "left kidney"
    assert kidney.SegmentedPropertyTypeCodeSequence[0].CodeValue == "64033007"
    sided = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert sided.CodeMeaning == "Left"
    assert tumour.AnatomicRegionSequence[0].CodeMeaning == "Liver"
    assert highdicom.color.CIELabColor.from_dicom_value(kidney.RecommendedDisplayCIELabValue).to_rgb() == (
        204,
        102,
        119,
    )
    algorithm = kidney.SegmentationAlgorithmIdentificationSequence[0]
    assert "ab" * 32 in algorithm.AlgorithmParameters
    # The patient is that of the series, and what need not be copied is not.
    assert (found.PatientID, str(found.PatientName)) == (PATIENT["PatientID"], PATIENT["PatientName"])
    assert "PatientComments" not in found
    texts = [
        found.SeriesDescription,
        found.get("ContentDescription", ""),
        found.ContentLabel,
        kidney.SegmentDescription,
    ]
    assert not [text for text in texts if "Head" in text or PATIENT["PatientID"] in text]


def test_labels_of_any_value_come_back(tmp_path: Path) -> None:
    series = save_series(tmp_path / "series", np.zeros(SHAPE))
    mask = mask_of(series, (3, 255))
    for kind in ("binary", "labelmap"):
        write(series, mask, tmp_path / "seg.dcm", (255, 3), kind=kind)
        read = read_segmentation(tmp_path / "seg.dcm")
        assert set(np.unique(read.labels.pixels)) == {0, 3, 255}
        assert read.names == {255: "left kidney", 3: "liver tumour"}
        assert read.series_uid == series.uid


def test_overlapping_masks_are_held_by_a_binary_one_only(tmp_path: Path) -> None:
    series = save_series(tmp_path / "series", np.zeros(SHAPE))
    whole, core = mask_of(series, (1,)), mask_of(series, (1,), seed=1)
    both = np.stack([whole | core, core])
    found = write(series, both, tmp_path / "seg.dcm", (1, 2))
    assert found.SegmentsOverlap == "YES"
    # Its volumes are right-handed: their slices run against those of this series.
    read = found.get_volume().array[::-1, :, :, 0].transpose(2, 1, 0)
    np.testing.assert_array_equal(read, both[0][:, :, 1:-1])
    with pytest.raises(InputError, match="must not overlap"):
        read_segmentation(tmp_path / "seg.dcm")
    with pytest.raises(InputError, match="exclude each other"):
        write(series, both, tmp_path / "no.dcm", (1, 2), kind="labelmap")
    assert not (tmp_path / "no.dcm").exists()


def test_probabilities_are_kept_to_a_255th(tmp_path: Path) -> None:
    series = save_series(tmp_path / "series", np.zeros(SHAPE))
    shares = np.random.default_rng(0).random((2, *series.pixels.shape), np.float32)
    found = write(series, shares, tmp_path / "seg.dcm", (1, 2), kind="fractional")
    read = found.get_volume().array[::-1].transpose(3, 2, 1, 0)
    assert np.abs(read - shares).max() <= 0.5 / 255 + 1e-6
    with pytest.raises(InputError, match="fractional"):
        read_segmentation(tmp_path / "seg.dcm")


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_an_empty_mask_names_all_that_was_not_found(tmp_path: Path, kind: Any) -> None:
    series = save_series(tmp_path / "series", np.zeros(SHAPE))
    found = write(series, np.zeros(series.pixels.shape, np.uint8), tmp_path / "seg.dcm", (1, 2), kind=kind)
    assert [s.SegmentLabel for s in found.SegmentSequence if s.SegmentNumber] == ["left kidney", "liver tumour"]
    assert not found.pixel_array.any()
    assert not read_segmentation(tmp_path / "seg.dcm").labels.pixels.any()


def test_anonymised_headers_and_letters_beyond_ascii(tmp_path: Path) -> None:
    series = save_series(tmp_path / "series", np.zeros(SHAPE), PatientSex="UNKNOWN", SpecificCharacterSet="ISO_IR 100")
    for file in series.files:
        header = pydicom.dcmread(file)
        for name in ("PatientName", "PatientBirthDate", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
            delattr(header, name)
        header.save_as(file)
    named = [CodedSegment(1, "Läsion 肝", "#cc6677", UNKNOWN)]
    mask = mask_of(series, (1,))
    write_segmentation(
        mask, Geometry(series.affine), tmp_path / "seg.dcm", series=series.files, segments=named, algorithm=ALGORITHM
    )
    assert read_segmentation(tmp_path / "seg.dcm").names == {1: "Läsion 肝"}


def test_the_mask_of_a_picture_has_its_rows_and_columns(tmp_path: Path) -> None:
    picture = save_picture(tmp_path / "picture", np.zeros((6, 9)))
    mask = np.eye(6, 9, dtype=np.uint8)
    for kind in ("binary", "labelmap"):
        write(picture, mask, tmp_path / "seg.dcm", (1,), geometry=Geometry.identity(2), kind=kind)
        np.testing.assert_array_equal(read_segmentation(tmp_path / "seg.dcm").labels.pixels, mask)
    with pytest.raises(InputError, match="not on the grid"):
        write(picture, mask.T.copy(), tmp_path / "no.dcm", (1,), geometry=Geometry.identity(2))


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    series = save_series(tmp_path / "series", np.zeros(SHAPE))
    shifted = series.affine.copy()
    shifted[0, 3] += 0.3
    with pytest.raises(InputError, match="not on the grid"):
        write(series, mask_of(series, (1,)), tmp_path / "seg.dcm", (1,), geometry=Geometry(shifted))
    with pytest.raises(InputError, match="voxels"):
        write(series, mask_of(series, (1,))[:, :, 1:], tmp_path / "seg.dcm", (1,))
    with pytest.raises(InputError, match="the value 4"):
        write(series, np.full(series.pixels.shape, 4, np.uint8), tmp_path / "seg.dcm", (1,))


def test_built_in_codes_are_those_of_the_standard() -> None:
    from pydicom.sr._concepts_dict import concepts

    from deconvseg.integrations.dicom.codes import _built_in

    # In SNOMED CT and in the table of TotalSegmentator, but not in DICOM's own context groups.
    further = {"74281007", "68455001", "67769002", "55641003"}
    known = {code for named in concepts["SCT"].values() for code in named}
    table = _built_in()
    assert len(table) > 200
    for code in table.values():
        for term in (code.category, code.type, code.region):
            assert term is None or term[1] in known | further, term


def test_names_are_found_with_sides_and_spellings() -> None:
    assert find_code("Kidney_Left") == find_code("left-kidney")
    assert find_code("right lung nodule").region_modifier == ("SCT", "24028007", "Right")
    assert find_code("oesophagus") == find_code("Esophagus")
    assert find_code("left right kidney") is None
    assert find_code("disc") is None


def test_a_table_of_codes_names_the_line_of_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "codes.csv"
    file.write_text("name,category,type\ndisc|disk,SCT^91723000^Anatomical Structure,99ME^1^Disc\n", "utf-8")
    code = read_codes(file)["disk"]
    assert isinstance(code, SegmentCode)
    assert code.type == ("99ME", "1", "Disc")
    for row, found in (("disc,SCT^1,99ME^1^Disc", "line 2: category"), (",SCT^1^A,SCT^1^A", "line 2: has no name")):
        file.write_text(f"name,category,type\n{row}\n", "utf-8")
        with pytest.raises(InputError, match=re.escape(found)):
            read_codes(file)
    file.write_text("name,kind\n", "utf-8")
    with pytest.raises(InputError, match="column 'kind'"):
        read_codes(file)


@pytest.mark.parametrize("multi_frame", [False, True])
def test_an_empty_mask_lies_on_the_grid_of_its_series(tmp_path: Path, multi_frame: bool) -> None:
    series = save_series(tmp_path / "s", np.zeros((5, 7, 6)), multi_frame=multi_frame)
    file, empty = tmp_path / "empty.dcm", np.zeros(series.pixels.shape, np.uint8)
    write(series, empty, file, (1,))
    found = read_segmentation(file).labels
    assert not found.pixels.any()
    np.testing.assert_allclose(found.geometry.spacing, Geometry(series.affine).spacing, atol=1e-6)
