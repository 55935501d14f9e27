"""Prediction and validation by engines other than PyTorch's, which the sweep knows by the protocol alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import deconvseg
from deconvseg.data import Case, Geometry, Image
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import (
    Engine,
    Member,
    Predictor,
    Slab,
    Sweep,
    Volume,
    predict_cases,
    predict_windows,
    sweep,
)
from deconvseg.models import create_model
from deconvseg.training.validation import dice_of_case
from plans import plan_of, tiny_plan


class OnnxEngine(Engine):
    """ONNX Runtime on the CPU, for the batch and the size that the program was exported for."""

    def __init__(self, file: Path) -> None:
        self.program = file.read_bytes()
        self.session = onnxruntime.InferenceSession(self.program, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.batch_size, self.fixed_batch = self.input.shape[0], True
        self.fixed_size = tuple(self.input.shape[2:])

    def logits(self, batch: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {self.input.name: batch.numpy()})[0])

    def fingerprint(self) -> Iterator[bytes]:
        yield self.program


class ThresholdEngine(Engine):
    """NumPy: class 1 where the intensity is above a half. More voxels at a time than ``limit`` are refused."""

    def __init__(self, dims: int = 3, *, batch_size: int = 1, limit: float = float("inf"), half: float = 0.5) -> None:
        self.size_multiple = (1,) * dims
        self.batch_size = batch_size
        self.limit = limit
        self.half = half
        self.seen: list[tuple[int, ...]] = []

    def logits(self, batch: Tensor) -> Tensor:
        if batch[:, 0].numel() > self.limit:
            raise MemoryError(f"{batch[:, 0].numel()} voxels do not fit")
        self.seen.append(tuple(batch.shape))
        pixels = batch.numpy()
        return torch.from_numpy(np.concatenate([self.half - pixels, pixels - self.half], axis=1))

    def fingerprint(self) -> Iterator[bytes]:
        yield str(self.half).encode()


def convolutions(classes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.LeakyReLU(0.01), nn.Conv3d(4, classes, 3, padding=1)).eval()


def write_onnx(network: nn.Sequential, file: Path, batch: int, size: Sequence[int]) -> Path:
    """Write the network of :func:`convolutions` as ONNX."""
    weights = [
        numpy_helper.from_array(value.detach().numpy(), name)
        for name, value in zip(("w0", "b0", "w1", "b1"), network.parameters(), strict=True)
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["a"], pads=[1] * 6),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.01),
        helper.make_node("Conv", ["b", "w1", "b1"], ["logits"], pads=[1] * 6),
    ]
    shapes = (("image", 1), ("logits", len(network[2].weight)))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, c, *size]) for name, c in shapes]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, shape in (("a", (20, 17, 12)), ("b", (9, 22, 15))):
        pixels = np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
        nib.save(nib.Nifti1Image(pixels, np.diag([-1.0, 1.0, 1.3, 1.0])), folder / f"{name}.nii.gz")
    return folder


def clear_voxels(maps: np.ndarray) -> np.ndarray:
    """Where the probabilities (K, *S) of the best two classes differ by more than rounding."""
    best = np.sort(maps, axis=0)
    clear: np.ndarray = best[-1] - best[-2] > 1e-4
    return clear


@pytest.mark.parametrize("tta", [False, True])
def test_onnx_runtime_predicts_files_as_pytorch_does(scans: Path, tmp_path: Path, tta: bool) -> None:
    network, plan = convolutions(3), plan_of(3, 3, (8, 12, 8), (1.0, 1.0, 1.0))
    plan = plan.with_values({"recipe.augmentation.flip_axes": [0, 2]})
    engine = OnnxEngine(write_onnx(network, tmp_path / "network.onnx", 3, (8, 12, 8)))
    masks = {}
    for name, model in (("torch", network), ("onnx", engine)):
        done = deconvseg.predict(scans, [(model, plan)], tmp_path / name, tta=tta, save_probabilities=True)
        assert [path.name for path in done.written] == ["a.nii.gz", "b.nii.gz"]
        for path in done.written:
            maps = np.load(path.with_name(path.name.replace(".nii.gz", ".npz")), allow_pickle=False)["probabilities"]
            masks[name, path.name] = nib.load(path), maps
    for case in ("a.nii.gz", "b.nii.gz"):
        (expected, maps), (found, others) = masks["torch", case], masks["onnx", case]
        clear = clear_voxels(maps)
        assert np.array_equal(found.affine, expected.affine)
        assert np.allclose(others, maps, atol=1e-5)
        assert clear.mean() > 0.99
        assert np.array_equal(np.asarray(found.dataobj)[clear], np.asarray(expected.dataobj)[clear])


def test_onnx_runtime_validates_as_pytorch_does(tmp_path: Path) -> None:
    network, plan = convolutions(3), plan_of(3, 3, (8, 12, 8), (1.0, 1.0, 1.0))
    engine = OnnxEngine(write_onnx(network, tmp_path / "network.onnx", 2, (8, 12, 8)))
    image, labels = torch.randn(1, 20, 17, 12), torch.randint(0, 3, (20, 17, 12))
    cpu = torch.device("cpu")
    expected = dice_of_case(network, plan, image, labels, device=cpu)
    assert torch.allclose(dice_of_case(engine, plan, image, labels, device=cpu), expected, atol=1e-3)


def test_an_engine_and_a_network_are_averaged(tmp_path: Path) -> None:
    network, plan = convolutions(3), plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0))
    engine = OnnxEngine(write_onnx(convolutions(3), tmp_path / "network.onnx", 1, (8, 8, 8)))
    other = nn.Conv3d(1, 3, 1)
    pixels = np.random.default_rng(0).normal(size=(11, 9, 14)).astype(np.float32)
    maps = [
        deconvseg.predict(pixels, models, save_probabilities=True)[1]
        for models in ([(engine, plan), (other, plan)], [(network, plan), (other, plan)])
    ]
    assert np.allclose(*maps, atol=1e-5)


@pytest.mark.faults
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("limit", [8 * 16 * 16, 8 * 8 * 8])
def test_an_engine_without_memory_gets_smaller_windows_and_gives_the_same_masks(limit: int, batch_size: int) -> None:
    truth = np.random.default_rng(0).random((30, 40, 25)) < 0.5
    image, plan = Image(truth[None].astype(np.float32), Geometry.identity(3)), plan_of(3, 2, (16,) * 3, (1.0,) * 3)
    engine = ThresholdEngine(limit=limit, batch_size=batch_size)
    predictor = Predictor([(engine, plan)])
    notes: list[str] = []
    assert np.array_equal(predictor.segment(image, note=notes.append).pixels, truth)
    assert all(np.prod(shape) <= limit for shape in engine.seen)
    least = {shape[2:] for shape in engine.seen}
    assert len(least) == 1
    (side,) = least
    assert [note.split(", for lack")[0] for note in notes] == [f"windows of {side} instead of the trained (16, 16, 16)"]
    cpu = torch.device("cpu")
    pixels, labels = torch.from_numpy(image.pixels), torch.from_numpy(truth).long()
    again = ThresholdEngine(limit=limit, batch_size=batch_size)
    assert dice_of_case(again, plan, pixels, labels, device=cpu).tolist() == [[1.0], [1.0]]
    assert {shape[2:] for shape in again.seen} == least
    with pytest.raises(MemoryError, match="voxels do not fit"):
        Predictor([(ThresholdEngine(limit=100), plan)]).segment(image)


@st.composite
def members(draw: st.DrawFn, dims: int) -> Member:
    """A member whose engine has memory for its smallest windows at least."""
    steps = [draw(st.sampled_from([1, 2, 4])) for _ in range(dims)]
    window = [step * draw(st.integers(1, 4)) for step in steps]
    engine = ThresholdEngine(dims, batch_size=draw(st.integers(1, 4)))
    engine.size_multiple, engine.fixed_batch = tuple(steps), draw(st.booleans())
    halves = [-(-side // (2 * step)) * step for side, step in zip(window, steps, strict=True)]
    least = int(np.prod(halves)) * (engine.batch_size if engine.fixed_batch else 1)
    engine.limit = draw(st.sampled_from([least, 2 * least, float("inf")]))
    mirrored = draw(st.lists(st.integers(0, dims - 1), unique=True))
    return Member(engine, window, overlap=draw(st.sampled_from([0.0, 0.4, 0.75])), mirrored=mirrored)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_whatever_engines_take_the_logits_are_theirs_and_progress_ends_at_one(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=3)))
    several = data.draw(st.lists(members(len(shape)), min_size=1, max_size=3))
    box = tuple(range(data.draw(st.integers(0, side - 1)), side) for side in shape)
    image, told, notes = torch.rand(1, *shape), [], []
    painted = torch.zeros(shape)

    def each(slab: Slab) -> None:
        part = slab.part_of(image)
        assert all(torch.allclose(maps, torch.cat([0.5 - part, part - 0.5]), atol=1e-5) for maps in slab.logits)
        slab.part_of(painted).add_(1)

    volume = Volume([image] * len(several), shape, box)
    Sweep(several, 2).map(volume, each, tell=lambda done, *_: told.append(done), note=notes.append)
    assert painted.sum() == painted[tuple(slice(part.start, part.stop) for part in box)].numel()
    assert painted.max() == 1
    assert max(told) == told[-1] == 1.0
    assert len(notes) == sum(member.window != member.trained for member in several)


def test_arrays_of_any_size_are_seen_in_windows_by_an_engine() -> None:
    image = torch.rand(2, 1, 30, 21)
    maps = predict_windows(ThresholdEngine(2, batch_size=3), image, (8, 16))
    expected = torch.cat([0.5 - image, image - 0.5], dim=1).softmax(1)
    assert torch.allclose(maps, expected, atol=1e-6)


def test_the_layout_of_a_case_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    search = sweep.choose_layout
    monkeypatch.setattr(sweep, "choose_layout", lambda *given: searches.append(1) or search(*given))
    plan = plan_of(3, 2, (8, 8, 8), (1.0, 1.0, 1.0))
    nib.save(nib.Nifti1Image(np.zeros((9, 12, 7), np.uint8), np.eye(4)), tmp_path / "scan.nii.gz")
    cases = [Case(name, (tmp_path / "scan.nii.gz",), None) for name in ("a", "b", "c")]

    def load(case: Case) -> Image:
        return Image(np.ones((1, 20, 9, 30), np.float32), Geometry.identity(3))

    predictor = Predictor([(ThresholdEngine(), plan), (nn.Conv3d(1, 2, 1), plan)])
    assert len(predict_cases(predictor, cases, tmp_path / "masks", load=load).written) == 3
    assert len(searches) == 3


def test_masks_of_another_engine_are_predicted_again(scans: Path, tmp_path: Path) -> None:
    plan, output = plan_of(3, 2, (8, 8, 8), (1.0, 1.0, 1.3)), tmp_path / "masks"
    for half, skipped in ((0.5, 0), (0.5, 2), (0.7, 0)):
        done = deconvseg.predict(scans, [(ThresholdEngine(half=half), plan)], output, skip_existing=True)
        assert (len(done.skipped), len(done.written)) == (skipped, 2 - skipped)


def test_the_identity_of_a_prediction_has_the_size_of_windows_that_is_not_the_plans() -> None:
    plan, found = plan_of(3, 2, (8, 8, 8), (1.0, 1.0, 1.3)), {}
    for size in (None, (8, 8, 8), (16, 8, 8), (16, 16, 8)):
        engine = ThresholdEngine()
        engine.fixed_size = size
        found[size] = Predictor([(engine, plan)]).identity
    assert found[None] == found[8, 8, 8]
    assert len(set(found.values())) == 3


def test_what_an_engine_does_not_take_or_give_is_an_error_that_names_it(scans: Path, tmp_path: Path) -> None:
    plan = plan_of(3, 2, (8, 8, 8), (1.0, 1.0, 1.0))
    image = Image(np.ones((1, 9, 9, 9), np.float32), Geometry.identity(3))

    class Halved(ThresholdEngine):
        def logits(self, batch: Tensor) -> Tensor:
            return batch[..., ::2].repeat(1, 2, 1, 1, 1)

    with pytest.raises(DeconvsegError, match=r"Halved: gives logits of shape \(1, 2, 8, 8, 4\) for windows of shape"):
        Predictor([(Halved(), plan)]).segment(image)
    for output, kind in (
        (np.zeros(1), "ndarray"),
        (None, "NoneType"),
        (torch.zeros(1, 2, 8, 8, 8, dtype=bool), "torch.bool"),
    ):
        engine = ThresholdEngine()
        engine.logits = lambda batch, output=output: output
        with pytest.raises(
            DeconvsegError, match=f"ThresholdEngine: gives logits as {kind}; a tensor of floating-point"
        ):
            Predictor([(engine, plan)]).segment(image)
    with pytest.raises(DeconvsegError, match="scan.nii: the network gives 2 maps, but its plan has 3"):
        Predictor([(ThresholdEngine(), plan_of(3, 3, (8, 8, 8), (1.0,) * 3))]).segment(image, "scan.nii")
    coarse = ThresholdEngine()
    coarse.size_multiple = (16, 16, 16)
    with pytest.raises(
        InputError, match=r"windows of \(8, 8, 8\): this network accepts only multiples of \(16, 16, 16\)"
    ):
        Predictor([(coarse, plan)])
    with pytest.raises(InputError, match="ThresholdEngine: its batch_size is 0; give 1 or more"):
        Predictor([(ThresholdEngine(batch_size=0), plan)])
    flat = ThresholdEngine()
    flat.size_multiple, flat.fixed_size = None, (8, 8)
    with pytest.raises(InputError, match=r"ThresholdEngine takes windows of \(8, 8\), but its plan is 3D"):
        Predictor([(flat, plan)])
    with pytest.raises(
        InputError, match=r"give runs, or pairs of a network or an engine \(.*\) and its plan, not a str"
    ):
        Predictor(["run"])
    with pytest.raises(InputError, match="not a object and a Plan"):
        Predictor([(object(), plan)])
    with pytest.raises(TypeError, match="fingerprint"):
        type("Unfinished", (Engine,), {"logits": ThresholdEngine.logits})()
    with pytest.raises(InputError, match="not a ThresholdEngine"):
        deconvseg.predict(image.pixels, [ThresholdEngine()])
    with pytest.raises(InputError, match=r"windows of \(8, 8\): the image has the shape \(1, 1, 9, 9, 9\)"):
        predict_windows(ThresholdEngine(), torch.zeros(1, 1, 9, 9, 9), (8, 8))
    with pytest.raises(InputError, match="the split 'val' needs a splits file"):
        deconvseg.predict(scans, [(ThresholdEngine(), plan)], tmp_path / "masks", split="val")


def test_a_fixed_size_is_the_size_of_windows_whatever_the_plan_says(tmp_path: Path) -> None:
    engine = OnnxEngine(write_onnx(convolutions(3), tmp_path / "network.onnx", 1, (8, 8, 8)))
    pixels = np.random.default_rng(0).normal(size=(13, 9, 17)).astype(np.float32)
    masks = [
        deconvseg.predict(pixels, [(model, plan_of(3, 3, (side, 8, 8), (1.0,) * 3))], save_probabilities=True)[1]
        for model, side in ((engine, 16), (convolutions(3), 8))
    ]
    assert np.allclose(*masks, atol=1e-5)
    with pytest.raises(InputError, match=r"windows of \(16, 16, 16\): this network accepts only \(8, 8, 8\)"):
        predict_windows(engine, torch.zeros(1, 1, 20, 20, 20), (16, 16, 16))


def test_a_network_of_the_plan_is_an_engine_with_its_sizes() -> None:
    plan = tiny_plan()
    network = create_model(plan.model.name, **plan.model.config)
    (member,) = Predictor([(network, plan)])._members
    assert isinstance(member.engine, Engine)
    assert member.engine.size_multiple == network.size_multiple
    assert member.engine.bytes((32, 32), 2) > member.engine.bytes((32, 32), 1) > 0
