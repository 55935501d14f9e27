import errno
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

import deconvseg.inference.computing as computing
import deconvseg.inference.stages as stages
from consoles import Listening
from deconvseg.data import Case, Geometry, Image, LabelMap, make_demo_dataset, read_image, read_label_map
from deconvseg.errors import DeconvsegError, InputError, InterruptionError
from deconvseg.inference import Predictor, PreparedImage, parallel_cases, predict_cases
from deconvseg.inference.finding import find_cases
from deconvseg.ops.native.interface import KernelMemoryError
from plans import plan_of

Cases = Callable[..., list[Case]]


@pytest.fixture
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor([(nn.Conv3d(1, 3, 1), plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0)))])


@pytest.fixture
def cases_of(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Cases by name, whose files have the grid of :func:`make_image`, and nothing in them."""
    folder = tmp_path_factory.mktemp("scans")

    def make(*names: str) -> list[Case]:
        for name in names:
            nib.save(nib.Nifti1Image(np.zeros((9, 12, 7), np.uint8), np.eye(4)), folder / f"{name}.nii.gz")
        return [Case(name, (folder / f"{name}.nii.gz",), None) for name in names]

    return make


def make_image(case: Case) -> Image:
    seed = sum(case.name.encode())
    return Image(np.random.default_rng(seed).normal(size=(1, 9, 12, 7)).astype(np.float32), Geometry.identity(3))


def test_every_case_is_written_in_order_and_as_the_predictor_says(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    cases = cases_of("c", "a", "b")
    console = Listening()
    done = predict_cases(predictor, cases, tmp_path, load=make_image, console=console)
    assert [path.name for path in done.written] == ["c.nii.gz", "a.nii.gz", "b.nii.gz"]
    for case, path in zip(cases, done.written, strict=True):
        assert np.array_equal(read_label_map(path).pixels, predictor.segment(make_image(case)).pixels)
    fractions = [done for _, done, _ in console.told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    former: list[tuple[str, float]] = []
    with pytest.deprecated_call(match=r"predict_cases\(progress=\)"):
        predict_cases(predictor, cases, tmp_path, load=make_image, progress=lambda *step: former.append(step))
    assert former == [(text, done) for text, done, _ in console.told]
    named = [text.partition(",")[0] for text, _, _ in console.told]
    assert list(dict.fromkeys(named)) == ["case 1 of 3: c", "case 2 of 3: a", "case 3 of 3: b"]
    windows = [text for text, _, _ in console.told if text.startswith("case 2 of 3: a, window")]
    count = len(windows)
    assert windows == [f"case 2 of 3: a, window {number} of {count}" for number in range(1, count + 1)]


@pytest.mark.parametrize("last", ["empty", "broken"])
def test_progress_ends_at_the_end_whatever_the_last_case_is(
    predictor: Predictor, cases_of: Cases, tmp_path: Path, last: str
) -> None:
    def load(case: Case) -> Image:
        if case.name == "broken":
            raise DeconvsegError("broken.nii.gz is broken")
        image = make_image(case)
        return image if case.name == "a" else Image(np.zeros_like(image.pixels), image.geometry)

    plan = predictor.plan.with_values({"crop_to_nonzero": True})
    console = Listening()
    predict_cases(Predictor([(predictor.networks[0], plan)]), cases_of("a", last), tmp_path, load=load, console=console)
    assert console.told[-1] == (f"case 2 of 2: {last}", 1.0, None)


def test_the_next_image_is_read_while_the_network_computes(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    second_is_read = threading.Event()

    def load(case: Case) -> Image:
        if case.name == "b":
            second_is_read.set()
        return make_image(case)

    class Waiting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            # The estimate of memory calls the network without values.
            assert x.is_meta or second_is_read.wait(60)
            return torch.cat([x, -x, x], dim=1)

    waiting = Predictor([(Waiting(), predictor.plan)])
    assert len(predict_cases(waiting, cases_of("a", "b"), tmp_path, load=load).written) == 2


def test_large_images_are_read_one_after_the_other(
    predictor: Predictor, cases_of: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (parallel_cases, computing):
        monkeypatch.setattr(module, "available_memory", lambda: 0)
    steps: list[str] = []

    def load(case: Case) -> Image:
        steps.append(f"read {case.name}")
        return make_image(case)

    predict_cases(predictor, cases_of("a", "b"), tmp_path, load=load, console=Listening(steps))
    first, second = (steps.index(step) for step in ("case 1 of 2: a", "read b"))
    assert second > first
    assert not [step for step in steps[second:] if step.startswith("case 1 of 2: a")]


def test_an_image_is_gone_before_the_next_is_read(
    predictor: Predictor, cases_of: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (parallel_cases, computing):
        monkeypatch.setattr(module, "available_memory", lambda: 0)
    prepare, alive = Predictor.prepare, []

    def watched(self: Predictor, image: Image, where: str) -> PreparedImage:
        prepared = prepare(self, image, where)
        alive.append(weakref.ref(prepared))
        return prepared

    def load(case: Case) -> Image:
        assert [reference() for reference in alive] == [None] * len(alive)
        if case.name == "c":
            raise DeconvsegError("c.nii.gz is broken")
        return make_image(case)

    monkeypatch.setattr(Predictor, "prepare", watched)
    assert len(predict_cases(predictor, cases_of("a", "b", "c", "d"), tmp_path, load=load).written) == 3
    assert len(alive) == 3


def test_a_larger_image_is_not_read_ahead_into_the_memory_that_is_allowed(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    cases = cases_of("a", "b")
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 100), np.uint8)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), cases[1].images[0])
    limited = Predictor([(predictor.networks[0], predictor.plan)], memory=10**7)
    steps: list[str] = []

    def load(case: Case) -> Image:
        steps.append(f"read {case.name}")
        return make_image(case)

    predict_cases(limited, cases, tmp_path, load=load, console=Listening(steps))
    assert steps.index("read b") > steps.index("case 1 of 2: a")


def test_the_estimate_is_told_before_a_case_that_takes_more_than_those_before(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    sizes = {"a": 9, "b": 9, "c": 40}

    def load(case: Case) -> Image:
        return Image(np.ones((1, *[sizes[case.name]] * 3), np.float32), Geometry.identity(3))

    console = Listening()
    predict_cases(predictor, cases_of("a", "b", "c"), tmp_path, load=load, console=console)
    said = console.said
    assert [line.split(":")[0] for line in said] == ["a", "c"]
    assert "windows" in said[0]
    assert "KiB of memory above the loaded model" in said[0]


def test_what_goes_wrong_while_reading_or_writing_is_a_problem_of_its_case(
    predictor: Predictor, cases_of: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(case: Case) -> Image:
        if case.name == "b":
            raise DeconvsegError("b.nii.gz is broken")
        return make_image(case)

    write = stages.write_label_map

    def refuse(mask: object, path: Path, **options: object) -> None:
        if path.name.startswith("c"):
            raise DeconvsegError(f"the disk is full while writing {path}")
        write(mask, path)

    monkeypatch.setattr(stages, "write_label_map", refuse)
    done = predict_cases(predictor, cases_of("a", "b", "c", "d"), tmp_path, load=load)
    assert [path.name for path in done.written] == ["a.nii.gz", "d.nii.gz"]
    assert len(done.problems) == 2
    assert done.problems[0] == "b.nii.gz is broken"
    assert "c.nii.gz" in done.problems[1]


def test_an_error_of_the_network_is_no_problem_of_a_case(predictor: Predictor, cases_of: Cases, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("a mistake in the network")

    with pytest.raises(RuntimeError, match="a mistake in the network"):
        predict_cases(Predictor([(Broken(), predictor.plan)]), cases_of("a", "b"), tmp_path, load=make_image)


@pytest.mark.parametrize("save_probabilities", [False, True])
def test_an_interruption_keeps_finished_masks_and_leaves_no_half_file(
    predictor: Predictor, cases_of: Cases, tmp_path: Path, save_probabilities: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(nn.Module):
        left = 6

        def forward(self, x: Tensor) -> Tensor:
            self.left -= not x.is_meta
            if self.left < 0:
                raise KeyboardInterrupt
            return torch.cat([x, -x, x], dim=1)

    options = {"load": make_image, "save_probabilities": save_probabilities}
    cases = cases_of("a", "b", "c")
    with pytest.raises(
        InterruptionError, match="interrupted; 1 of 3 masks are in .*; continue with `skip_existing=True`"
    ):
        predict_cases(Predictor([(Interrupted(), predictor.plan)]), cases, tmp_path, **options)
    expected = ["a.nii.gz", *(["a.npz"] if save_probabilities else []), "predictions.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    monkeypatch.setattr(Interrupted, "left", 100)
    patient = Predictor([(Interrupted(), predictor.plan)])
    done = predict_cases(patient, cases, tmp_path, skip_existing=True, **options)
    assert [path.name for path in done.skipped] == ["a.nii.gz"]
    assert [path.name for path in done.written] == ["b.nii.gz", "c.nii.gz"]


def test_probabilities_of_files_are_those_in_memory(predictor: Predictor, cases_of: Cases, tmp_path: Path) -> None:
    (case,) = cases_of("a")
    predict_cases(predictor, [case], tmp_path, load=make_image, save_probabilities=True)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        found = archive["probabilities"]
    assert np.array_equal(found, predictor.probabilities(make_image(case)))
    assert np.allclose(found.sum(0), 1, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "a.npz", "doubt.csv", "predictions.jsonl"]


@pytest.mark.faults
@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no room on a disk")
def test_a_disk_without_room_for_levels_costs_no_mask(
    predictor: Predictor,
    cases_of: Cases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    measured: list[tuple[str, tuple[int, ...]]] = []

    def measure(case: Case, levels: np.ndarray, mask: LabelMap) -> None:
        assert levels.max() > 0
        measured.append((case.name, levels.shape))

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    predict_cases(predictor, cases_of("a"), tmp_path, load=make_image, measure=measure)
    monkeypatch.setattr(os, "posix_fallocate", full)
    done = predict_cases(predictor, cases_of("b"), tmp_path, load=make_image, measure=measure)
    assert measured == [("a", (2, 9, 12, 7))]
    assert [path.name for path in done.written] == ["b.nii.gz"]
    assert "b: its operating points are not measured: cannot write" in caplog.text
    assert not list(tmp_path.glob(".unfinished*"))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no room on a disk")
def test_a_disk_without_room_for_probabilities_is_a_problem_of_the_case(
    predictor: Predictor, cases_of: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        done = predict_cases(predictor, cases_of("a"), tmp_path, load=make_image, save_probabilities=True)
    assert done.written == []
    assert "the probabilities: No space left on device; free 9 KiB there" in done.problems[0]
    assert list(tmp_path.iterdir()) == []


def test_logits_that_are_no_numbers_are_a_problem_and_no_mask(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    class Diverged(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, -x, x + torch.where(x > 2, float("nan"), 0.0)], dim=1)

    done = predict_cases(Predictor([(Diverged(), predictor.plan)]), cases_of("a"), tmp_path, load=make_image)
    assert done.written == []
    assert "a.nii.gz: the network's logits are NaN or infinite" in done.problems[0]


@pytest.mark.faults
def test_a_kernel_without_memory_is_a_problem_that_names_the_image(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KernelMemoryError("scan: not enough memory for its work")

    done = predict_cases(Predictor([(Full(), predictor.plan)]), cases_of("a"), tmp_path, load=make_image)
    assert "a.nii.gz: not enough memory for this image (scan: " in done.problems[0]


def test_parts_of_a_dataset_are_written_into_one_folder_and_no_mask_by_two(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    def load(case: Case) -> Image:
        # Another prediction is started while this one is at work.
        if case.name == "a":
            with pytest.raises(InputError, match=rf"b\.nii\.gz is in use by process {os.getpid()} "):
                predict_cases(predictor, cases_of("b", "c"), tmp_path, load=make_image)
            predict_cases(predictor, cases_of("c"), tmp_path, load=make_image)
        return make_image(case)

    done = predict_cases(predictor, cases_of("a", "b"), tmp_path, load=load)
    assert not done.problems
    expected = ["a.nii.gz", "b.nii.gz", "c.nii.gz", "doubt.csv", "predictions.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected


def test_a_link_to_itself_and_a_pipe_are_problems_of_their_cases(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    (good,) = cases_of("a")
    (tmp_path / "self.nii.gz").symlink_to(tmp_path / "self.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii.gz")
    bad = [Case(name, (tmp_path / f"{name}.nii.gz",), None) for name in ("self", "pipe")]
    done = predict_cases(
        predictor, [bad[0], good, bad[1]], tmp_path / "masks", load=lambda case: read_image(case.images)
    )
    assert [path.name for path in done.written] == ["a.nii.gz"]
    assert [("is a link to" in text, "is a pipe" in text) for text in done.problems] == [(True, False), (False, True)]


@pytest.mark.faults
def test_what_a_killed_prediction_left_goes_with_the_next_one_that_is_alone(
    predictor: Predictor, cases_of: Cases, tmp_path: Path
) -> None:
    left, scratch, other = (tmp_path / f".unfinished-{end}" for end in ("0" * 16 + ".npz", "1" * 16, "thesis.txt"))

    def load(case: Case) -> Image:
        left.write_text("")
        predict_cases(predictor, cases_of("b"), tmp_path, load=make_image)
        assert left.exists()  # a file of the one that is at work
        return make_image(case)

    scratch.mkdir()
    (scratch / "0.npy").write_text("")
    other.write_text("")
    predict_cases(predictor, cases_of("a"), tmp_path, load=load)
    assert not scratch.exists()
    predict_cases(predictor, cases_of("c"), tmp_path, load=make_image)
    expected = [other.name, "a.nii.gz", "b.nii.gz", "c.nii.gz", "doubt.csv", "predictions.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected


@pytest.mark.parametrize(("channels", "expected"), [(("red", "green", "blue"), 3), (("t1", "t2", "flair"), 1)])
def test_numbered_grey_pictures_are_the_channels_of_no_colour_image(tmp_path, channels, expected):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for number in range(3):
        for folder in (tmp_path / "photographs", tmp_path / "imagesTs"):
            folder.mkdir(exist_ok=True)
            PIL.Image.fromarray(pixels).save(folder / f"IMG_{number:04d}.png")
    cases, _, _ = find_cases(tmp_path / "photographs", channels, None, warn=pytest.fail)
    assert len(cases) == expected
    cases, _, _ = find_cases(tmp_path / "imagesTs", channels, None, warn=pytest.fail)
    assert len(cases) == 1


def test_a_case_of_a_published_dataset_is_loaded_in_the_order_of_the_run(tmp_path):
    """The folder of one case, the folder of all, and one file of it give the same image."""
    tree = make_demo_dataset(tmp_path, like="brats23", cases=2)
    channels = ("t2f", "t1c", "t1n", "t2w")
    name = "BraTS-GLI-00001-000"
    place = next(tree.rglob(name))
    expected = np.stack([read_image(place / f"{name}-{channel}.nii.gz").pixels[0] for channel in channels])
    for images in (place, place.parent, tree, place / f"{name}-t2w.nii.gz"):
        cases, left_out, load = find_cases(images, channels, None, warn=pytest.fail)
        assert left_out == ()
        assert np.array_equal(load(next(case for case in cases if case.name == name)).pixels, expected)
