"""Files to images and label maps, in every kind of pixel; what is wrong is said in one line that names the file."""

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import Geometry, Header, case_stem, is_image_file, read_image, read_label_map
from deconvseg.data.formats.decoding import naming_file
from deconvseg.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
OBLIQUE = np.array([[0.1, -2, 0.2, 5], [0.9, 0.1, 0, -7], [0, 0.3, 3, 11], [0, 0, 0, 1]])


def save_nifti(path, pixels, affine=OBLIQUE, **header):
    volume = nib.Nifti1Image(pixels, affine)
    for name, value in header.items():
        volume.header[name] = value
    nib.save(volume, path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_grey_has_one_channel_and_colour_three(tmp_path, suffix):
    grey, colour = tmp_path / f"grey{suffix}", tmp_path / f"colour{suffix}"
    PIL.Image.fromarray(GREY).save(grey)
    PIL.Image.fromarray(COLOUR).save(colour)
    assert np.array_equal(read_image(grey).pixels, GREY[None])
    assert np.array_equal(read_image(colour).pixels, COLOUR.transpose(2, 0, 1))
    assert read_image(colour).geometry.matches(Geometry.identity(2))
    assert read_image(colour).pixels.dtype == np.float32


def test_jpeg_is_what_pillow_decodes(tmp_path):
    for name, pixels in (("grey.jpg", GREY), ("colour.JPEG", COLOUR)):
        PIL.Image.fromarray(pixels).save(tmp_path / name, format="JPEG")
        decoded = np.asarray(PIL.Image.open(tmp_path / name)).reshape(5, 7, -1)
        assert np.array_equal(read_image(tmp_path / name).pixels, decoded.transpose(2, 0, 1))


def test_alpha_is_dropped(tmp_path):
    alpha = RNG.integers(0, 256, (5, 7, 1), dtype=np.uint8)
    PIL.Image.fromarray(np.concatenate([COLOUR, alpha], axis=-1)).save(tmp_path / "rgba.png")
    PIL.Image.fromarray(np.concatenate([GREY[..., None], alpha], axis=-1)).save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "rgba.png").pixels, COLOUR.transpose(2, 0, 1))
    assert np.array_equal(read_image(tmp_path / "la.png").pixels, GREY[None])
    assert np.array_equal(read_label_map(tmp_path / "la.png").pixels, GREY)


def test_a_palette_gives_colours_to_an_image_and_indices_to_a_mask(tmp_path):
    indices = RNG.integers(0, 4, (5, 7), dtype=np.uint8)
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 9, 200]], dtype=np.uint8)
    coloured = PIL.Image.fromarray(indices)
    coloured.putpalette(palette.ravel().tolist())
    coloured.save(tmp_path / "palette.png")
    assert np.array_equal(read_image(tmp_path / "palette.png").pixels, palette[indices].transpose(2, 0, 1))
    assert np.array_equal(read_label_map(tmp_path / "palette.png").pixels, indices)
    grey = PIL.Image.fromarray(indices)
    grey.putpalette(np.repeat([[7], [5], [3], [1]], 3, axis=1).ravel().tolist())
    grey.save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png").pixels, (7 - 2 * indices)[None])


def test_sixteen_bits_are_kept(tmp_path):
    PIL.Image.fromarray(DEEP).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", DEEP)
    tifffile.imwrite(tmp_path / "big_endian.tif", DEEP, byteorder=">")
    tifffile.imwrite(tmp_path / "float.tif", DEEP.astype(np.float32) / 3)
    for name in ("deep.png", "deep.tif", "big_endian.tif"):
        assert np.array_equal(read_image(tmp_path / name).pixels[0], DEEP)
        assert np.array_equal(read_label_map(tmp_path / name).pixels, DEEP)
        assert read_label_map(tmp_path / name).pixels.dtype.isnative
    assert np.array_equal(read_image(tmp_path / "float.tif").pixels[0], DEEP.astype(np.float32) / 3)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_tiff_is_kept(tmp_path, planar, channels):
    colour = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    stored = colour if planar == "contig" else colour.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "deep.tif", stored, photometric="rgb", planarconfig=planar)
    assert np.array_equal(read_image(tmp_path / "deep.tif").pixels, colour[..., :3].transpose(2, 0, 1))


def test_one_bit_masks_are_zero_and_one_and_others_keep_their_values(tmp_path):
    PIL.Image.fromarray(GREY > 100).save(tmp_path / "bit.png")
    PIL.Image.fromarray(((GREY > 100) * 255).astype(np.uint8)).save(tmp_path / "byte.png")
    assert np.array_equal(read_label_map(tmp_path / "bit.png").pixels, GREY > 100)
    assert set(np.unique(read_label_map(tmp_path / "byte.png").pixels)) == {0, 255}


def test_a_colour_mask_needs_equal_channels(tmp_path):
    PIL.Image.fromarray(np.repeat(GREY[..., None], 3, axis=-1)).save(tmp_path / "equal.png")
    assert np.array_equal(read_label_map(tmp_path / "equal.png").pixels, GREY)
    coloured = np.zeros((5, 7, 3), np.uint8)
    coloured[2, 3] = (9, 8, 7)
    PIL.Image.fromarray(coloured).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"colour\.png is a colour image.* in 1 pixels .*\(9, 8, 7\)"):
        read_label_map(tmp_path / "colour.png")


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    dtype=st.sampled_from([np.uint8, np.int16, np.int32, np.float32, np.float64]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    slope=st.sampled_from([1.0, 0.25]),
)
def test_nifti_is_what_nibabel_reads(tmp_path_factory, shape, dtype, suffix, slope):
    path = tmp_path_factory.mktemp("nifti") / f"scan{suffix}"
    pixels = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    volume = nib.Nifti1Image(pixels, OBLIQUE)
    volume.header.set_slope_inter(slope, 3.0)
    nib.save(volume, path)
    image = read_image(path)
    assert np.array_equal(image.pixels[0], nib.load(path).get_fdata(dtype=np.float32))
    assert np.array_equal(image.geometry.affine, nib.load(path).affine)


@pytest.mark.parametrize("slope", [1.0, 0.25])
@pytest.mark.parametrize("files", [1, 3])
def test_a_nifti_is_read_in_memory_for_its_voxels_and_the_stored_ones(tmp_path, monkeypatch, slope, files):
    monkeypatch.setattr("deconvseg.data.formats.volumes._VOXELS_AT_ONCE", 2**14)
    pixels = np.random.default_rng(0).integers(-1000, 1000, (96, 96, 64), dtype=np.int16)
    paths = [tmp_path / f"scan_{number:04d}.nii.gz" for number in range(files)]
    for path in paths:
        volume = nib.Nifti1Image(pixels, OBLIQUE)
        volume.header.set_slope_inter(slope, 3.0)
        nib.save(volume, path)
    read_image(paths)  # whatever is loaded at the first time
    tracemalloc.start()
    image = read_image(paths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(image.pixels[-1], nib.load(paths[0]).get_fdata(dtype=np.float32))
    assert image.pixels.flags.c_contiguous
    # The stored int16 are half as much; several files are read into their place one after the other.
    assert peak < 1.7 * image.pixels.nbytes


def test_several_files_are_the_channels_in_order(tmp_path):
    pixels = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32)
    paths = [save_nifti(tmp_path / f"c{channel}.nii.gz", pixels[channel]) for channel in range(3)]
    assert np.array_equal(read_image(paths).pixels, pixels)
    assert np.array_equal(read_image(paths[::-1]).pixels, pixels[::-1])


def test_channels_of_other_shape_or_geometry_are_refused_with_both_files_and_values(tmp_path):
    first = save_nifti(tmp_path / "first.nii", np.zeros((4, 5, 6), np.float32))
    shape = save_nifti(tmp_path / "shape.nii", np.zeros((4, 5, 7), np.float32))
    wrong_shape = r"shape\.nii has the shape \(4, 5, 7\), but .*first\.nii has \(4, 5, 6\)"
    with pytest.raises(InputError, match=wrong_shape) as failure:
        read_image([first, shape])
    assert failure.value.exit_code == 2
    moved = OBLIQUE.copy()
    moved[0, 3] = 5.5
    origin = save_nifti(tmp_path / "origin.nii", np.zeros((4, 5, 6), np.float32), moved)
    with pytest.raises(InputError, match=r"origin\.nii has the origin \(5\.5, -7, 11\), but .*\(5, -7, 11\)"):
        read_image([first, origin])
    scaled = save_nifti(tmp_path / "scaled.nii", np.zeros((4, 5, 6), np.float32), OBLIQUE @ np.diag([2, 1, 1, 1]))
    with pytest.raises(InputError, match=r"scaled\.nii has the spacing \(1\.81108, .*\(0\.90553"):
        read_image([first, scaled])
    turned = save_nifti(tmp_path / "turned.nii", np.zeros((4, 5, 6), np.float32), OBLIQUE @ np.diag([-1, 1, 1, 1]))
    with pytest.raises(InputError, match=r"turned\.nii has the direction"):
        read_image([first, turned])


def test_a_multi_channel_file_is_not_one_of_several_channels(tmp_path):
    PIL.Image.fromarray(COLOUR).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"colour\.png holds 3 channels, but 2 files are one channel each"):
        read_image([tmp_path / "colour.png", tmp_path / "colour.png"])


def test_a_4d_nifti_is_channels_only_when_declared(tmp_path):
    pixels = RNG.normal(size=(4, 5, 6, 2)).astype(np.float32)
    path = save_nifti(tmp_path / "four.nii.gz", pixels)
    with pytest.raises(InputError, match=r"four\.nii\.gz is 4D \(4, 5, 6, 2\).*CASE_0000\.nii\.gz") as failure:
        read_image(path)
    assert failure.value.exit_code == 2
    assert np.array_equal(read_image(path, channels_last=True).pixels, np.moveaxis(pixels, 3, 0))
    with pytest.raises(InputError, match=r"four\.nii\.gz has 4 axes"):
        read_label_map(save_nifti(path, pixels.astype(np.int16)))
    with pytest.raises(InputError, match="has 5 axes"):
        read_image(save_nifti(tmp_path / "five.nii", np.zeros((2, 2, 2, 2, 2), np.int16)), channels_last=True)


def test_empty_trailing_axes_are_dropped(tmp_path):
    path = save_nifti(tmp_path / "trailing.nii", np.ones((4, 5, 6, 1, 1), np.uint8))
    assert read_image(path).shape == (4, 5, 6)
    assert read_label_map(path).shape == (4, 5, 6)


def test_whole_numbers_stored_as_floats_are_labels_and_others_are_not(tmp_path):
    whole = save_nifti(tmp_path / "whole.nii", np.array([[[0.0, 2.0, -1.0, 255.0]]], np.float32))
    assert read_label_map(whole).pixels.ravel().tolist() == [0, 2, -1, 255]
    assert np.issubdtype(read_label_map(whole).pixels.dtype, np.integer)
    broken = save_nifti(tmp_path / "broken.nii", np.array([[[0.5, 2.0, np.nan, 1.25]]], np.float32))
    with pytest.raises(InputError, match=r"broken\.nii is not a label map: 3 voxels are not whole.*0\.5, 1\.25"):
        read_label_map(broken)
    infinite = save_nifti(tmp_path / "infinite.nii", np.array([[[np.inf, 1e30]]], np.float32))
    with pytest.raises(InputError, match=r"infinite\.nii is not a label map: 2 voxels"):
        read_label_map(infinite)


def test_nan_and_infinite_voxels_are_counted(tmp_path):
    pixels = np.zeros((4, 5, 6), np.float32)
    pixels[0, 0, :3], pixels[1, 1, 1], pixels[2, 2, 2] = np.nan, np.inf, -np.inf
    path = save_nifti(tmp_path / "holes.nii.gz", pixels)
    with pytest.raises(InputError, match=r"holes\.nii\.gz has 3 NaN and 2 infinite voxels of 120") as failure:
        read_image(path)
    assert failure.value.exit_code == 2


@pytest.mark.faults
@pytest.mark.parametrize("keep", [0, 10, 200, 400, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_nifti_is_named(tmp_path, suffix, keep):
    path = save_nifti(tmp_path / f"cut{suffix}", RNG.integers(0, 999, (12, 13, 14), dtype=np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    for read in (read_image, read_label_map):
        with pytest.raises(InputError, match=rf"cut{suffix} is truncated or not a readable NIfTI file") as failure:
            read(path)
        assert "\n" not in str(failure.value)
        assert failure.value.exit_code == 2


@pytest.mark.faults
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("keep", [0, 0.3, 0.7])
def test_a_truncated_raster_is_named(tmp_path, suffix, keep):
    path = tmp_path / f"cut{suffix}"
    PIL.Image.fromarray(RNG.integers(0, 256, (60, 70, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    for read in (read_image, read_label_map):
        with pytest.raises(InputError, match=rf"cut{suffix} is truncated or not a readable image") as failure:
            read(path)
        assert "\n" not in str(failure.value)
        assert failure.value.exit_code == 2


def complaint(read, path):
    """The error's text, or the path itself for a file that can still be read."""
    try:
        read(path)
    except InputError as error:
        return str(error)
    return str(path)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore")  # Pillow's, about the damage
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), suffix=st.sampled_from([".nii", ".nii.gz", ".png", ".tif", ".jpg", ".bmp"]))
def test_a_damaged_file_is_read_or_named_and_nothing_else(tmp_path_factory, seed, suffix):
    path = tmp_path_factory.mktemp("damaged") / f"scan{suffix}"
    rng = np.random.default_rng(seed)
    if suffix.startswith(".nii"):
        save_nifti(path, rng.integers(0, 99, (5, 6, 7), dtype=np.int16))
    else:
        PIL.Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 12)):
        content[rng.integers(0, min(len(content), 400))] = rng.integers(0, 256)
    path.write_bytes(content)
    for read in (read_image, read_label_map):
        assert str(path) in complaint(read, path)


def test_something_else_under_an_image_name_is_named(tmp_path):
    for name in ("text.nii", "text.png", "text.tif"):
        (tmp_path / name).write_text("this is no image, " * 40)
        with pytest.raises(InputError, match=f"{name} is truncated or not"):
            read_image(tmp_path / name)
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"this is no volume, " * 40))
    with pytest.raises(InputError, match=r"text\.nii\.gz is truncated or not"):
        read_image(tmp_path / "text.nii.gz")


def test_colours_and_complex_numbers_in_a_nifti_are_refused(tmp_path):
    colours = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match="stores colours"):
        read_image(save_nifti(tmp_path / "rgb.nii", colours))
    with pytest.raises(InputError, match="stores complex numbers"):
        read_image(save_nifti(tmp_path / "complex.nii", np.zeros((2, 3, 4), np.complex64)))


def test_a_header_without_extent_is_named(tmp_path):
    path = save_nifti(tmp_path / "flat.nii", np.zeros((2, 3, 4), np.uint8), sform_code=1, srow_x=[0, 0, 0, 0])
    volume = nib.load(path)
    volume.header["srow_x"] = 0
    raw = bytearray(path.read_bytes())
    raw[280:296] = bytes(16)  # srow_x
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"flat\.nii: the affine is singular"):
        read_image(path)


def test_several_pages_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "pages.tif", np.zeros((3, 5, 6), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((3, 5, 6, 3), np.uint16), photometric="rgb")
    for name in ("pages.tif", "deep.tif"):
        with pytest.raises(InputError, match=rf"{name} holds 3 pages"):
            read_image(tmp_path / name)


def test_missing_unknown_and_folder_paths_are_named(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("none.nii.gz", "does not exist"),
        ("folder.png", "is a folder"),
        ("a.xyz", "suffix"),
        ("a.jp2", "convert"),
    ):
        with pytest.raises(InputError, match=f"{name} .*{message}"):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match="at least one file"):
        read_image([])


def test_readers_that_are_given_still_take_part_and_say_what_is_new(tmp_path):
    class ConstantReader:
        def accepts(self, path):
            return path.suffix == ".constant"

        def read_header(self, path):
            return Header(1, (2, 2, 2), 8)

        def read_channels(self, path, *, channels_last=False):
            return np.full((1, 2, 2, 2), 7), Geometry.identity(3)

        def read_labels(self, path):
            return np.full((2, 2, 2), 7), Geometry.identity(3)

    path = tmp_path / "scan.constant"
    path.touch()
    for read in (read_image, read_label_map):
        with pytest.warns(DeprecationWarning, match="register_reader"):
            assert (read(path, readers=[ConstantReader()]).pixels == 7).all()


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.b.nii", "a.b"),
        ("A.NII.GZ", "A"),
        ("x/y.c_0000.PNG", "y.c_0000"),
        ("a.dcm", "a"),
        ("a.pdf", "a.pdf"),
    ],
)
def test_stems_are_names_without_the_image_suffix(name, stem):
    assert case_stem(name) == stem


def test_hidden_and_appledouble_files_are_no_images():
    assert not is_image_file(Path("._scan.nii.gz"))
    assert not is_image_file(Path(".hidden.png"))
    assert not is_image_file(Path("README.md"))
    assert is_image_file(Path("scan.nii.gz"))


def test_a_file_that_memory_does_not_hold_is_not_called_truncated():
    with (
        pytest.raises(InputError, match=r"^scan\.nii does not fit into memory .* free some memory, or copy it again"),
        naming_file(Path("scan.nii"), "NIfTI file"),
    ):
        np.empty(2**52)
