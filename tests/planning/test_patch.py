import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.planning.fingerprint import Fingerprint
from deconvseg.planning.patch import PATCH_VOXELS, choose_slices, plan_grid, target_spacing


def fingerprint(shape: tuple[int, ...], *spacings: tuple[float, ...]) -> Fingerprint:
    return Fingerprint(
        spatial_dims=len(shape), shapes=(shape,) * len(spacings), spacings=spacings, classes=(), channels=()
    )


def test_the_spacing_is_the_median() -> None:
    spacing, reason = target_spacing(fingerprint((90, 90, 90), (1, 1, 1), (1, 1, 2), (0.8, 1, 2.5)))
    assert spacing == (1, 1, 2)
    assert reason == "median of the training cases"


def test_coarse_slices_get_their_tenth_percentile_but_are_never_finer_than_the_plane() -> None:
    steps = [4.0, 4.5, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 6.0]
    spacing, reason = target_spacing(fingerprint((256, 256, 30), *((0.8, 0.8, step) for step in steps)))
    assert spacing == (0.8, 0.8, 4.5)
    assert "10th percentile" in reason
    fine = [0.2, 0.2, 0.2, *steps]
    assert target_spacing(fingerprint((256, 256, 30), *((0.8, 0.8, s) for s in fine)))[0] == (0.8, 0.8, 0.8)
    # As many slices as rows are no sign of a stack.
    many, _ = target_spacing(fingerprint((256, 256, 200), *((0.8, 0.8, step) for step in steps)))
    assert many == (0.8, 0.8, 5.0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 600), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.3, 0.5, 1.0, 1.5, 2.0, 4.0, 7.0]), min_size=3, max_size=3),
    st.sampled_from(["cpu", "gpu"]),
    st.booleans(),
)
def test_patches_and_stages_keep_their_rules(shape: list[int], spacing: list[float], kind: str, sliced: bool) -> None:
    grid, _ = plan_grid(shape, spacing, kind, 2 if sliced else None)
    limit = PATCH_VOXELS[kind, grid.seen_dims]
    total = [math.prod(axis) for axis in zip(*grid.strides, strict=True)]
    patch = grid.patch(total)
    assert all(size % step == 0 for size, step in zip(patch, total, strict=True))
    assert all(wanted <= length for wanted, length in zip(grid.sizes, shape, strict=True))
    assert math.prod(grid.sizes) <= 1.01 * limit or min(grid.sizes) == 1
    assert grid.strides[0] == (1, 1, 1)
    # The deepest stage still sees a neighbourhood along every axis that was halved.
    assert all(wanted / step >= 4 for wanted, step in zip(grid.sizes, total, strict=True) if step > 1)
    current, reached = list(spacing), [False] * 3
    for strides, reaches in zip(grid.strides, grid.reaches, strict=True):
        halved = [axis for axis in range(3) if strides[axis] == 2]
        assert all(current[a] <= 2 * current[b] for a in halved for b in halved)
        current = [step * stride for step, stride in zip(current, strides, strict=True)]
        # Whatever is finest can be seen, and what was seen once stays in view.
        seen = range(2 if sliced else 3)
        assert reaches[min(seen, key=lambda axis: current[axis])]
        assert all(now or not before for now, before in zip(reaches, reached, strict=True))
        reached = list(reaches)
    if sliced:
        assert patch[2] == 1
        assert not any(reaches[2] for reaches in grid.reaches)


def test_flat_kernels_last_until_the_spacings_are_close() -> None:
    grid, _ = plan_grid((256, 256, 40), (1.0, 1.0, 4.0), "gpu", None)
    assert grid.strides[:4] == ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert grid.reaches[:3] == ((True, True, False), (True, True, True), (True, True, True))
    alike, _ = plan_grid((128, 128, 128), (1.0, 1.0, 1.0), "gpu", None)
    assert not alike.anisotropic
    assert set(alike.strides[1:]) == {(2, 2, 2)}


def test_patches_are_as_long_in_millimetres_along_every_axis_that_is_cut() -> None:
    grid, reason = plan_grid((512, 512, 100), (0.5, 0.5, 5.0), "cpu", None)
    lengths = [size * step for size, step in zip(grid.sizes, (0.5, 0.5, 5.0), strict=True)]
    assert lengths == pytest.approx([lengths[0]] * 3)
    assert not grid.whole
    assert "cut to one length" in reason


def test_a_patch_that_holds_the_volume_is_rounded_up_and_another_to_the_nearest() -> None:
    whole, _ = plan_grid((35, 50, 35), (1.0, 1.0, 1.0), "cpu", None)
    assert whole.patch((8, 8, 8)) == (40, 56, 40)
    part, _ = plan_grid((999, 960), (1.0, 1.0), "cpu", None)
    assert part.patch((16, 16)) == (256, 256)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis", "text"),
    [
        ((200, 200, 100), (1.0, 1.0, 1.0), None, "3D"),
        ((200, 200, 20), (1.0, 1.0, 5.0), None, "3D"),
        ((256, 256, 12), (0.4, 0.4, 10.0), 2, "25 times the spacing in them"),
        ((3, 256, 256), (2.0, 1.0, 1.0), 0, "3 of them in a volume"),
        ((512, 512, 1), (1.2, 1.2, 1.0), 2, "1 of them in a volume"),
        ((256, 256), (1.0, 1.0), None, "the images are 2D"),
    ],
)
def test_slices_are_taken_where_no_stage_would_look_across_them(
    shape: tuple[int, ...], spacing: tuple[float, ...], axis: int | None, text: str
) -> None:
    found, reason = choose_slices(fingerprint(shape, spacing), spacing, None, "cpu")
    assert found == axis
    assert text in reason
