"""Grey levels that compression, smoothing or transparency left are no classes; label maps stay what they are."""

import io

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.data import check_dataset, open_dataset, read_mask
from deconvseg.data.labels.mask_values import BlurredMaskError, TransparentMaskError

ROWS, COLUMNS = np.mgrid[:64, :64]


def disc(row=30, column=26, radius=11):
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 < radius**2


def save(pixels, path, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **how)
    return path


def smoothed(mask, size=96):
    image = PIL.Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(image.resize((size, size), PIL.Image.Resampling.BILINEAR))


def compressed(mask, quality):
    stream = io.BytesIO()
    PIL.Image.fromarray((mask * 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def test_an_antialiased_mask_is_refused_and_its_foreground_is_what_lies_above_half(tmp_path):
    pixels = smoothed(disc())
    path = save(pixels, tmp_path / "a.png")
    with pytest.raises(BlurredMaskError, match=r"a\.png has \d+ grey levels between 0 and 255, all along edges.*half"):
        read_mask(path)
    assert np.array_equal(read_mask(path, foreground=True).pixels > 0, pixels > 127)


@pytest.mark.parametrize("how", ["BILINEAR", "BICUBIC", "LANCZOS", "HAMMING"])
@pytest.mark.parametrize("values", [(128, 255), (100, 200), (255, 60)])
def test_grey_levels_between_several_classes_are_refused_with_or_without_foreground(tmp_path, how, values):
    outer, inner = values
    pixels = np.where(disc(radius=10), inner, np.where(disc(radius=22), outer, 0)).astype(np.uint8)
    resized = PIL.Image.fromarray(pixels).resize((90, 90), PIL.Image.Resampling[how])
    path = save(np.asarray(resized), tmp_path / "a.png")
    for foreground in (False, True):
        with pytest.raises(
            BlurredMaskError, match=r"a\.png has \d+ grey levels along the edges of its labels \(0, \d+"
        ):
            read_mask(path, foreground=foreground)
    save(np.asarray(PIL.Image.fromarray(pixels).resize((90, 90), PIL.Image.Resampling.NEAREST)), path)
    assert set(np.unique(read_mask(path).pixels)) == {0, *values}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(4, 40), st.sampled_from(["regions", "lines", "ribbons", "dots"]))
def test_label_maps_of_many_classes_stay(tmp_path_factory, seed, count, kind):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 48, (count, 2))
    distances = ((np.stack(np.mgrid[:48, :48], -1)[:, :, None] - points) ** 2).sum(-1)
    pixels = rng.permutation(count)[distances.argmin(-1)] + 8
    if kind == "lines":
        pixels[np.abs(np.diff(pixels, axis=0, append=8)) < 1] = 0
    elif kind != "regions":
        pixels[distances.min(-1) > (36 if kind == "ribbons" else 2)] = 0
    path = save(pixels.astype(np.uint8), tmp_path_factory.mktemp("map") / "a.png")
    assert np.array_equal(read_mask(path).pixels, pixels)


def test_a_volume_that_was_resampled_linearly_is_refused_too(tmp_path):
    mask = np.repeat(smoothed(disc())[..., None], 5, axis=2)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(BlurredMaskError, match="grey levels"):
        read_mask(tmp_path / "a.nii.gz")
    assert np.array_equal(read_mask(tmp_path / "a.nii.gz", foreground=True).pixels > 0, mask > 127)


@settings(deadline=None, max_examples=25)
@given(st.integers(60, 98), st.integers(20, 44), st.integers(6, 15), st.sampled_from(["jpg", "png"]))
def test_ringing_of_a_jpeg_is_no_foreground(tmp_path_factory, quality, row, radius, name):
    """Also where the JPEG was given another ending."""
    path = tmp_path_factory.mktemp("jpeg") / f"a.{name}"
    mask = disc(row, radius=radius)
    path.write_bytes(compressed(mask, quality))
    message = r"labels 0 and 2\d\d over \d+ values; save the mask as PNG.*`foreground=True`"
    with pytest.raises(BlurredMaskError, match=message):
        read_mask(path)
    found = read_mask(path, foreground=True).pixels > 0
    assert np.count_nonzero(found != mask) <= 0.02 * mask.sum() + 2


def test_a_png_that_was_a_jpeg_once_is_refused(tmp_path):
    mask = disc()
    path = save(np.asarray(PIL.Image.open(io.BytesIO(compressed(mask, 90)))), tmp_path / "a.png")
    with pytest.raises(BlurredMaskError, match="grey levels"):
        read_mask(path)
    assert np.count_nonzero((read_mask(path, foreground=True).pixels > 0) != mask) <= 4


def test_lossy_masks_of_several_classes_have_no_half(tmp_path):
    mask = np.where(disc(radius=8), 255, np.where(disc(radius=20), 120, 0)).astype(np.uint8)
    path = save(mask, tmp_path / "a.jpg", quality=80)
    for foreground in (False, True):
        with pytest.raises(BlurredMaskError, match=r"a\.jpg is a JPEG with \d+ values .*save the mask as PNG from its"):
            read_mask(path, foreground=foreground)
    save((disc() * 3).astype(np.uint8), tmp_path / "b.jpg", quality=50)
    if len(np.unique(np.asarray(PIL.Image.open(tmp_path / "b.jpg")))) > 2:
        with pytest.raises(BlurredMaskError, match=r"b\.jpg is a JPEG with \d+ values up to"):
            read_mask(tmp_path / "b.jpg", foreground=True)


@pytest.mark.parametrize(
    "mask",
    [
        np.where(disc(radius=8), 255, np.where(disc(radius=20), 128, 0)),  # two grey-coded classes
        (ROWS // 16) * 50 + 50 * disc(),  # many grey-coded classes
        (ROWS // 8) * 8 + COLUMNS // 8 + 1,  # instances
        np.where((ROWS % 8 < 5) & (COLUMNS % 8 < 5), (ROWS // 8) * 8 + COLUMNS // 8 + 1, 0),  # instances with gaps
        np.where(disc(), 255, ROWS // 16),  # VOC's void beside class numbers
        np.where(disc(radius=12), 255, np.where(disc(radius=13), 128, 0)),  # a thin rim of a class of its own
    ],
)
def test_classes_and_instances_are_no_grey_levels(tmp_path, mask):
    path = save(mask.astype(np.uint8), tmp_path / "a.png")
    for foreground in (False, True):
        assert np.array_equal(read_mask(path, foreground=foreground).pixels, mask)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), count=st.integers(4, 60), size=st.integers(2, 9))
def test_instances_anywhere_stay_instances(tmp_path_factory, seed, count, size):
    rng = np.random.default_rng(seed)
    mask = np.zeros((64, 64), np.uint8)
    for label in range(1, count + 1):
        row, column = rng.integers(0, 64 - size, 2)
        mask[row : row + size, column : column + size] = label
    path = save(mask, tmp_path_factory.mktemp("instances") / "a.png")
    assert np.array_equal(read_mask(path, foreground=True).pixels > 0, mask > 0)


@pytest.mark.parametrize("colour", [0, 255])
def test_a_shape_in_the_alpha_channel_is_refused(tmp_path, colour):
    pixels = np.full((64, 64, 4), colour, np.uint8)
    pixels[..., 3] = disc() * 255
    path = save(pixels, tmp_path / "a.png")
    with pytest.raises(TransparentMaskError, match=r"a\.png is a mask of one colour whose shape is in its alpha"):
        read_mask(path)
    pixels[..., 3] = 255
    assert (read_mask(save(pixels, tmp_path / "b.png")).pixels == colour).all()


def dataset(root, masks, suffix="png", **how):
    for number, mask in enumerate(masks):
        save(np.zeros(mask.shape, np.uint8), root / "images" / f"c{number}.png")
        if isinstance(mask, PIL.Image.Image):
            mask.save(root / "masks" / f"c{number}.{suffix}")
        else:
            save(mask, root / "masks" / f"c{number}.{suffix}", **how)
    return open_dataset(root)


def test_the_check_names_blurred_masks_once(tmp_path):
    masks = [(disc(column=20 + n) * 255).astype(np.uint8) for n in range(6)]
    (problem,) = (p for p in check_dataset(dataset(tmp_path, masks, "jpg")).problems if "JPEG" in p.message)
    assert (problem.severity, problem.file) == ("error", str(tmp_path / "masks" / "c0.jpg"))
    assert problem.message.endswith("(5 more such masks: c1.jpg, c2.jpg, c3.jpg and 2 more)")
    report = check_dataset(open_dataset(tmp_path, foreground=True))
    assert not report.errors
    assert report.labels[1].voxels == pytest.approx(sum(np.count_nonzero(mask) for mask in masks), rel=0.01)


def test_masks_that_teach_nothing_are_named(tmp_path):
    blank, full, real = np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8), disc().astype(np.uint8) * 255
    (problem,) = check_dataset(dataset(tmp_path / "empty", [blank, blank])).problems
    assert (problem.severity, problem.message[:20]) == ("error", "every mask is empty:")
    (problem,) = check_dataset(dataset(tmp_path / "full", [full, full])).problems
    assert problem.message.startswith("no mask has a pixel of background")
    report = check_dataset(dataset(tmp_path / "mixed", [blank, full, real, blank]))
    assert report.problems == ()
    assert report.notes == ("2 of 4 masks are empty: c0, c3", "1 of 4 masks are foreground everywhere: c1")
