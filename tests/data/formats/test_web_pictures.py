"""WebP and GIF: what Pillow shows, palettes as labels, and what compression with losses or several frames mean."""

import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import (
    Geometry,
    LabelMap,
    check_dataset,
    mask_suffix,
    open_dataset,
    open_images,
    read_header,
    read_image,
    read_label_map,
    read_mask,
    write_label_map,
)
from deconvseg.data.labels.mask_values import BlurredMaskError
from deconvseg.errors import InputError

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:48, :56]
DISC = ((ROWS - 22) ** 2 + (COLUMNS - 30) ** 2 < 200).astype(np.uint8)
PALETTE = [0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 200]


def palette_picture(indices, palette=PALETTE):
    picture = PIL.Image.fromarray(indices)
    picture.putpalette(palette)
    return picture


@settings(deadline=None, max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)), channels=st.sampled_from([3, 4]), seed=st.integers(0, 99)
)
def test_a_lossless_webp_is_what_was_saved(tmp_path_factory, shape, channels, seed):
    path = tmp_path_factory.mktemp("webp") / "a.webp"
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, channels), dtype=np.uint8)
    pixels[..., 3:] = 255
    PIL.Image.fromarray(pixels).save(path, lossless=True)
    assert np.array_equal(read_image(path).pixels, pixels[..., :3].transpose(2, 0, 1))
    assert (read_header(path).channels, read_header(path).shape) == (3, shape)


@settings(deadline=None, max_examples=20)
@given(shape=st.tuples(st.integers(1, 20), st.integers(1, 20)), seed=st.integers(0, 99))
def test_a_gif_gives_colours_to_an_image_and_indices_to_a_mask(tmp_path_factory, shape, seed):
    path = tmp_path_factory.mktemp("gif") / "a.gif"
    indices = np.random.default_rng(seed).integers(0, 4, shape, dtype=np.uint8)
    palette_picture(indices).save(path, optimize=False)
    colours = np.array(PALETTE, np.uint8).reshape(4, 3)[indices]
    assert np.array_equal(read_image(path).pixels, colours.transpose(2, 0, 1))
    assert np.array_equal(read_label_map(path).pixels, indices)


def test_a_grey_gif_has_one_channel_and_keeps_its_values(tmp_path):
    grey = RNG.integers(0, 256, (9, 8), dtype=np.uint8)
    PIL.Image.fromarray(grey).save(tmp_path / "a.gif")
    assert np.array_equal(read_image(tmp_path / "a.gif").pixels, grey[None])
    PIL.Image.fromarray(DISC * 255).save(tmp_path / "mask.gif")
    assert np.array_equal(read_mask(tmp_path / "mask.gif").pixels > 0, DISC > 0)


def test_masks_may_be_gif_or_lossless_webp(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, ending in enumerate(("gif", "webp", "png")):
        PIL.Image.fromarray(RNG.integers(0, 256, (48, 56), dtype=np.uint8)).save(tmp_path / "images" / f"c{number}.png")
        path = tmp_path / "masks" / f"c{number}.{ending}"
        PIL.Image.fromarray(DISC * 255).save(path, **({"lossless": True} if ending == "webp" else {}))
    dataset = open_dataset(tmp_path)
    assert all(np.array_equal(dataset.load_label(case).pixels > 0, DISC > 0) for case in dataset.cases)
    assert "read by   raster 4, web pictures 2 (c0.gif, c1.webp)" in check_dataset(dataset).to_text()


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0"])
def test_a_lossy_webp_mask_is_refused_as_a_jpeg_is(tmp_path, exif):
    for name, options in (("a.webp", {"quality": 60, "exif": exif}), ("a.jpg", {"quality": 60})):
        PIL.Image.fromarray(np.repeat(DISC[..., None] * 255, 3, 2)).save(tmp_path / name, **options)
    for name, kind in (("a.webp", "lossy WebP"), ("a.jpg", "JPEG")):
        with pytest.raises(BlurredMaskError, match=rf"{name} is a {kind} whose compression has spread the labels"):
            read_mask(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name, foreground=True).pixels > 0, DISC > 0)


def test_a_lossy_webp_in_colour_is_no_mask(tmp_path):
    colours = np.zeros((48, 56, 3), np.uint8)
    colours[..., 0] = DISC * 255
    PIL.Image.fromarray(colours).save(tmp_path / "a.webp", quality=60)
    with pytest.raises(InputError, match=r"a\.webp is a colour image, not a label map"):
        read_mask(tmp_path / "a.webp")


def test_several_frames_are_refused_by_their_number(tmp_path):
    frames = [PIL.Image.fromarray(RNG.integers(0, 256, (9, 8), dtype=np.uint8)) for _ in range(3)]
    for name in ("a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match=rf"{name} holds 3 frames, where one 2D image is expected"):
            read_image(tmp_path / name)


@pytest.mark.faults
def test_a_gif_that_ends_early_is_named(tmp_path):
    buffer = io.BytesIO()
    PIL.Image.fromarray(RNG.integers(0, 256, (40, 50), dtype=np.uint8)).save(buffer, "GIF")
    for keep in (0.3, 0.7):
        (tmp_path / "a.gif").write_bytes(buffer.getvalue()[: int(keep * len(buffer.getvalue()))])
        with pytest.raises(InputError, match=r"a\.gif is truncated or not a readable image"):
            read_image(tmp_path / "a.gif")


def test_the_masks_of_gif_and_webp_are_png_and_neither_is_written(tmp_path):
    assert mask_suffix("a.gif", [0, 255]) == mask_suffix("a.webp") == ".png"
    assert mask_suffix("a.gif", [-1]) == ".tif"
    for name in ("mask.gif", "mask.webp"):
        with pytest.raises(InputError, match=rf"{name}: a mask is not written as \.\w+; write \.png, \.bmp or \.tif"):
            write_label_map(LabelMap(DISC, Geometry.identity(2)), tmp_path / name)


def test_a_gif_beside_a_picture_of_its_name_is_a_preview(tmp_path):
    for name in ("a.png", "a.gif", "b.webp"):
        PIL.Image.fromarray(DISC).save(tmp_path / name)
    cases, problems = open_images(tmp_path)
    assert [case.images[0].name for case in cases] == ["a.png", "b.webp"]
    assert problems == ()


def test_labels_of_a_grey_gif_are_its_values_whatever_the_others_are(tmp_path):
    """Pillow renumbers the greys that a picture has: 4 is the third of {0, 2, 4} and the second of {0, 4}."""
    for name, values in (("all", (0, 2, 4)), ("few", (0, 4)), ("white", (0, 255))):
        labels = np.array(values, np.uint8)[RNG.integers(0, len(values), (9, 8))]
        PIL.Image.fromarray(labels).save(tmp_path / f"{name}.gif")
        assert np.array_equal(read_label_map(tmp_path / f"{name}.gif").pixels, labels)
