import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

import deconvseg
from deconvseg.data import Geometry, Image, preprocess_image, read_image
from deconvseg.errors import InputError
from deconvseg.inference import (
    Member,
    Predictor,
    Slab,
    Sweep,
    TorchEngine,
    Volume,
    labels_from_maps,
    predict_windows,
)
from deconvseg.inference.grids import GridAxis
from deconvseg.inference.layout import choose_layout
from deconvseg.inference.slabs import Pass
from deconvseg.inference.tiling import window_starts
from deconvseg.planning import Plan
from plans import plan_of


def random_network(dims: int, classes: int) -> nn.Module:
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    torch.manual_seed(classes)
    return nn.Sequential(conv(1, 4, 3, padding=1), nn.LeakyReLU(), conv(4, classes, 3, padding=1)).eval()


class Threshold(nn.Module):
    """Class 1 where the intensity is above a half; tells how many windows it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.windows += len(x)
        return torch.cat([0.5 - x, x - 0.5], dim=1)


def network_logits(network: nn.Module, image: Tensor, window: Sequence[int], overlap: float) -> Tensor:
    """Logits (K, *S) of the whole volume on the network's own grid."""
    axes = [GridAxis.make(size, side, overlap) for size, side in zip(image.shape[1:], window, strict=True)]
    cpu = torch.device("cpu")
    member = Member(TorchEngine(network, channels=len(image), device=cpu), window, overlap=overlap)
    rows, *columns = (range(axis.size) for axis in axes)
    with torch.inference_mode():
        return next(Pass(member, image, axes, store=cpu).slabs([rows], columns)).resampled()


@given(size=st.integers(1, 200), window=st.integers(1, 64), overlap=st.floats(0, 0.95))
@settings(deadline=None, max_examples=200)
def test_windows_cover_an_axis_and_share_at_least_the_overlap(size: int, window: int, overlap: float) -> None:
    starts = window_starts(size, window, overlap)
    assert starts[0] <= 0
    assert starts[-1] + window >= size
    if size > window:
        assert (starts[0], starts[-1]) == (0, size - window)
        steps = np.diff(starts)
        assert (steps >= 1).all()
        assert (steps <= max(1, window * (1 - overlap) + 1e-6)).all()


@pytest.mark.parametrize(
    ("shape", "window", "overlap"),
    [((40, 32, 24), (16, 16, 16), 0.5), ((10, 32, 5), (16, 16, 8), 0.5), ((37, 41), (30, 30), 0.25)],
)
def test_windows_average_as_monais_do(shape: tuple[int, ...], window: tuple[int, ...], overlap: float) -> None:
    network = random_network(len(shape), 4)
    image = torch.randn(1, 1, *shape)
    with torch.inference_mode():
        theirs = sliding_window_inference(image, window, 1, network, overlap=overlap, mode="gaussian")
    ours = predict_windows(network, image, window, overlap=overlap)
    assert torch.allclose(ours, theirs.softmax(1), atol=1e-6)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[Image, Plan, int]:
    """An image anywhere, a plan for it, and how many bytes the sums of logits may take."""
    dims = draw(st.sampled_from([2, 3, 3]))
    shape = draw(st.lists(st.integers(1, 24), min_size=dims, max_size=dims))
    steps = draw(st.lists(st.sampled_from([0.7, 1.0, 1.6, 3.0]), min_size=dims, max_size=dims))
    affine = np.diag([*steps, 1.0])
    if dims == 3:
        affine = affine[[*draw(st.permutations(range(3))), 3]] * [*draw(st.tuples(*[st.sampled_from([1, -1])] * 3)), 1]
    window = draw(st.lists(st.sampled_from([4, 7, 8]), min_size=dims, max_size=dims))
    plan = plan_of(
        dims, draw(st.integers(2, 5)), window, [1.0] * dims, draw(st.booleans()), draw(st.sampled_from([0.0, 0.3, 0.5]))
    )
    pixels = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(1, *shape)).astype(np.float32)
    return Image(pixels, Geometry(affine)), plan, draw(st.sampled_from([1, 20_000, 10**9]))


@given(volumes())
@settings(deadline=None, max_examples=40)
def test_slabs_give_the_mask_of_the_whole_volume_of_logits(problem: tuple[Image, Plan, int]) -> None:
    image, plan, budget = problem
    network = random_network(plan.spatial_dims, plan.outputs)
    predictor = Predictor([(network, plan)], crop=False)
    with patch("deconvseg.inference.sweep.sums_budget", lambda *_: budget):
        mask = predictor.segment(image)
    prepared = torch.from_numpy(preprocess_image(image, plan.spacing, plan.normalisations).pixels)
    order = image.geometry.axis_order()
    logits = network_logits(network, prepared, plan.patch_size, plan.recipe.overlap)
    mode = {2: "bilinear", 3: "trilinear"}[plan.spatial_dims]
    shape = [image.shape[axis] for axis in order.permutation]
    whole = nn.functional.interpolate(logits[None], size=shape, mode=mode)[0]
    plain = order.undo(labels_from_maps(whole, plan, threshold=0.0))
    margins = whole.abs().amin(0) if plan.regions else whole.topk(2, dim=0).values.diff(dim=0)[0].abs()
    clear = order.undo((margins > 1e-4).numpy())
    assert mask.shape == image.shape
    assert np.array_equal(mask.pixels[clear], plain[clear])


@st.composite
def sweeps(draw: st.DrawFn) -> tuple[Volume, list[Member], int]:
    """A part of a volume, one or two networks that see it on grids of their own, and how many maps they give."""
    dims, outputs = draw(st.sampled_from([2, 3])), draw(st.integers(1, 3))
    shape = draw(st.lists(st.integers(1, 20), min_size=dims, max_size=dims))
    box = []
    for side in shape:
        first = draw(st.integers(0, side - 1))
        box.append(range(first, draw(st.integers(first + 1, side))))
    pixels, members = [], []
    for seed in range(draw(st.integers(1, 2))):
        size = draw(st.lists(st.integers(1, 20), min_size=dims, max_size=dims))
        pixels.append(torch.randn(1, *size, generator=torch.Generator().manual_seed(seed)))
        window = draw(st.lists(st.sampled_from([3, 4, 8]), min_size=dims, max_size=dims))
        engine = TorchEngine(random_network(dims, outputs), channels=1, device=torch.device("cpu"))
        members.append(Member(engine, window, overlap=draw(st.sampled_from([0.0, 0.3, 0.75]))))
    return Volume(pixels, tuple(shape), tuple(box)), members, outputs


@given(sweeps(), st.sampled_from([1, 4_000, 30_000]))
@settings(deadline=None, max_examples=40)
def test_slabs_and_blocks_do_not_change_the_logits(problem: tuple[Volume, list[Member], int], budget: int) -> None:
    volume, members, outputs = problem
    whole = [np.full((outputs, *volume.shape), np.nan, np.float32) for _ in members]
    painted = np.zeros(volume.shape, np.int64)

    def keep(slab: Slab) -> int:
        for maps, logits in zip(whole, slab.logits, strict=True):
            slab.part_of(maps)[...] = logits.numpy()
        slab.part_of(painted)[...] += 1
        return slab.logits[0][0].numel()

    with patch("deconvseg.inference.sweep.sums_budget", lambda *_: budget):
        sizes = Sweep(members, outputs).map(volume, keep)
    wanted = tuple(slice(part.start, part.stop) for part in volume.box)
    assert (painted[wanted] == 1).all()
    assert painted.sum() == sum(sizes) == painted[wanted].size
    for member, pixels, maps in zip(members, volume.pixels, whole, strict=True):
        sides = zip(pixels.shape[1:], member.window, volume.shape, volume.box, strict=True)
        grid = [GridAxis.make(n, side, member.overlap, outputs=k, wanted=part) for n, side, k, part in sides]
        # All of it by one pass along the first axis, in one slab.
        with torch.inference_mode():
            plain = Pass(member, pixels, grid, store=torch.device("cpu")).slabs(volume.box[:1], volume.box[1:])
            assert np.allclose(maps[(slice(None), *wanted)], next(plain).resampled().numpy(), atol=1e-5)


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    permutation=st.permutations(range(3)),
    flips=st.tuples(*[st.sampled_from([1.0, -1.0])] * 3),
    angle=st.floats(-0.3, 0.3),
    crop=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_masks_lie_where_their_voxels_are_whatever_the_orientation(
    shape: tuple[int, ...], permutation: Sequence[int], flips: Sequence[float], angle: float, crop: bool
) -> None:
    spacing = np.array([0.8, 1.0, 2.5])
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (turn * spacing)[:, permutation] * flips
    affine[:3, 3] = 3, -7, 11
    truth = np.random.default_rng(0).random(shape) < 0.4
    canonical = Geometry(affine).axis_order().apply_geometry(Geometry(affine), shape).spacing
    plan = plan_of(3, 2, (4, 4, 4), canonical)
    mask = Predictor([(Threshold(), plan)], crop=crop).segment(Image(truth[None].astype(np.float32), Geometry(affine)))
    assert np.array_equal(mask.pixels, truth)
    assert np.array_equal(mask.geometry.affine, affine)


@pytest.mark.parametrize("shape", [(30, 20, 1), (1, 1, 1), (2, 40, 3)])
def test_thin_volumes_are_resampled_and_come_back(shape: tuple[int, ...]) -> None:
    plan = plan_of(3, 3, (8, 8, 8), (1.7, 0.6, 0.9))
    image = Image(np.ones((1, *shape), np.float32), Geometry(np.diag([1.0, 1.0, 5.0, 1.0])))
    assert Predictor([(random_network(3, 3), plan)]).segment(image).shape == shape


def test_windows_whose_voxels_are_alike_are_computed_once_and_change_nothing() -> None:
    pixels = np.zeros((1, 40, 40, 40), np.float32)
    pixels[0, 15:22, 16:20, 12:30] = np.random.default_rng(0).random((7, 4, 18))
    predictor = Predictor([(Threshold(), plan_of(3, 2, (8, 8, 8), (1, 1, 1)))], crop=False)
    mask = predictor.segment(Image(pixels, Geometry.identity(3)))
    assert np.array_equal(mask.pixels, pixels[0] > 0.5)
    assert 0 < predictor.networks[0].windows < 9**3 / 4


def test_computing_like_windows_once_changes_no_voxel_of_a_real_image(real_data: Path) -> None:
    image = read_image(real_data / "isles22_case0009" / "sub-strokecase0009_ses-0001_dwi.nii.gz")
    plan = plan_of(3, 4, (16, 16, 16), (3.0, 3.0, 3.0))
    masks, windows = [], []
    for remember in (True, False):
        network, seen = random_network(3, 4), [0]
        network.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.__setitem__(0, seen[0] + 1))
        with patch.object(Member, "_remember", Member._remember if remember else lambda *_: None):
            masks.append(Predictor([(network, plan)], crop=False).segment(image).pixels)
        windows.append(seen[0])
    assert np.array_equal(*masks)
    assert windows[0] < windows[1]


def test_cropping_leaves_background_around_the_nonzero_box_and_saves_windows() -> None:
    pixels = np.zeros((1, 30, 30), np.float32)
    pixels[0, 10:18, 4:25] = 1 + np.random.default_rng(0).random((8, 21))
    whole = plan_of(2, 2, (8, 8), (1, 1))
    plan = whole.with_values({"crop_to_nonzero": True})
    always_foreground = nn.Conv2d(1, 2, 1)
    nn.init.zeros_(always_foreground.weight)
    always_foreground.bias.data = torch.tensor([0.0, 1.0])
    image = Image(pixels, Geometry.identity(2))
    assert np.array_equal(Predictor([(always_foreground, plan)]).segment(image).pixels, pixels[0] > 0)
    assert Predictor([(always_foreground, plan)], crop=False).segment(image).pixels.all()
    # One plan that does not allow it is enough to have the whole image predicted.
    assert Predictor([(always_foreground, plan), (always_foreground, whole)]).segment(image).pixels.all()
    nothing = Image(np.zeros_like(pixels), image.geometry)
    assert not Predictor([(always_foreground, plan)]).segment(nothing).pixels.any()
    maps = Predictor([(always_foreground, plan)]).probabilities(nothing)
    assert (maps[0] == 1).all()
    assert (maps[1] == 0).all()


def test_a_layout_keeps_to_its_budget_or_takes_the_least() -> None:
    wanted = [range(200), range(180), range(120)]
    grid = [GridAxis.make(len(axis), 32, 0.5) for axis in wanted]
    free, tight, none = (choose_layout([grid], wanted, 20, budget) for budget in (10**10, 150 * 10**6, 1))
    assert len(free.blocks) == 1
    assert tight.bytes <= 150 * 10**6 < free.bytes
    assert none.bytes <= tight.bytes
    assert free.windows == 12 * 11 * 7 < tight.windows
    for layout in (free, tight, none):
        voxels = sum(len(a) * len(b) for a, b in layout.blocks) * sum(map(len, layout.chunks))
        assert voxels == 200 * 180 * 120


def test_floors_above_import_the_face_of_inference_and_one_file_loops_over_volumes() -> None:
    package = Path(deconvseg.__file__).parent
    behind, loops = [], []
    for file in package.rglob("*.py"):
        text, name = file.read_text(encoding="utf-8"), file.relative_to(package).as_posix()
        if not name.startswith("inference/") and re.search(r"deconvseg\.inference\.\w+ import", text):
            behind.append(name)
        if re.search(r"\.slabs\(|except .*WindowMemoryError", text):
            loops.append(name)
    assert behind == []
    assert loops == ["inference/sweep.py"]


@pytest.mark.parametrize("overlap", [-0.5, 1.0])
def test_windows_that_leave_gaps_or_do_not_move_are_refused(overlap: float) -> None:
    network = random_network(2, 2)
    with pytest.raises(InputError, match=f"overlap {overlap}: give a fraction"):
        Predictor([(network, plan_of(2, 2, (8, 8), (1, 1)))], overlap=overlap)
    with pytest.raises(InputError, match=f"overlap {overlap}: give a fraction"):
        predict_windows(network, torch.zeros(1, 1, 20, 20), (8, 8), overlap=overlap)


def test_too_little_memory_is_refused_before_anything_is_computed() -> None:
    predictor = Predictor([(random_network(3, 4), plan_of(3, 4, (16, 16, 16), (1, 1, 1)))], memory=1000)
    with pytest.raises(InputError, match=r"scan.nii.gz: takes .* on the network's grid \(200 x 200 x 90 voxels\)"):
        predictor.segment(Image(np.ones((1, 200, 200, 90), np.float32), Geometry.identity(3)), "scan.nii.gz")


def test_the_estimate_counts_the_windows_that_are_computed() -> None:
    predictor = Predictor([(Threshold(), plan_of(3, 2, (8, 8, 8), (1, 1, 1)))])
    prepared = predictor.prepare(
        Image(np.random.default_rng(0).random((1, 20, 9, 30), np.float32), Geometry.identity(3))
    )
    told: list[float] = []
    predictor.segment(prepared, tell=lambda done, text=None: told.append(done))
    assert predictor.networks[0].windows == predictor.estimate(prepared).windows == len(told)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux's /proc")
def test_the_volume_of_all_classes_is_never_in_memory(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, numpy as np, torch
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from plans import plan_of
        from deconvseg.data import Geometry, Image
        from deconvseg.inference import Predictor, layout

        def status(field):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024

        layout._SLAB_BYTES = 4 * 10**6  # what is small beside a large volume is not small beside this one
        predictor = Predictor([(torch.nn.Conv3d(1, 64, 1), plan_of(3, 64, (16,) * 3, (1, 1, 1), overlap=0.0))])
        predictor.segment(Image(np.ones((1, 20, 20, 20), np.float32), Geometry.identity(3)))
        image = Image(np.random.default_rng(0).random((1, 128, 96, 96), np.float32), Geometry.identity(3))
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        predictor.segment(image)
        print(status("VmHWM") - before, 4 * 64 * image.pixels.size)
        """
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, whole = map(int, done.stdout.split())
    assert peak < whole / 2
