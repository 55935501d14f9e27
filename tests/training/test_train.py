import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from deconvseg.data import Problem, open_dataset, resolve_splits
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.models import create_model
from deconvseg.progress import Progress
from deconvseg.runs import Run
from deconvseg.training import Silent, TrainOptions, decide_plan, train
from plans import tiny_plan
from power_cuts import power_cut_after


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_learns_and_its_folder_is_complete(trained: Path) -> None:
    expected = {
        "plan.json", "config.json", "splits.json", "manifest.json", "metrics.jsonl", "metrics.csv", "progress.png",
        "report.html", "weights.safetensors", "weights_best.safetensors", "resume", "validation",
        "operating_points.json", "precision.json",
    }  # fmt: skip
    assert {path.name for path in trained.iterdir()} == expected
    run = Run(trained)
    assert [row["epoch"] for row in run.metrics] == [0, 1, 2, 3]
    assert run.metrics[-1]["train_loss"] < run.metrics[0]["train_loss"]
    summary = json.loads((trained / "validation" / "summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] > 0.8
    assert len(summary["metric_per_case"]) == 2
    manifest = run.manifest
    assert {"weights.safetensors", "weights_best.safetensors", "plan.json", "report.html"} <= manifest["files"].keys()
    hashed = {Path(name).stem for name in manifest["data"]}
    assert hashed == {f"disc{i}" for i in range(6)}


@pytest.mark.parametrize(
    ("workers", "recipe"),
    [
        (0, {}),
        (2, {}),
        (0, {"averaging": 0.9, "deep_supervision": True}),
        (0, {"steps_per_epoch": None, "optimiser": "sgd", "schedule": "poly", "learning_rate": 0.01}),
    ],
)
def test_resumed_run_has_the_weights_of_an_uninterrupted_one(
    discs: Path, tmp_path: Path, workers: int, recipe: dict
) -> None:
    plan = tiny_plan(recipe={**tiny_plan().recipe.model_dump(mode="json"), **recipe})
    options = {"plan": plan, "splits": discs / "splits.json", "epochs": 3, "device": "cpu", "seed": 5}
    options["workers"] = workers
    train(discs, tmp_path / "whole", **options)

    with power_cut_after(epoch=1):
        train(discs, tmp_path / "parts", **options)
    assert [row["epoch"] for row in Run(tmp_path / "parts").metrics] == [0, 1]
    train(discs, tmp_path / "parts", resume=True)

    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    whole, parts = Run(tmp_path / "whole").metrics, Run(tmp_path / "parts").metrics
    unclocked = [{k: v for k, v in row.items() if k != "seconds"} for row in whole]
    assert unclocked == [{k: v for k, v in row.items() if k != "seconds"} for row in parts]


def test_number_of_workers_does_not_change_the_weights(discs: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        train(
            discs,
            tmp_path / str(workers),
            plan=tiny_plan(),
            splits=discs / "splits.json",
            device="cpu",
            workers=workers,
        )
    assert equal(weights(tmp_path / "0"), weights(tmp_path / "2"))


def test_a_linked_table_is_read_where_the_link_lies_and_a_given_cache_stays(discs: Path, tmp_path: Path) -> None:
    """As DataLad keeps datasets: the table is a link to a file of another name, beside which no image lies."""
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(discs, data)
    rows = [f"images/disc{n}.png,masks/disc{n}.png,{'val' if n == 5 else 'train'}" for n in range(6)]
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blob").write_text("\n".join(["image,label,split", *rows]) + "\n")
    (data / "table.csv").symlink_to(tmp_path / "store" / "blob")
    done = train(data / "table.csv", run, plan=tiny_plan(), epochs=1, device="cpu", cache=run / "cache")
    assert done.splits["val"] == ["disc5"]
    assert any(done.cache.rglob("image.b2nd"))
    assert not train(data / "table.csv", tmp_path / "other", plan=tiny_plan(), epochs=1, device="cpu").cache.exists()


def test_other_seed_gives_other_weights(discs: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(
            discs,
            tmp_path / str(seed),
            plan=tiny_plan(),
            splits=discs / "splits.json",
            device="cpu",
            seed=seed,
            epochs=1,
        )
    assert not equal(weights(tmp_path / "0"), weights(tmp_path / "1"))


def test_resume_refuses_what_would_change_the_run(trained: Path, discs: Path) -> None:
    with pytest.raises(InputError, match="seed 0 → 3"):
        train(discs, trained, splits=discs / "splits.json", device="cpu", seed=3, resume=True)
    with pytest.raises(InputError, match="batch_size → 9; omit these"):
        train(discs, trained, splits=discs / "splits.json", device="cpu", batch_size=9, resume=True)


def test_resume_without_a_run(discs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        train(discs, tmp_path / "none", device="cpu", resume=True)


def test_nan_loss_names_its_cases_and_keeps_the_last_good_state(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deconvseg.losses import DeepSupervision

    calls = iter(range(100))
    forward = DeepSupervision.forward

    def poisoned(self, logits, labels):  # type: ignore[no-untyped-def]
        value = forward(self, logits, labels)
        return value * float("nan") if next(calls) == 4 else value

    monkeypatch.setattr(DeepSupervision, "forward", poisoned)
    with pytest.raises(
        DeconvsegError, match=r"the loss became nan in epoch 2, step 2; cases in that batch: disc\d, disc\d"
    ):
        train(discs, tmp_path / "run", plan=tiny_plan(), splits=discs / "splits.json", device="cpu")
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


def test_time_limit_ends_the_run_with_its_files(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """Every look at it takes a tenth of a second."""

        now = 0.0

        def monotonic(self) -> float:
            self.now += 0.1
            return self.now

    clock = Clock()
    monkeypatch.setattr("deconvseg.training.task.time", clock)
    plan = tiny_plan(recipe={"epochs": 2, "steps_per_epoch": 4, "validate_every": 1})
    run = train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu", max_seconds=14)
    assert 14 <= run.metrics[-1]["seconds"] < 15
    assert len(run.metrics) > 2  # the clock decides, not the plan's two epochs
    assert (run.path / "report.html").exists()
    assert run.metrics[-1]["learning_rate"] < 0.2 * max(row["learning_rate"] for row in run.metrics)


def test_fold_all_trains_on_every_training_case(discs: Path, tmp_path: Path) -> None:
    run = train(
        discs, tmp_path / "run", plan=tiny_plan(), splits=discs / "splits.json", device="cpu", fold="all", epochs=1
    )
    splits = json.loads((run.path / "splits.json").read_text())
    assert len(splits["train"]) == 6
    assert splits["val"] == []
    assert run.metrics[0]["val_dice"] is None


def test_regions_and_deep_supervision_train(discs: Path, tmp_path: Path) -> None:
    tree = tiny_plan().model_dump(mode="json")
    config = {**tree["model"]["config"], "out_channels": 1, "deep_supervision_heads": 1}
    plan = tiny_plan(
        regions=[{"name": "disc", "labels": [1], "paints": 1}], model={"name": "deconver", "config": config}
    )
    run = train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu")
    mask = np.asarray(Image.open(run.path / "validation" / "disc4.png"))
    assert set(np.unique(mask)) <= {0, 255}
    torch.manual_seed(0)
    untrained = create_model("deconver", **config).state_dict()
    extra = [name for name in untrained if name.startswith("extra_heads")]
    assert extra
    assert not any(torch.equal(untrained[name], tensor) for name, tensor in weights(run.path).items() if name in extra)


def test_pretrained_weights_are_taken_over(discs: Path, trained: Path, tmp_path: Path) -> None:
    told: list[str] = []

    class Listener(Silent):
        def say(self, text: str) -> None:
            told.append(text)

    plan = tiny_plan(recipe={"epochs": 1, "steps_per_epoch": 1, "learning_rate": 1e-12, "weight_decay": 0.0})
    options = {"splits": discs / "splits.json", "device": "cpu", "console": Listener()}
    train(discs, tmp_path / "run", plan=plan, pretrained=trained, **options)
    source, target = weights(trained), weights(tmp_path / "run")
    assert all(torch.allclose(source[name], target[name], atol=1e-6) for name in source)
    assert any(f"pretrained: {len(source)} of {len(source)} tensors" in text for text in told)


def test_pretrained_weights_of_an_unlike_network_are_refused(discs: Path, trained: Path, tmp_path: Path) -> None:
    config = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2, "widths": [12, 24], "kernel_size": 5}
    plan = tiny_plan(model={"name": "deconver", "config": config})
    with pytest.raises(InputError, match="of the planned network's weights fit"):
        train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu", pretrained=trained)


def test_a_validation_tells_which_case_it_is_at(discs: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    tracked: list[str] = []

    class Listener(Silent):
        def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
            tracked.append(text)
            return nullcontext(lambda done, what=None, /: None if total else told.append((what or text, done)))

    plan = tiny_plan(recipe={"epochs": 2, "steps_per_epoch": 1, "validate_every": 1})
    train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu", console=Listener())
    validating = [text.partition(", best Dice")[0] for text, _ in told if "validating" in text]
    assert validating == [
        f"epoch {epoch} of 2, validating {case} of 2)" for epoch in (1, 2) for case in ("disc4 (1", "disc5 (2")
    ]
    fractions = [fraction for text, fraction in told if text.startswith("epoch")]
    assert fractions == sorted(fractions) == [0.5, 0.5, 0.5, 1.0, 1.0, 1.0]
    assert "evaluating" in tracked


@pytest.mark.parametrize("name, config", [("deconver", {"widths": [4, 8]}), ("segresnet", {"init_filters": 8})])
def test_the_plan_is_told_with_its_widths_where_it_has_any(discs: Path, name: str, config: dict[str, object]) -> None:
    told = []

    class Listener(Silent):
        def say(self, text: str) -> None:
            told.append(text)

    ends = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    plan = tiny_plan(model={"name": name, "config": {**ends, **config}})
    data = open_dataset(discs)
    orphan = Problem("masks/x.png", "is a mask without an image", "warning")
    parts, options = resolve_splits(data, None, fold=0), TrainOptions(str(discs), plan=plan, device="cpu")
    decide_plan(replace(data, problems=(orphan,)), parts, options, Listener())
    assert told[0] == "warning: masks/x.png is a mask without an image"
    (line,) = [text for text in told if text.startswith("plan: ")]
    assert ("widths [4, 8], patch" in line) == (name == "deconver")
    assert "None" not in line


def test_training_on_a_case_with_an_unknown_label_names_it(discs: Path, tmp_path: Path) -> None:
    plan = tiny_plan(labels={"values": [0, 7], "names": ["background", "disc"]})
    with pytest.raises(InputError, match=r"disc\d\.png has the label values 255"):
        train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu")


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_a_stopped_process_leaves_a_good_state_and_resume_finishes(
    discs: Path, tmp_path: Path, name: str, code: int
) -> None:
    plan, epochs = tmp_path / "plan.json", 30
    recipe = {"epochs": epochs, "steps_per_epoch": 2, "validate_every": epochs}
    plan.write_text(tiny_plan(recipe=recipe).model_dump_json())
    run = tmp_path / "run"
    command = [
        sys.executable, "-c", "from deconvseg.cli import main; main()", "train", str(discs), "-o", str(run),
        "--plan", str(plan), "--splits", str(discs / "splits.json"), "--device", "cpu",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A background job ignores interrupts, and so would what it starts.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heed)
    deadline = time.monotonic() + 120
    while len(Run(run).metrics) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert ("interrupted" in stderr) == (name == "SIGINT")
    stopped = len(Run(run).metrics)
    assert 3 <= stopped < epochs
    assert Run(run).load_weights()
    train(discs, run, resume=True)
    assert [row["epoch"] for row in Run(run).metrics] == list(range(epochs))
    assert (run / "report.html").exists()


def test_resume_takes_the_same_command_again_and_refuses_changed_data(discs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "discs"
    shutil.copytree(discs, copy)
    options = {"plan": tiny_plan(), "splits": copy / "splits.json", "epochs": 1, "values": {"batch_size": 1}}
    train(copy, tmp_path / "run", **options)
    train(copy, tmp_path / "run", **options, resume=True)
    with pytest.raises(InputError, match="model 'deconver' → 'unet'"):
        train(copy, tmp_path / "run", model="unet", resume=True)
    shutil.copy(copy / "images" / "disc0.png", copy / "images" / "disc1.png")
    with pytest.raises(InputError, match=r"disc1\.png: has changed since"):
        train(copy, tmp_path / "run", resume=True)


def test_resumed_run_with_a_time_limit_goes_on_where_the_clock_stopped(discs: Path, tmp_path: Path) -> None:
    options = {"plan": tiny_plan(), "splits": discs / "splits.json", "max_seconds": 1.0}
    spent = train(discs, tmp_path / "run", **options).metrics
    assert spent[-1]["seconds"] >= 1
    assert train(discs, tmp_path / "run", resume=True).metrics == spent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "16"}, "float16 needs a CUDA device"),
        ({"pretrained": "nowhere"}, "not a run folder"),
        ({"recipe": "paper", "preset": "fives"}, "`preset`, `recipe` together with a plan"),
        ({"foreground": True}, "use the same for both"),
        ({"values": {"model.config.out_channels": 5}}, "model.config.out_channels is 5"),
        ({"values": {"patch_size": [33, 32]}}, "must be a multiple of"),
        ({"values": {"model.config.colour": 1}}, "colour"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    discs: Path, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(discs, tmp_path / "run", plan=tiny_plan(), splits=discs / "splits.json", device="cpu", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.faults
def test_full_disk_in_training_is_one_clear_error(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DeconvsegError, match="disk is full") as error:
        train(discs, tmp_path / "run", plan=tiny_plan(), splits=discs / "splits.json", device="cpu")
    assert error.value.exit_code == 1
