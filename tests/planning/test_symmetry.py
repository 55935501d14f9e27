from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deconvseg.data import open_dataset
from deconvseg.planning import RECIPES, take_fingerprint
from deconvseg.planning.choices import plan_mirroring
from deconvseg.planning.symmetry import asymmetry, occupancy

Case = dict[int, NDArray[np.float32]]


def blob(rng: np.random.Generator, centre: tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Where a cube about a relative centre lies, in a case of that shape."""
    middle = np.array(centre) * shape - 0.5 + rng.normal(0, 1, len(shape))
    distances = np.abs(np.moveaxis(np.indices(shape), 0, -1) - middle) / shape
    return occupancy((distances < 1 / 8).all(axis=-1), [0] * len(shape), shape, rng)


@given(st.lists(st.integers(1, 20), min_size=2, max_size=3), st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_the_cells_of_a_class_add_up_to_one_and_mirror_with_it(shape: list[int], seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.5
    mask.flat[0] = True
    cells = occupancy(mask, [0] * mask.ndim, shape, np.random.default_rng(0))
    assert cells.shape == (8,) * mask.ndim
    assert cells.sum() == pytest.approx(1)
    assert np.array_equal(cells > 0, occupancy(mask, [0] * mask.ndim, shape, np.random.default_rng(1)) > 0)


@given(st.lists(st.sampled_from([8, 16, 24]), min_size=2, max_size=3), st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_a_mirrored_class_lies_in_the_mirrored_cells(shape: list[int], seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.05
    mask.flat[0] = True
    cells = occupancy(mask, [0] * mask.ndim, shape, np.random.default_rng(0))
    mirrored = occupancy(mask[::-1], [0] * mask.ndim, shape, np.random.default_rng(0))
    assert np.allclose(np.flip(mirrored, 0), cells)


def test_a_part_of_a_case_lies_where_it_starts() -> None:
    shape, rng = (16, 24), np.random.default_rng(0)
    mask = np.zeros(shape, bool)
    mask[9:12, 3:9] = True
    whole = occupancy(mask, (0, 0), shape, rng)
    assert np.array_equal(occupancy(mask[9:12, 3:9], (9, 3), shape, rng), whole)


def test_an_axis_along_which_classes_keep_their_order_is_told_from_one_that_looks_alike_in_a_mirror() -> None:
    rng = np.random.default_rng(0)
    cases: list[Case] = []
    for number in range(40):
        side = 0.2 if number % 2 else 0.8
        cases.append({1: blob(rng, (side, 0.2, 0.5), (20, 30, 10)), 2: blob(rng, (side, 0.7, 0.5), (20, 30, 10))})
    first, second, third = asymmetry(cases)
    assert second == 1
    assert 0.3 < first < 0.7
    assert 0.3 < third < 0.7


def test_a_case_is_never_compared_with_itself() -> None:
    rng = np.random.default_rng(0)
    alone = {5: blob(rng, (0.1, 0.1), (16, 16))}
    assert asymmetry([alone]) == ()
    assert asymmetry([alone, {6: blob(rng, (0.9, 0.9), (16, 16))}]) == ()


def test_cases_that_are_their_own_mirror_images_count_as_a_half() -> None:
    even = np.full((8, 8), 1 / 64, np.float32)
    assert asymmetry([{1: even}, {1: even}]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("cases", "shares", "axes"),
    [(40, (0.5, 0.97, 0.89), (0, 2)), (40, (1.0, 1.0, 1.0), ()), (9, (1.0, 1.0, 1.0), None), (40, (), None)],
)
def test_axes_are_mirrored_where_the_dataset_looks_alike(
    balls: Path, cases: int, shares: tuple[float, ...], axes: tuple[int, ...] | None
) -> None:
    found = take_fingerprint(open_dataset(balls), workers=0)
    several = {"shapes": found.shapes[:1] * cases, "spacings": found.spacings[:1] * cases, "asymmetry": shares}
    fingerprint = found.model_copy(update=several)
    recipe, reason = plan_mirroring(RECIPES["default"], fingerprint)
    assert recipe.augmentation.flip_axes == axes
    assert recipe.augmentation.mirrored(3) == ((0, 1, 2) if axes is None else axes)
    assert reason
    assert plan_mirroring(RECIPES["paper"], fingerprint)[0] == RECIPES["paper"]


def test_hippocampi_are_not_mirrored_and_nuclei_are(real_data: Path) -> None:
    hippocampus = open_dataset(real_data / "hippocampus")
    assert min(take_fingerprint(hippocampus.select(hippocampus.labelled_names[:20])).asymmetry) > 0.9
    nuclei = open_dataset(real_data / "dsb2018", foreground=True)
    assert max(take_fingerprint(nuclei.select(nuclei.labelled_names[:40])).asymmetry) < 0.9
