"""Pictures are read as they are shown and at their own depth; what has no meaning as an image or labels is named."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile

from deconvseg.data import check_dataset, open_dataset, read_header, read_image, read_label_map
from deconvseg.data.formats.raster import RasterReader
from deconvseg.errors import InputError
from refusals import is_refused

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 9), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".late.png"])
def test_a_picture_is_read_as_it_is_shown(tmp_path, suffix, orientation):
    """As Pillow turns it, image and mask and header, wherever the file has the tag."""
    path = tmp_path / f"turned{suffix}"
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    if suffix == ".tif":
        tifffile.imwrite(path, GREY, extratags=[(274, 3, 1, orientation, True)])
        PIL.Image.fromarray(GREY).save(tmp_path / "same.png", exif=exif)
        shown = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(tmp_path / "same.png")))
    else:
        PIL.Image.fromarray(GREY).save(path, exif=exif, **({"quality": 95} if suffix == ".jpg" else {}))
        if suffix == ".late.png":  # the tag behind the picture, where PNG allows it
            content = path.read_bytes()
            place = content.index(b"eXIf") - 4
            length = int.from_bytes(content[place : place + 4], "big") + 12
            chunk, rest = content[place : place + length], content[:place] + content[place + length :]
            path.write_bytes(rest[:-12] + chunk + rest[-12:])
        shown = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(path)))
    assert np.array_equal(read_image(path).pixels[0], shown)
    assert np.array_equal(read_label_map(path).pixels, shown)
    assert read_header(path).shape == shown.shape == ((9, 12) if orientation > 4 else (12, 9))


@pytest.mark.parametrize(("rows", "told"), [(12, "drawn on the picture as it is shown"), (9, "turn the other")])
def test_a_picture_that_is_turned_beside_a_mask_that_is_not_is_named(tmp_path, rows, told):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    picture = PIL.Image.fromarray(np.resize(GREY, (rows, 12)))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "images" / "a.jpg", exif=exif)
    picture.point(lambda value: 255 * (value > 99)).save(tmp_path / "masks" / "a.png")
    (found,) = [p for p in check_dataset(open_dataset(tmp_path)).problems if "EXIF" in p.message]
    assert told in found.message
    picture.save(tmp_path / "images" / "a.jpg")
    assert not [p for p in check_dataset(open_dataset(tmp_path)).problems if "EXIF" in p.message]


def test_sixteen_bits_are_kept_beside_an_orientation_behind_the_picture(tmp_path):
    import imagecodecs

    deep = RNG.integers(0, 2**16, (12, 9, 3), dtype=np.uint16)
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    content = imagecodecs.png_encode(deep)
    (tmp_path / "a.png").write_bytes(content[:-12] + chunk + content[-12:])
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, np.rot90(deep, -1).transpose(2, 0, 1))
    assert read_header(tmp_path / "a.png").shape == (9, 12)


@pytest.mark.faults
def test_damaged_exif_orients_nothing(tmp_path):
    PIL.Image.fromarray(GREY).save(tmp_path / "a.jpg", exif=b"Exif\0\0no exif at all")
    assert read_image(tmp_path / "a.jpg").shape == (12, 9)


@pytest.mark.faults
@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"tEXt", b"IEND"])
def test_every_checksum_of_a_png_is_compared(tmp_path, kind):
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add(b"tEXt", b"about\0a text", after_idat=True)
    path = tmp_path / "a.png"
    PIL.Image.fromarray(GREY).save(path, pnginfo=text)
    content = bytearray(path.read_bytes())
    place = content.index(kind)
    length = int.from_bytes(content[place - 4 : place], "big")
    content[place + 4 + length + 3] ^= 1
    path.write_bytes(content)
    is_refused(path, r"a\.png is truncated or not a readable image")


def test_the_checksum_of_the_compressed_picture_in_a_png_is_compared(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packed = bytearray(zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY)))
    packed[-1] ^= 1
    header = struct.pack(">IIBBBBB", 9, 12, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    is_refused(tmp_path / "a.png", "incorrect data check")


@pytest.mark.faults
def test_a_tiff_is_unpacked_to_its_checksum(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        end = tiff.pages[0].dataoffsets[0] + tiff.pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[end - 1] ^= 1
    path.write_bytes(content)
    is_refused(path, "truncated or not a readable image")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "is HEIC, which is not read"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "is JPEG 2000, which is not read"),
        (bytes(128) + b"DICM" + bytes(40), "is DICOM, whatever its name; convert the series with dcm2niix"),
        (b"PK\3\4" + bytes(40), "is an archive; unpack it"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page or XML, and no image; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS.*'git lfs pull'"),
    ],
)
def test_content_of_another_kind_is_named(tmp_path, content, match):
    for name in ("a.png", "a.jpg", "a.tif", "a.nii", "a.nii.gz", "a.mha", "a.nrrd"):
        (tmp_path / name).write_bytes(content)
        is_refused(tmp_path / name, match)


def bmp(bits, palette, rows, compression=0):
    """A BMP with a palette of so many greys and no more."""
    colours, data = b"".join(bytes([grey, grey, grey, 0]) for grey in palette), b"".join(rows)
    start = 54 + len(colours)
    sizes = struct.pack("<IiiHHIIiiII", 40, 8, -len(rows), 1, bits, compression, len(data), 0, 0, len(palette), 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + sizes + colours + data


@pytest.mark.parametrize(("bits", "white"), [(1, 1), (4, 1), (8, 1), (4, 15)])
def test_bmp_with_a_palette_of_few_greys_keeps_its_indices(tmp_path, bits, white):
    mask = (GREY[:8, :8] > 99).astype(np.uint8) * (1 if white == 1 else 7)
    if bits == 8:
        rows = [row.tobytes() for row in mask]
    elif bits == 4:
        rows = [bytes(row[::2] << 4 | row[1::2]) for row in mask]
    else:
        rows = [np.packbits(row).tobytes() + bytes(3) for row in mask]
    path = tmp_path / "a.bmp"
    path.write_bytes(bmp(bits, [0, 255] if white == 1 else list(range(16)), rows))
    assert np.array_equal(read_label_map(path).pixels, mask)
    if bits > 1:
        assert np.array_equal(read_image(path).pixels[0], mask * (255 if white == 1 else 1))


@pytest.mark.faults
def test_a_jpeg_without_its_end_is_truncated(tmp_path):
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(COLOUR).save(path)
    path.write_bytes(path.read_bytes()[:-2])
    is_refused(path, "ends before its end-of-image mark")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_zero_that_is_white_is_inverted_in_images_and_not_in_labels(tmp_path, dtype):
    """At every depth alike; the labels are the stored numbers, and check says so."""
    stored = GREY.astype(dtype)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        pixels = stored if folder == "images" else (stored > 99).astype(dtype)
        tifffile.imwrite(tmp_path / folder / "a.tif", pixels, photometric="miniswhite")
    image, mask = tmp_path / "images" / "a.tif", tmp_path / "masks" / "a.tif"
    assert np.array_equal(read_image(image).pixels[0], (np.iinfo(dtype).max - stored).astype(np.float32))
    assert np.array_equal(read_label_map(mask).pixels, stored > 99)
    found = [problem for problem in check_dataset(open_dataset(tmp_path)).problems if "0 is white" in problem.message]
    assert [(problem.file, problem.severity) for problem in found] == [(str(mask), "warning")]


def test_single_bits_of_which_0_is_white_are_told(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", GREY)
    tifffile.imwrite(tmp_path / "masks" / "a.tif", GREY > 99, photometric="miniswhite")
    messages = [problem.message for problem in check_dataset(open_dataset(tmp_path)).problems]
    assert any("0 is white" in message and "stored numbers" in message for message in messages)


def test_single_bits_are_shown_bits_in_images_and_stored_ones_in_masks(tmp_path):
    for photometric in ("minisblack", "miniswhite"):
        # Without a photometric tifffile writes booleans as miniswhite.
        tifffile.imwrite(tmp_path / "a.tif", GREY > 99, photometric=photometric)
        assert np.array_equal(read_label_map(tmp_path / "a.tif").pixels, GREY > 99)
        assert np.array_equal(read_image(tmp_path / "a.tif").pixels[0], np.asarray(PIL.Image.open(tmp_path / "a.tif")))
    PIL.Image.fromarray(GREY > 99).save(tmp_path / "fax.tif", compression="group4")
    assert np.array_equal(read_label_map(tmp_path / "fax.tif").pixels, GREY > 99)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [(np.int8, [-1, 0, 7]), (np.int16, [-300, 5]), (np.uint32, [0, 2**31 + 5, 2**32 - 1]), (np.int64, [-(2**40), 1]),
     (np.uint64, [2**40, 0]), (np.float16, [0, 3]), (np.float64, [0, -2])],
)  # fmt: skip
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_numbers_of_every_type_are_kept(tmp_path, dtype, values, compression):
    pixels = np.resize(np.array(values, dtype), (6, 5))
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression=compression, photometric="minisblack")
    assert np.array_equal(read_label_map(tmp_path / "a.tif").pixels, pixels)
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels[0], pixels.astype(np.float32))
    assert read_header(tmp_path / "a.tif").itemsize == np.dtype(dtype).itemsize


def test_a_label_larger_than_any_mask_holds_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), 2**63 + 1, np.uint64), photometric="minisblack")
    with pytest.raises(InputError, match=r"a\.tif is not a label map: it has the value 9223372036854775809"):
        read_label_map(tmp_path / "a.tif")


def test_complex_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64), photometric="minisblack")
    is_refused(tmp_path / "a.tif", "stores complex numbers")


@pytest.mark.parametrize("channels", [3, 4])
def test_a_png_of_sixteen_bits_in_colour_keeps_them(tmp_path, channels):
    import imagecodecs

    deep = RNG.integers(0, 2**16, (12, 9, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, deep[..., :3].transpose(2, 0, 1))
    assert read_header(tmp_path / "a.png").itemsize == 2
    labels = np.repeat(deep[..., :1] % 3, channels, axis=2)
    (tmp_path / "mask.png").write_bytes(imagecodecs.png_encode(labels))
    assert np.array_equal(read_label_map(tmp_path / "mask.png").pixels, labels[..., 0])


def test_colours_that_are_neither_grey_nor_rgb_are_named(tmp_path):
    for number, name in ((8, "CIE L"), (9, "ICC L"), (10, "ITU L"), (32803, "Bayer"), (777, "unknown kind 777")):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, COLOUR, photometric="rgb")
        content = path.read_bytes()
        tag = struct.pack("<HHI", 262, 3, 1)
        place = content.index(tag) + 8
        path.write_bytes(content[:place] + struct.pack("<H", number) + content[place + 2 :])
        if number != 777:
            is_refused(path, f"has colours that are .*{name}.*convert it to RGB")
        else:
            is_refused(path, r"777\.tif")
    PIL.Image.fromarray(COLOUR).convert("LAB").save(tmp_path / "lab.tif")
    is_refused(tmp_path / "lab.tif", "convert it to RGB")


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_inks_become_colours(tmp_path, suffix):
    inks = PIL.Image.fromarray(COLOUR).convert("CMYK")
    inks.save(tmp_path / f"a{suffix}")
    expected = np.asarray(PIL.Image.open(tmp_path / f"a{suffix}").convert("RGB")).astype(float)
    assert np.abs(read_image(tmp_path / f"a{suffix}").pixels.transpose(1, 2, 0) - expected).max() <= 1


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "zlib", "packbits", "zstd"])
@pytest.mark.parametrize("deep", [False, True])
def test_tiff_compressions_are_read(tmp_path, compression, deep):
    if compression == "jpeg" and deep:
        pytest.skip("JPEG has 8 bits")
    colour = COLOUR.astype(np.uint16) * 257 if deep else COLOUR
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb", compression=compression, rowsperstrip=5)
    expected = np.asarray(PIL.Image.open(tmp_path / "a.tif")) if compression == "jpeg" else colour
    assert np.abs(read_image(tmp_path / "a.tif").pixels.transpose(1, 2, 0) - expected).max() <= (compression == "jpeg")


def test_a_palette_tiff_has_colours_and_indices(tmp_path):
    indices = (GREY % 4).astype(np.uint8)
    coloured = PIL.Image.fromarray(indices)
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 9, 200]], np.uint8)
    coloured.putpalette(palette.ravel().tolist())
    coloured.save(tmp_path / "a.tif")
    assert np.array_equal(read_label_map(tmp_path / "a.tif").pixels, indices)
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, palette[indices].transpose(2, 0, 1))


def test_of_a_photograph_with_a_preview_the_photograph_is_read(tmp_path):
    small = PIL.Image.fromarray(COLOUR).resize((4, 6))
    picture = PIL.Image.fromarray(COLOUR)
    picture.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[small], quality=95)
    assert read_image(tmp_path / "phone.jpg").shape == (12, 9)
    for name, marked, first in (("marked", True, False), ("first", True, True), ("plain", False, False)):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as tiff:
            for preview in (True, False) if first else (False, True):
                pixels = np.ascontiguousarray(COLOUR[::3, ::3]) if preview else COLOUR
                tiff.write(pixels, photometric="rgb", subfiletype=1 if preview and marked else 0)
        assert np.array_equal(read_image(tmp_path / f"{name}.tif").pixels, COLOUR.transpose(2, 0, 1))


def test_a_stack_in_one_page_is_no_image(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 12, 9), np.uint8), imagej=True)
    is_refused(tmp_path / "stack.tif", "holds 3 pages")


def test_a_content_is_recognised_whatever_its_name(tmp_path):
    for name, kind in (("a.png", "JPEG"), ("b.jpg", "PNG"), ("c.png", "TIFF"), ("d.tif", "PNG")):
        buffer = io.BytesIO()
        PIL.Image.fromarray(GREY).save(buffer, kind)
        (tmp_path / name).write_bytes(buffer.getvalue())
        assert np.abs(read_image(tmp_path / name).pixels[0] - GREY).max() < 100
    (tmp_path / "e.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    is_refused(tmp_path / "e.png", "not an image in a known format")


def test_a_large_picture_is_read_where_memory_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 20)  # Pillow's own limit has no say
    PIL.Image.fromarray(GREY).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png").pixels[0], GREY)
    assert np.array_equal(read_label_map(tmp_path / "a.png").pixels, GREY)


def test_a_header_that_its_file_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(GREY).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60000, 60000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)
    is_refused(path, "more than .* bytes can hold")


def test_alpha_is_given_apart(tmp_path):
    alpha = RNG.integers(0, 256, (12, 9), dtype=np.uint8)
    for suffix in (".png", ".tif"):
        for name, pixels in (("rgba", np.dstack([COLOUR, alpha])), ("la", np.dstack([GREY, alpha]))):
            PIL.Image.fromarray(pixels).save(tmp_path / f"{name}{suffix}")
            assert np.array_equal(RasterReader().read_alpha(tmp_path / f"{name}{suffix}"), alpha)
    PIL.Image.fromarray(COLOUR).save(tmp_path / "rgb.png")
    assert RasterReader().read_alpha(tmp_path / "rgb.png") is None
