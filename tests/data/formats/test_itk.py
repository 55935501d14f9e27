"""NRRD and MetaImage hold the same voxels at the same places as a NIfTI, for every orientation, type and encoding."""

import itertools
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from deconvseg.data import Geometry, LabelMap, mask_suffix, open_dataset, read_image, read_label_map, write_label_map
from deconvseg.data.file_names import files_of
from deconvseg.errors import InputError
from deconvseg.planning.fingerprint_cache import fingerprint_key

RNG = np.random.default_rng(0)
SUFFIXES = [".nrrd", ".nhdr", ".mha", ".mhd"]
DTYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.uint64, np.float32, np.float64]
ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
TO_LPS = np.diag([-1.0, -1.0, 1.0])


def rigid(rotation, permutation=(0, 1, 2), signs=(1, 1, 1), spacing=(1, 1, 1), origin=(0, 0, 0)):
    """An affine in RAS: axes that are permuted and reversed, then turned by Euler angles in degrees."""
    axes = np.eye(3)[:, permutation] * signs
    return nib.affines.from_matvec(
        Rotation.from_euler("xyz", rotation, degrees=True).as_matrix() @ axes * spacing, origin
    )


def save(path, pixels, affine, compressed=True):
    """Write (X, Y, Z) or (X, Y, Z, C) by SimpleITK."""
    vector = pixels.ndim == 4
    image = sitk.GetImageFromArray(pixels.transpose(2, 1, 0, *([3] if vector else [])), isVector=vector)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((TO_LPS @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((TO_LPS @ affine[:3, 3]).tolist())
    sitk.WriteImage(image, str(path), compressed)
    return path


def save_plain(path, voxels, fields):
    """Write a NRRD by hand: what no library writes, but scanners and old tools do."""
    path.write_bytes(("NRRD0004\n" + "\n".join(fields) + "\n\n").encode() + voxels)
    return path


def itk_affine(path):
    image = sitk.ReadImage(str(path))
    dims = image.GetDimension()
    axes = np.reshape(image.GetDirection(), (dims, dims)) * image.GetSpacing()
    return nib.affines.from_matvec(axes, image.GetOrigin())


@settings(deadline=None, max_examples=80)
@given(
    suffix=st.sampled_from(SUFFIXES),
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    rotation=st.tuples(*[st.floats(-40, 40)] * 3),
    orientation=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*[st.floats(0.2, 7)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    compressed=st.booleans(),
)
def test_a_volume_is_what_nibabel_reads_from_its_nifti(
    tmp_path_factory, suffix, dtype, shape, rotation, orientation, spacing, origin, compressed
):
    folder = tmp_path_factory.mktemp("itk")
    pixels = RNG.integers(0, 100, shape).astype(dtype)
    affine = rigid(rotation, *orientation, spacing, origin)
    nib.save(nib.Nifti1Image(pixels, affine, dtype=dtype), folder / "scan.nii")
    nifti = nib.load(folder / "scan.nii")
    image = read_image(save(folder / f"scan{suffix}", pixels, affine, compressed))
    assert np.array_equal(image.pixels[0], nifti.get_fdata(dtype=np.float32))
    assert np.abs(image.geometry.affine - nifti.affine).max() < 1e-4  # NIfTI keeps its affine in float32
    assert np.abs(image.geometry.affine - affine).max() < 1e-9
    labels = read_label_map(folder / f"scan{suffix}")
    assert np.array_equal(labels.pixels, pixels)
    assert labels.pixels.dtype == (dtype if np.issubdtype(dtype, np.integer) else np.int64)


@pytest.mark.parametrize(("permutation", "signs"), ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_mask_goes_back_to_the_grid_of_its_image_in_every_orientation(tmp_path, suffix, permutation, signs):
    affine = rigid((0, 0, 0), permutation, signs, (0.5, 2.0, 3.1), (7.1, -8.2, 9.3))
    source = save(tmp_path / f"scan{suffix}", RNG.normal(size=(3, 4, 5)), affine)
    image = read_image(source)
    order = image.geometry.axis_order()
    canonical = image.canonical().pixels[0] > 0  # what a network would see
    mask = LabelMap(order.undo(canonical).astype(np.uint8), image.geometry)
    path = tmp_path / f"mask{mask_suffix(source)}"
    write_label_map(mask, path, like=source)
    assert path.suffix == suffix
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, image.pixels[0] > 0)
    assert np.abs(itk_affine(path) - itk_affine(source)).max() < 1e-9


@settings(deadline=None, max_examples=80)
@given(
    suffix=st.sampled_from([".nrrd", ".mha"]),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    highest=st.sampled_from([1, 300, 70000, 2**40]),
    lowest=st.sampled_from([0, -5]),
    rotation=st.tuples(*[st.floats(-180, 180)] * 3),
    shear=st.floats(-0.5, 0.5),
    spacing=st.tuples(*[st.floats(0.01, 20)] * 3),
    origin=st.tuples(*[st.floats(-3000, 3000)] * 3),
)
def test_a_written_mask_is_what_simpleitk_reads(
    tmp_path_factory, suffix, shape, highest, lowest, rotation, shear, spacing, origin
):
    """Oblique and sheared (gantry tilt) grids too."""
    path = tmp_path_factory.mktemp("written") / f"mask{suffix}"
    affine = rigid(rotation, spacing=spacing, origin=origin)
    affine[:3, 2] += shear * affine[:3, 1] / spacing[1] * spacing[2]
    pixels = RNG.integers(lowest, highest, shape, endpoint=True)
    write_label_map(LabelMap(pixels, Geometry(affine)), path)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, pixels)
    assert np.abs(TO_LPS @ itk_affine(path)[:3] - affine[:3]).max() < 1e-6
    again = read_label_map(path)
    assert np.array_equal(again.pixels, pixels)
    assert np.abs(again.geometry.affine - affine).max() < 1e-6


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_image_of_two_axes_is_rows_and_columns_like_a_raster(tmp_path, suffix):
    pixels = RNG.integers(0, 255, (5, 7), dtype=np.uint8)
    plain = sitk.GetImageFromArray(pixels)
    sitk.WriteImage(plain, str(tmp_path / f"plain{suffix}"))
    assert np.array_equal(read_image(tmp_path / f"plain{suffix}").pixels[0], pixels)
    assert read_image(tmp_path / f"plain{suffix}").geometry.matches(Geometry.identity(2), tolerance=0)
    plain.SetSpacing((0.2, 0.3))  # along a row (x), along a column (y)
    plain.SetOrigin((4, 5))
    plain.SetDirection((np.cos(0.3), -np.sin(0.3), np.sin(0.3), np.cos(0.3)))
    source = tmp_path / f"turned{suffix}"
    sitk.WriteImage(plain, str(source))
    image = read_image(source)
    assert image.geometry.spacing == pytest.approx((0.3, 0.2))
    assert image.geometry.origin == pytest.approx((5, 4))
    mask = tmp_path / f"mask{mask_suffix(source)}"
    write_label_map(LabelMap((image.pixels[0] > 99).astype(np.uint8), image.geometry), mask, like=source)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(mask))), pixels > 99)
    assert np.abs(itk_affine(mask) - itk_affine(source)).max() < 1e-12


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)), ("LPS", (-1, -1, 1)), ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1)), ("las", (-1, 1, 1)),
    ],
)  # fmt: skip
def test_the_space_of_a_nrrd_is_understood_and_kept(tmp_path, space, signs):
    directions = "space directions: (2,0.1,0) (0,3,0.3) (0.5,0,4)"
    fields = ["type: short", "dimension: 3", f"space: {space}", "sizes: 2 3 4", directions, "endian: big",
              "encoding: raw", "space origin: (1.5,-2.5,3)"]  # fmt: skip
    pixels = np.arange(24).reshape(2, 3, 4, order="F")
    source = save_plain(tmp_path / "scan.nrrd", pixels.astype(">i2").tobytes(order="F"), fields)
    image = read_image(source)
    expected = np.array([[2, 0, 0.5, 1.5], [0.1, 3, 0, -2.5], [0, 0.3, 4, 3]]) * np.array(signs)[:, None]
    assert np.array_equal(image.pixels[0], pixels)
    assert np.abs(image.geometry.affine[:3] - expected).max() < 1e-12
    mask = tmp_path / "mask.nrrd"
    write_label_map(LabelMap((image.pixels[0] > 5).astype(np.uint8), image.geometry), mask, like=source)
    assert np.abs(read_label_map(mask).geometry.affine[:3] - expected).max() < 1e-12
    header = mask.read_bytes().partition(b"\n\n")[0].decode()
    written = re.search("space: (.+)", header)[1]
    assert "".join(word[0] for word in written.split("-")) == "".join(word[0] for word in space.lower().split("-")) or (
        "".join(word[0] for word in written.split("-")) == space.lower()
    )
    numbers = re.search(r"space origin: \((.+)\)", header)[1].split(",")
    assert [float(number) for number in numbers] == [1.5, -2.5, 3]


def test_a_nrrd_with_spacings_alone_lies_along_the_axes(tmp_path):
    fields = ["type: uchar", "dimension: 3", "sizes: 2 3 4", "spacings: 2 3 4", "encoding: raw"]
    image = read_image(save_plain(tmp_path / "scan.nrrd", bytes(24), fields))
    assert image.geometry.spacing == (2, 3, 4)
    mask = tmp_path / "mask.nrrd"
    write_label_map(LabelMap(np.zeros((2, 3, 4), np.uint8), image.geometry), mask, like=tmp_path / "scan.nrrd")
    assert read_label_map(mask).geometry.matches(image.geometry, tolerance=0)


@pytest.mark.parametrize("encoding", ["ascii", "hex"])
def test_encodings_of_text_are_read(tmp_path, encoding):
    voxels = b" ".join(b"%d" % n for n in range(24)) if encoding == "ascii" else bytes(range(24)).hex().encode()
    fields = ["type: uchar", "dimension: 3", "sizes: 2 3 4", f"encoding: {encoding}"]
    image = read_image(save_plain(tmp_path / "scan.nrrd", voxels, fields))
    assert np.array_equal(image.pixels[0], np.arange(24).reshape(2, 3, 4, order="F"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_numbers_per_voxel_are_channels_only_when_declared(tmp_path, suffix):
    pixels = RNG.normal(size=(4, 5, 6, 2)).astype(np.float32)
    affine = rigid((5, 6, 7), origin=(1, 2, 3))
    path = save(tmp_path / f"vector{suffix}", pixels, affine)
    with pytest.raises(InputError, match=rf"vector{suffix} has 2 numbers per voxel.*CASE_0000{suffix}") as failure:
        read_image(path)
    assert failure.value.exit_code == 2
    image = read_image(path, channels_last=True)
    assert np.array_equal(image.pixels, np.moveaxis(pixels, 3, 0))
    assert np.abs(image.geometry.affine - affine).max() < 1e-12
    with pytest.raises(InputError, match=rf"vector{suffix} has 2 numbers per voxel \(overlapping segments"):
        read_label_map(path)
    four = sitk.GetImageFromArray(pixels.T, isVector=False)
    sitk.WriteImage(four, str(tmp_path / f"four{suffix}"))
    with pytest.raises(InputError, match=rf"four{suffix} is 4D \(4, 5, 6, 2\)"):
        read_image(tmp_path / f"four{suffix}")
    assert np.array_equal(read_image(tmp_path / f"four{suffix}", channels_last=True).pixels, np.moveaxis(pixels, 3, 0))
    single = sitk.GetImageFromArray(pixels[..., :1].T, isVector=False)
    sitk.WriteImage(single, str(tmp_path / f"single{suffix}"))
    assert np.array_equal(read_image(tmp_path / f"single{suffix}").pixels[0], pixels[..., 0])


@pytest.mark.faults
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0, 40, 0.5, 0.98])
def test_a_truncated_file_is_named_in_one_line(tmp_path, suffix, compressed, keep):
    path = save(tmp_path / f"cut{suffix}", RNG.integers(0, 999, (12, 13, 14), dtype=np.int16), np.eye(4), compressed)
    detached = [file for file in tmp_path.iterdir() if file != path]
    for target in (path, *detached) if keep in (0, 40) else detached or [path]:
        content = target.read_bytes()
        target.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
        for read in (read_image, read_label_map):
            with pytest.raises(InputError, match=rf"cut{suffix} is truncated or not a readable") as failure:
                read(path)
            assert "\n" not in str(failure.value)
            assert failure.value.exit_code == 2
        target.write_bytes(content)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_missing_or_foreign_data_file_is_named(tmp_path, suffix, compressed):
    path = save(tmp_path / f"scan{suffix}", RNG.integers(0, 999, (8, 8, 8), dtype=np.int16), np.eye(4), compressed)
    data = next(file for file in tmp_path.iterdir() if file != path)
    data.write_bytes(b"something else")
    with pytest.raises(InputError, match=rf"scan{suffix} is truncated or not a readable"):
        read_image(path)
    data.unlink()
    with pytest.raises(InputError, match=rf"scan{suffix} keeps its voxels in .*{data.name}, which does not exist"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_voxels_of_another_image_are_named(tmp_path, suffix):
    path = save(tmp_path / f"scan{suffix}", np.zeros((4, 5, 6), np.int16), np.eye(4), compressed=False)
    save(tmp_path / f"other{suffix}", np.zeros((4, 5, 7), np.int16), np.eye(4), compressed=False)
    (tmp_path / "other.raw").replace(tmp_path / "scan.raw")
    with pytest.raises(InputError, match=rf"scan{suffix} describes 240 bytes of voxels, but .*scan\.raw has 280"):
        read_image(path)


def test_something_else_under_the_name_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4)), tmp_path / "scan.nii")
    for suffix in SUFFIXES:
        path = tmp_path / f"scan{suffix}"
        for content in (b"this is no image, " * 40, (tmp_path / "scan.nii").read_bytes()):
            path.write_bytes(content)
            with pytest.raises(InputError, match=rf"scan{suffix} is truncated or not a readable") as failure:
                read_image(path)
            assert "\n" not in str(failure.value)


def complaint(path):
    """The error's text, or the path itself for a file that can still be read."""
    try:
        read_image(path, channels_last=True)
    except InputError as error:
        return str(error)
    return str(path)


@pytest.mark.faults
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), suffix=st.sampled_from([".nrrd", ".mha"]), compressed=st.booleans())
def test_a_damaged_file_is_read_or_named_and_nothing_else(tmp_path_factory, seed, suffix, compressed):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("damaged") / f"scan{suffix}"
    save(path, rng.integers(0, 99, (5, 6, 7), dtype=np.int16), rigid((1, 2, 3)), compressed)
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 8)):
        content[rng.integers(0, min(len(content), 500))] = rng.integers(0, 256)
    path.write_bytes(content)
    said = complaint(path)
    assert said.startswith(str(path))
    assert "\n" not in said


def test_complex_numbers_and_axes_without_extent_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.complex64)), str(tmp_path / "complex.nrrd"))
    with pytest.raises(InputError, match=r"complex\.nrrd stores complex numbers"):
        read_image(tmp_path / "complex.nrrd")
    fields = ["type: uchar", "dimension: 3", "space: RAS", "sizes: 2 3 4", "space directions: (1,0,0) (0,0,0) (0,0,1)",
              "encoding: raw"]  # fmt: skip
    with pytest.raises(InputError, match=r"flat\.nrrd is truncated or not .*spacing"):
        read_image(save_plain(tmp_path / "flat.nrrd", bytes(24), fields))


@pytest.mark.parametrize("name", ["mask.nhdr", "mask.mhd"])
def test_a_mask_is_never_two_files(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name} would be two files.*use \.nrrd or \.mha"):
        write_label_map(LabelMap(np.zeros((2, 2, 2), np.uint8), Geometry.identity(3)), tmp_path / name)


def test_mask_suffixes_follow_the_format():
    assert mask_suffix("a.nrrd") == mask_suffix("a.nhdr", [-1]) == ".nrrd"
    assert mask_suffix("a.mha", [2**40]) == mask_suffix("A.MHD") == ".mha"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_layouts_take_the_formats_by_their_names(tmp_path, suffix):
    affine = rigid((5, 0, 9), spacing=(1, 1, 2))
    for case, channel in itertools.product("ab", range(2)):
        (tmp_path / "imagesTr").mkdir(exist_ok=True)
        save(tmp_path / "imagesTr" / f"{case}_{channel:04d}{suffix}", np.full((3, 4, 5), channel, np.int16), affine)
    (tmp_path / "labelsTr").mkdir()
    for case in "ab":
        save(tmp_path / "labelsTr" / f"{case}{suffix}", np.ones((3, 4, 5), np.uint8), affine)
        nib.save(nib.Nifti1Image(np.zeros((3, 4, 5)), affine), tmp_path / "imagesTr" / f"{case}_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(
        f'{{"file_ending": "{suffix}", "channel_names": {{"0": "T1", "1": "T2"}}, "labels": {{"bg": 0, "organ": 1}}}}'
    )
    dataset = open_dataset(tmp_path)
    assert (dataset.names, dataset.problems) == (("a", "b"), ())
    image, label_map = dataset.load(dataset.case("a"))
    assert image.pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert (label_map.pixels == 1).all()


def test_a_segmentation_of_slicer_is_the_mask_of_its_scan(tmp_path):
    for folder, name in (("images", "scan.nrrd"), ("labels", "scan.seg.nrrd")):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / name, np.ones((3, 4, 5), np.uint8), np.eye(4))
    dataset = open_dataset(tmp_path)
    assert (dataset.names, dataset.labelled_names, dataset.channel_names) == (("scan",), ("scan",), ("image",))


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_case_changes_with_the_voxels_beside_its_header(tmp_path, suffix):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        image = sitk.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
        sitk.WriteImage(image, str(tmp_path / folder / f"a{suffix}"), False)
    dataset = open_dataset(tmp_path)
    case = dataset.cases[0]
    beside = {path.name for path in (tmp_path / "masks").iterdir()} - {case.label.name}
    assert len(beside) == 1
    assert {path.name for path in case.files} == {case.label.name, *beside}
    key = fingerprint_key(dataset)
    voxels = case.label.with_name(*beside)
    voxels.write_bytes(b"\0" + voxels.read_bytes()[1:])
    assert fingerprint_key(dataset) != key


def test_a_list_of_voxel_files_is_followed(tmp_path):
    header = tmp_path / "a.mhd"
    header.write_text("ObjectType = Image\nNDims = 3\nElementDataFile = LIST\none.raw\ntwo.raw\n")
    assert files_of(header) == (header, tmp_path / "one.raw", tmp_path / "two.raw")
