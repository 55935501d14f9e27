"""What a case takes in memory, and what is done where that is not there."""

import logging
import weakref
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deconvseg.data import Geometry, Image
from deconvseg.errors import InputError
from deconvseg.inference import Postprocessing, Predictor, Step, slabs
from deconvseg.inference.members import WindowMemoryError
from deconvseg.inference.memory import sums_budget
from deconvseg.models import Network, create_model
from plans import plan_of


def image_of(*shape: int, affine: np.ndarray | None = None) -> Image:
    geometry = Geometry.identity(len(shape)) if affine is None else Geometry(affine)
    return Image(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32), geometry)


def unet(dims: int, widths: Sequence[int]) -> Network:
    torch.manual_seed(0)
    return create_model("unet", in_channels=1, out_channels=2, spatial_dims=dims, widths=list(widths)).eval()


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[object]]:
    """The sums of logits that were made, each after those before it, and their slabs, were gone."""
    made: list[weakref.ref[object]] = []

    class Watched(slabs._Ring):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            assert [reference() for reference in made] == [None] * len(made)
            super().__init__(*arguments, **named)
            made.append(weakref.ref(self))

    resampled = slabs.Planes.resampled

    def watched(planes: slabs.Planes) -> Tensor:
        slab = resampled(planes)
        made.append(weakref.ref(slab))
        return slab

    monkeypatch.setattr(slabs, "_Ring", Watched)
    monkeypatch.setattr(slabs.Planes, "resampled", watched)
    return made


@pytest.mark.parametrize("spacing", [1.0, 0.7])
def test_the_sums_of_a_block_are_gone_before_those_of_the_next_are_made(
    sums: list[weakref.ref[object]], spacing: float
) -> None:
    predictor = Predictor([(nn.Conv3d(1, 3, 1), plan_of(3, 3, (8, 8, 8), [spacing] * 3))])
    with patch("deconvseg.inference.sweep.sums_budget", lambda *_: 1):
        prepared = predictor.prepare(image_of(20, 18, 16))
        blocks = predictor.estimate(prepared).blocks
        predictor.segment(prepared)
    assert blocks > 1
    assert len(sums) >= 2 * blocks


@pytest.mark.faults
def test_the_sums_of_an_attempt_are_gone_before_the_next_one(
    sums: list[weakref.ref[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, sizes = unet(2, [4, 8, 8]), []
    forward = network.forward

    def hungry(x: Tensor) -> Tensor:
        if not x.is_meta:
            sizes.append(tuple(x.shape[2:]))
            if len(sizes) > 3 and x.numel() > 400:
                raise torch.OutOfMemoryError("full")
        return forward(x)

    monkeypatch.setattr(network, "forward", hungry)
    image = image_of(70, 60)
    mask = Predictor([(network, plan_of(2, 2, (32, 32), (1, 1)))]).segment(image)
    assert sizes.count((16, 16)) > 3
    assert len(sums) > 2
    monkeypatch.setattr(network, "forward", forward)
    assert np.array_equal(mask.pixels, Predictor([(network, plan_of(2, 2, (16, 16), (1, 1)))]).segment(image).pixels)


@pytest.mark.faults
def test_sums_leave_an_accelerator_before_windows_get_smaller(caplog: pytest.LogCaptureFixture) -> None:
    predictor = Predictor([(unet(2, [4, 8]), plan_of(2, 2, (32, 32), (1, 1)))])
    (member,), sweep = predictor._members, predictor._sweep
    for error in (WindowMemoryError(member), torch.OutOfMemoryError("full")):
        sweep.store = torch.device("cuda")
        sweep._make_room(error)
        assert sweep.store == torch.device("cpu")
        assert member.window == (32, 32)
    assert caplog.text.count("continuing with the sums of logits on the host") == 2
    sweep._make_room(WindowMemoryError(member))
    assert member.window == (16, 32)
    with pytest.raises(torch.OutOfMemoryError):
        sweep._make_room(torch.OutOfMemoryError("full"))


def test_windows_are_smaller_only_for_images_that_do_not_fit_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    network, plan = unet(3, [12, 24]), plan_of(3, 2, (32, 32, 32), (1, 1, 1))
    large, small = image_of(64, 48, 48), image_of(33, 20, 18)
    free = Predictor([(network, plan)])
    enough = free.estimate(free.prepare(small)).bytes
    limited = Predictor([(network, plan)], memory=enough)
    foreseen = limited.estimate(limited.prepare(large))
    assert foreseen.bytes <= enough < free.estimate(free.prepare(large)).bytes
    assert foreseen.windows > free.estimate(free.prepare(large)).windows
    with caplog.at_level(logging.WARNING):
        assert limited.segment(large).shape == large.shape
    assert "windows of (16, 32, 32) instead of the trained (32, 32, 32), for lack of memory" in caplog.text
    assert "the mask may be worse" in caplog.text
    # Whatever came before it.
    assert np.array_equal(limited.segment(small).pixels, free.segment(small).pixels)
    # Enough for the image on both grids, and no more.
    coarse = Image(np.ones((1, 17, 10, 9), np.float32), Geometry(np.diag([2.0, 2.0, 2.0, 1.0])))
    tight = Predictor([(network, plan)], memory=9 * coarse.pixels.nbytes)
    with pytest.raises(
        InputError,
        match="needs about .* the smallest windows that give usable masks .* allow that much, or predict parts",
    ):
        tight.segment(coarse, "a.nii")


@pytest.mark.parametrize(("trained", "least"), [((32, 32), (16, 16)), ((24, 20), (12, 12)), ((4, 40), (4, 20))])
def test_windows_are_at_least_half_as_long_as_the_trained_ones(
    trained: tuple[int, int], least: tuple[int, int]
) -> None:
    network = unet(2, [4, 8, 8])
    predictor = Predictor([(network, plan_of(2, 2, trained, (1, 1)))])
    (member,) = predictor._members
    while member.shrink():
        assert all(2 * side >= full for side, full in zip(member.window, trained, strict=True))
    assert member.window == least


def test_mirrorings_and_post_processing_are_foreseen() -> None:
    plan = plan_of(3, 3, (16, 16, 16), (1, 1, 1))
    network = nn.Conv3d(1, 3, 3, padding=1)
    small, large = image_of(6, 5, 4), image_of(60, 50, 40)

    def foreseen(image: Image, **options: object) -> int:
        predictor = Predictor([(network, plan)], **options)
        return predictor.estimate(predictor.prepare(image)).bytes

    assert foreseen(small, tta=True) == foreseen(small) + 3 * 4 * 3 * 16**3
    step = Step(step="keep_largest", structure="1", labels=(1,), written_as=1)
    postprocessed = foreseen(large, postprocessing=Postprocessing(steps=(step,)))
    assert postprocessed >= (4 + 1 + 3 + 14) * 60 * 50 * 40


def test_reading_holds_the_image_in_its_own_and_in_canonical_order_beside_the_network_s_grid() -> None:
    plan = plan_of(3, 2, (8, 8, 8), (0.5, 0.5, 0.5))
    same = Predictor([(nn.Conv3d(1, 2, 1), plan_of(3, 2, (8, 8, 8), (1, 1, 1)))])
    finer = Predictor([(nn.Conv3d(1, 2, 1), plan)])
    voxels = 4 * 10 * 8 * 6
    turned = np.diag([-1.0, 1.0, 1.0, 1.0])
    assert same.prepare(image_of(10, 8, 6)).reading_bytes == 2 * voxels
    assert same.prepare(image_of(10, 8, 6, affine=turned)).reading_bytes == 2 * voxels
    assert finer.prepare(image_of(10, 8, 6)).reading_bytes == (1 + 8) * voxels
    assert finer.prepare(image_of(10, 8, 6, affine=turned)).reading_bytes == (1 + 1 + 8) * voxels


def test_sums_keep_to_what_the_process_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deconvseg.inference.memory.available_memory", lambda: 2 * 10**9)
    assert sums_budget(None, 0) == 5 * 10**8
    assert sums_budget(8 * 10**8, 10**8) == 7 * 10**8
