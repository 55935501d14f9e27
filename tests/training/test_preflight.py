"""What is typed wrong is refused before a file of the dataset is opened or anything is measured."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deconvseg.cli import main
from deconvseg.data import make_demo_dataset, open_dataset
from deconvseg.errors import InputError
from deconvseg.experiments import crossval
from deconvseg.runs import Run
from deconvseg.training import TrainOptions, train
from deconvseg.training.preflight import check_given_plan
from plans import tiny_plan, volume_run


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of volumes that can be listed, and of which no file can be read; nothing can be measured either."""
    root = tmp_path / "data"
    for index in range(6):
        for folder, name in (("imagesTr", f"a{index}_0000.nii.gz"), ("labelsTr", f"a{index}.nii.gz")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / name).write_bytes(b"damaged")
    declared = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps({**declared, "numTraining": 6}))

    def work(*_: object, **__: object) -> None:
        raise AssertionError("something was measured or read")

    for name in ("planner.StepMeter", "planner.take_fingerprint"):
        monkeypatch.setattr(f"deconvseg.planning.{name}", work)
    for module, name in (("training.starting", "find_leaks"), ("experiments.starting", "find_leaks")):
        monkeypatch.setattr(sys.modules[f"deconvseg.{module}"], name, work)
    return root


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": "deconvr"}, "`model` 'deconvr' is unknown: did you mean 'deconver'"),
    ({"model": "ensemble"}, "model 'ensemble' is made of other networks"),
    ({"preset": "isles2"}, "`preset` 'isles2' is unknown: did you mean 'isles2"),
    ({"preset": "isles22", "variant": "larg"}, "variant 'larg' is unknown"),
    ({"variant": "large"}, "a variant belongs to a preset"),
    ({"recipe": "papr"}, "`recipe` 'papr' is unknown: did you mean 'paper'"),
    ({"precision": "b16"}, "`precision` 'b16' is unknown: did you mean 'bf16'"),
    ({"precision": "16", "device": "cpu"}, "float16 needs a CUDA device"),
    ({"device": "gpu"}, "`device='gpu'`: not available here"),
    ({"strategy": "fspd"}, "`strategy` 'fspd' is unknown: did you mean 'fsdp'"),
    ({"upsampling": "dtc+transposd"}, r"upsampling 'dtc\+transposd' is unknown: did you mean 'dtc\+transposed'"),
    ({"upsampling": {"kind": "dtc", "receptive_field": 0}}, "receptive_field=0: give"),
    ({"upsampling": {"kind": "dtc", "int": "zero"}}, "option 'int' is unknown: did you mean 'init'"),
    (
        {"upsampling": "dtc", "model": "unet_plus_plus"},
        "'unet_plus_plus' does not support this argument; models that do: deconver",
    ),
    ({"width": 10, "model": "swin_unetr"}, "10"),
    ({"width": 32, "preset": "isles22"}, "preset 'isles22' has its own widths"),
    ({"patch_size": (96, 96), "dims": 3}, r"`patch_size=\[96, 96\]`: the images are 3D: give 3 numbers"),
    ({"patch_size": (96, 96, 96), "dims": 2}, "a slice is 1 voxel thick"),
    ({"patch_size": (96, 96, 1), "dims": 3}, "is a slice, but `dims=3` requests volumes"),
    ({"preset": "isles22", "dims": 2}, "`dims=2`: preset 'isles22' is a 3D network; leave one of them out"),
    ({"learning_rate": float("inf")}, "`learning_rate=inf`: give a number above 0"),
    ({"max_seconds": float("inf")}, "`max_seconds=inf`: give a number of seconds above 0"),
    ({"cache": __file__}, "test_preflight.py is a file, not a folder"),
    ({"cache": ""}, "`cache=''`: give a path"),
    ({"batch_size": 3, "devices": 2, "device": "cpu"}, "a batch of 3 cannot be divided over 2 devices"),
    ({"batch_size": 2, "values": {"batch_size": 4}}, r"`batch_size=2` and `values=\{'batch_size': 4\}` both set"),
    ({"epochs": 2, "values": {"recipe.epochs": 4}}, "both set recipe.epochs in the plan"),
    ({"values": {"batchsize": 4}}, "batchsize: the plan has no such key; did you mean 'batch_size'"),
    ({"values": {"learning_rate": 4}}, "no such key; did you mean 'recipe.learning_rate'"),
    ({"values": {"recipe.learning_rate": "fast"}}, r"recipe.learning_rate: .*number \(found 'fast'\)"),
    ({"values": {"recipe.learning_rate": -1}}, "recipe.learning_rate: .*greater than 0"),
    ({"values": {"recipe.augmentation.flp": 1}}, "did you mean 'recipe.augmentation.flip"),
    ({"values": {"recipe.loss": "focla"}}, "loss 'focla' is unknown: did you mean 'focal'"),
    ({"values": {"model.config.norm": "bathc"}}, "norm 'bathc' is unknown: did you mean 'batch'"),
    ({"values": {"model.config.widht": 3}}, "argument 'widht' is unknown: did you mean 'widths'"),
    ({"values": {"model.config.widths": "wide"}}, "argument widths='wide': give"),
    ({"values": {"model.config.upsampling": "dct"}}, "upsampling 'dct' is unknown: did you mean 'dtc'"),
    ({"values": {"model.name": "unett"}}, "model 'unett' is unknown: did you mean 'unet'"),
    ({"splits": "nowhere.json"}, "nowhere.json"),
    ({"group_by": "("}, r"\("),
    ({"pretrained": "nowhere"}, "nowhere does not exist: not a run folder"),
    ({"plan": "nowhere.json"}, "nowhere.json"),
    ({"plan": tiny_plan(), "width": 8}, "`width` together with a plan, which decides this"),
    ({"plan": tiny_plan(), "learning_rate": 1e-3, "values": {"rcipe.epochs": 1}}, "did you mean 'recipe.epochs'"),
]


@pytest.mark.parametrize(("asked", "message"), WRONG, ids=lambda part: str(part)[:60])
@pytest.mark.parametrize("function", [train, crossval])
def test_what_is_wrong_is_refused_before_a_case_is_read(
    damaged: Path, tmp_path: Path, function: Callable[..., Any], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        function(damaged, tmp_path / "run", **asked)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run" / "plan.json").exists()


def test_what_is_right_is_not_refused(damaged: Path, tmp_path: Path) -> None:
    """With all of these a case is read at last: the masks, by which the folds are balanced."""
    asked = {
        "values": {"recipe.augmentation.flip": 0, "model.config.ratio": 2.0, "recipe.validation_cases": 3},
        "upsampling": {"kind": "dtc", "receptive_field": 2},
        "width": 24,
        "patch_size": 32,
        "batch_size": 3,
        "learning_rate": 1e-3,
    }
    with pytest.raises(InputError, match=r"labelsTr.* is truncated"):
        train(damaged, tmp_path / "run", **asked)  # type: ignore[arg-type]


def test_folders_that_hold_something_else_are_refused_first(damaged: Path, trained: Path, tmp_path: Path) -> None:
    for function in (train, crossval):
        with pytest.raises(InputError, match="holds a run already; continue it with `resume=True`"):
            function(damaged, trained)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "plan.json").write_text("mine")
    with pytest.raises(InputError, match=r"holds plan\.json, which does not belong to a run"):
        train(damaged, tmp_path / "mine")


def test_weights_of_another_kind_of_network_are_refused_first(damaged: Path, tmp_path: Path) -> None:
    volume_run(tmp_path / "other")
    with pytest.raises(InputError, match=r"only \d+% of the planned network's weights fit"):
        train(damaged, tmp_path / "run", model="swin_unetr", pretrained=tmp_path / "other")


def test_a_plan_for_other_data_is_refused_first(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("something was read")

    monkeypatch.setattr(sys.modules["deconvseg.training.starting"], "find_leaks", work)
    other = tiny_plan(channels=[{"name": "T1"}, {"name": "T2"}])
    with pytest.raises(InputError, match=r"in_channels|channels"):
        train(discs, tmp_path / "run", plan=other)
    with pytest.raises(InputError, match=r"patch_size \[30, 32\] must be a multiple of \[2, 2\]|multiple"):
        train(discs, tmp_path / "run", plan=tiny_plan(), patch_size=(31, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plan {data} --model deconvr", "--model 'deconvr' is unknown: did you mean 'deconver'?"),
        ("plan {data} --set batchsize=4", "--set batchsize: the plan has no such key; did you mean 'batch_size'?"),
        (
            "train {data} -o {tmp}/run --batch-size 4 --set batch_size=2",
            "--batch-size 4 and --set batch_size=2 both set batch_size in the plan",
        ),
        ("train {data} -o {tmp}/run --patch-size 96 96 --dims 3", "--patch-size 96x96: the images are 3D"),
        ("crossval {data} -o {tmp}/run --upsampling dct", "upsampling 'dct' is unknown: did you mean 'dtc'"),
        ("complexity --model deconvr", "model 'deconvr' is unknown: did you mean 'deconver'"),
        ("models deconvr", "model 'deconvr' is unknown: did you mean 'deconver'"),
        ("predict -i {tmp}/non -o {tmp}/out -m {tmp}/none --device tpu", "--device tpu: not available here"),
        ("evaluate -g {data} -p {data} --metrics dcie", "metric 'dcie' is unknown: did you mean 'dice'"),
        ("evaluate -g {data} -p {data} --unit cm", "--unit 'cm' is unknown: did you mean 'mm'"),
        ("data check {tmp}/daat", "/data'?)"),
        ("train {data} -o {tmp}/run --plan {tmp}/dat/plan.json", "plan.json"),
    ],
)
def test_every_verb_says_it_in_one_line(
    damaged: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    words = [word.format(data=damaged, tmp=tmp_path) for word in arguments.split()]
    monkeypatch.setattr(sys, "argv", ["deconvseg", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert "error: " in told.err
    assert told.err.count("\n") == 1
    assert message in told.err


def test_a_fold_that_was_started_keeps_what_it_was_started_with(trained: Path, discs: Path, tmp_path: Path) -> None:
    """Options of a run that is kept are not looked up: what they name may be gone."""
    copy = Run(shutil.copytree(trained, tmp_path / "run"))
    config = {**copy.config, "model": "gone", "device": "cpu"}
    (copy.path / "config.json").write_text(json.dumps(config))
    assert train(discs, copy.path, resume=True).finished


def test_a_layout_that_merges_all_labels_takes_a_plan_that_does_so_and_no_other(tmp_path: Path) -> None:
    data = open_dataset(make_demo_dataset(tmp_path / "glas", like="glas", cases=2))
    config = {"in_channels": 3, "out_channels": 2, "spatial_dims": 2, "widths": [4, 8], "kernel_size": 3}
    plan = tiny_plan(
        channels=[{"name": name} for name in data.channel_names],
        labels={"values": [0, 1], "names": ["background", "gland"], "foreground_only": True},
        model={"name": "deconver", "config": config},
    )
    asked = TrainOptions(tmp_path / "glas", device="cpu")
    fitted, _ = check_given_plan(data, asked, plan)
    assert (fitted.labels.foreground_only, fitted.labels.names) == (True, ("background", "gland"))
    apart = plan.model_copy(update={"labels": plan.labels.model_copy(update={"foreground_only": False})})
    with pytest.raises(InputError, match="the plan was made without foreground, but this training is started with it"):
        check_given_plan(data, asked, apart)


@pytest.mark.parametrize("function", [train, crossval])
def test_an_empty_output_is_not_the_current_folder(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="^`output=''`: give a path$"):
        function(damaged, "")
    assert list(Path().iterdir()) == []
