"""One object is one class, however its files store white; what may mean two things is an error that names both."""

import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import LabelEncoding, align_white, check_dataset, open_dataset, read_image, read_label_map
from deconvseg.data.labels.encoding import WHITE, common_values
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate
from deconvseg.planning.fingerprint import take_fingerprint

MASK = np.zeros((24, 20), np.uint8)
MASK[6:15, 4:12] = 1


def palette(mask):
    image = PIL.Image.fromarray(mask, "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    return image


def inverted_palette(mask):
    image = PIL.Image.fromarray(1 - mask, "P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


STORED = {
    "8bit": lambda mask: PIL.Image.fromarray(mask * 255),
    "number": PIL.Image.fromarray,
    "1bit": lambda mask: PIL.Image.fromarray(mask * 255).convert("1"),
    "palette": palette,
    "white first": inverted_palette,
    "16bit": lambda mask: PIL.Image.fromarray(mask.astype(np.uint16) * 65535),
    "rgb": lambda mask: PIL.Image.fromarray(np.repeat(mask[..., None] * 255, 3, axis=2)),
}


def store(folder, kinds, mask=MASK):
    folder.mkdir(parents=True, exist_ok=True)
    for number, kind in enumerate(kinds):
        STORED[kind](np.roll(mask, number, axis=0)).save(folder / f"c{number}.png")
    return folder


def dataset(root, kinds):
    store(root / "masks", kinds)
    (root / "images").mkdir()
    for number in range(len(kinds)):
        pixels = np.random.default_rng(number).integers(0, 255, MASK.shape, dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(root / "images" / f"c{number}.png")
    return open_dataset(root)


@pytest.mark.parametrize("other", [kind for kind in STORED if kind != "8bit"])
def test_one_object_in_two_storages_is_one_class(tmp_path, other):
    data = dataset(tmp_path, ["8bit", other, "8bit"])
    report = check_dataset(data)
    assert report.problems == ()
    assert {value: (found.voxels, found.cases) for value, found in report.labels.items()} == {
        0: (3 * (MASK.size - MASK.sum()), 3),
        255: (3 * MASK.sum(), 3),
    }
    assert take_fingerprint(data, workers=0).label_voxels == {0: 3 * (MASK.size - MASK.sum()), 255: 3 * MASK.sum()}
    encoding = LabelEncoding.from_values([0, 255])
    for number, case in enumerate(data.cases):
        assert np.array_equal(encoding.encode(data.load_label(case).pixels), np.roll(MASK, number, axis=0))


def test_the_most_frequent_storage_gives_the_value(tmp_path):
    assert set(check_dataset(dataset(tmp_path, ["1bit", "palette", "8bit"])).labels) == {0, 1}


def test_white_among_label_maps_is_refused_by_name(tmp_path):
    data = dataset(tmp_path, ["8bit", "1bit", "number"])
    PIL.Image.fromarray(MASK + np.roll(MASK, 12, axis=1) * 2).save(tmp_path / "masks" / "c2.png")
    message = r"c1\.png holds 0 and 1; .*c0\.png holds 0 and 255; and .*c2\.png holds 1, 2: what is one label here"
    (error,) = check_dataset(data).errors
    with pytest.raises(InputError, match=message):
        raise InputError(error.message)
    with pytest.raises(InputError, match=message):
        take_fingerprint(data, workers=0)


def test_one_label_in_each_mask_but_not_the_same_is_told(tmp_path):
    data = dataset(tmp_path, ["8bit", "8bit"])
    PIL.Image.fromarray(MASK * 100).save(tmp_path / "masks" / "c1.png")
    (problem,) = check_dataset(data).problems
    assert problem.severity == "warning"
    assert problem.message.startswith("each mask has one label, but not the same (100 in")
    assert f"{tmp_path}/masks/c1.png; 255 in" in problem.message


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.sets(st.integers(0, 9)), max_size=6))
def test_label_numbers_stand_for_themselves(masks):
    assert all(value == common for value, common in common_values(masks).items())


@given(st.sampled_from(WHITE), st.sampled_from(WHITE), st.booleans())
def test_a_mask_of_one_class_takes_the_value_of_the_class(stored, wanted, empty):
    mask = np.zeros((3, 4), np.uint16)
    mask[1:, 2:] = 0 if empty else stored
    assert np.array_equal(align_white(mask, wanted), np.where(mask > 0, wanted, 0))
    mask[0, 0] = 2
    assert align_white(mask, wanted) is mask


def test_an_ignored_value_is_not_white():
    mask = np.array([[0, 255, 255]], np.uint8)
    assert align_white(mask, 1, ignore=255) is mask
    assert np.array_equal(align_white(mask, 1, ignore=7), [[0, 1, 1]])


@pytest.mark.parametrize("truth", STORED)
@pytest.mark.parametrize("prediction", ["8bit", "1bit", "16bit"])
def test_equal_masks_score_one_in_any_storage(tmp_path, truth, prediction):
    result = evaluate(store(tmp_path / "truth", [truth] * 2), store(tmp_path / "found", [prediction] * 2))
    assert result.mean_dice == 1
    assert len(result.labels) == 1
    values = (("8bit", "rgb"), ("number", "1bit", "palette", "white first"), ("16bit",))
    alike = {kind: value for value, kinds in enumerate(values) for kind in kinds}
    told = any("store it as another of 1, 255, 65535 or" in text for text in result.warnings)
    assert told == (alike[truth] != alike[prediction])


def test_a_set_whose_truths_differ_in_storage_is_one_class(tmp_path):
    kinds = ["8bit", "1bit", "palette", "16bit", "8bit"]
    result = evaluate(store(tmp_path / "truth", kinds), store(tmp_path / "found", ["8bit"] * 5))
    assert (list(result.labels), result.mean_dice) == ([255], 1)
    line = (
        "masks of one class that store it as another of 1, 255, 65535 or another depth's white: c1, c2, c3; "
        "all count as that class"
    )
    assert line in result.warnings


def test_a_lossy_truth_is_named_and_scored_as_foreground(tmp_path):
    mask = np.kron(MASK, np.ones((3, 3), np.uint8))
    folder = store(tmp_path / "found", ["8bit", "8bit"], mask)
    for name in ("c0", "c1"):
        (tmp_path / "truth").mkdir(exist_ok=True)
        PIL.Image.open(folder / f"{name}.png").save(tmp_path / "truth" / f"{name}.jpg", quality=70)
    result = evaluate(tmp_path / "truth", folder)
    assert all("is a JPEG" in problem and "`foreground=True`" in problem for problem in result.problems)
    assert evaluate(tmp_path / "truth", folder, foreground=True).mean_dice == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("form", ["png", "tif"])
def test_numbers_of_few_bits_are_labels_as_stored(tmp_path, bits, form):
    """A decoder that widens 2 bits to 8 makes 170 of the label 2."""
    labels = np.tile(np.arange(2**bits, dtype=np.uint8), (3, 4))
    path = store_bits(tmp_path / f"a.{form}", labels, bits)
    assert np.array_equal(read_label_map(path).pixels, labels)
    assert np.array_equal(read_image(path).pixels[0], labels * (255 // (2**bits - 1)))


def store_bits(path, labels, bits):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        kind = np.uint8 if bits <= 8 else np.uint16
        tifffile.imwrite(path, labels.astype(kind), bitspersample=bits, photometric="minisblack")
    else:
        packed = np.packbits(
            np.unpackbits(labels[..., None], axis=-1)[..., 8 - bits :].reshape(len(labels), -1), axis=1
        )
        path.write_bytes(grey_png(packed, labels.shape, bits))
    return path


FEW_BITS = [("png", 2), ("png", 4), ("tif", 2), ("tif", 4), ("tif", 12)]


@pytest.mark.parametrize(("form", "bits"), FEW_BITS)
@pytest.mark.parametrize("other", ["8bit", "1bit", "16bit"])
def test_white_of_any_depth_is_one_class(tmp_path, form, bits, other):
    mask = MASK.astype(np.uint16) * (2**bits - 1)
    mask = mask if bits > 8 else mask.astype(np.uint8)
    path = store_bits(tmp_path / "few" / f"c0.{form}", mask, bits)
    store(tmp_path / "other", [other])
    for truth, prediction in (("few", "other"), ("other", "few")):
        result = evaluate(tmp_path / truth, tmp_path / prediction)
        assert (len(result.labels), result.mean_dice) == (1, 1)
        assert any("another depth's white: c0" in text for text in result.warnings)
    data = dataset(tmp_path / "set", [other, other])
    (tmp_path / "set" / "masks" / "c1.png").unlink()
    path.rename(tmp_path / "set" / "masks" / f"c1.{form}")
    data = open_dataset(tmp_path / "set")
    value = {"8bit": 255, "1bit": 1, "16bit": 65535}[other]
    assert {label: found.cases for label, found in check_dataset(data).labels.items()} == {0: 2, value: 2}
    assert take_fingerprint(data, workers=0).label_voxels.keys() == {0, value}
    label_map = data.load(data.cases[1])[1]
    ids = LabelEncoding.from_values([0, value]).encode(label_map.pixels, white=label_map.white)
    assert np.array_equal(ids, MASK)


@pytest.mark.parametrize(("form", "bits"), FEW_BITS)
def test_the_largest_label_of_few_bits_is_that_label_among_label_maps(tmp_path, form, bits):
    highest = 2**bits - 1
    kind = np.uint16 if bits > 8 else np.uint8
    for folder in ("truth", "found"):
        store_bits(tmp_path / folder / f"c0.{form}", MASK.astype(kind) * highest, bits)
        store_bits(tmp_path / folder / f"c1.{form}", MASK.astype(kind) * highest + np.roll(MASK, 9, axis=1), bits)
    result = evaluate(tmp_path / "truth", tmp_path / "found")
    assert (list(result.labels), result.mean_dice) == ([1, highest], 1)
    files = {"a": {0, highest}, "b": {0, 1, highest}, "c": {0, 1}}
    assert common_values(files, {"a": highest}) == {1: 1, highest: highest}
    with pytest.raises(InputError, match="a holds 0 and .*; and b holds 1, 2: what is one label here"):
        common_values({"a": {0, highest}, "b": {1, 2}, "c": {0, 1}}, {"a": highest})


def grey_png(rows, shape, bits):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", shape[1], shape[0], bits, 0, 0, 0, 0)
    picture = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", picture) + chunk(b"IEND", b"")
