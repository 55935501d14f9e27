import inspect
import json
import shutil
import sys
from pathlib import Path

import pytest

from deconvseg.cli import main
from deconvseg.cli.crossval import crossval
from deconvseg.cli.training import train
from deconvseg.runs import Run, file_sha256
from deconvseg.training import finishing
from plans import tiny_plan


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def deconvseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run the command line in this process."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["deconvseg", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return run


def test_the_whole_way(deconvseg, discs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    splits = discs / "splits.json"
    assert deconvseg("data", "check", discs, "--splits", splits).code == 0
    plan = tmp_path / "plan.json"
    plan.write_text(tiny_plan().model_dump_json())
    run, masks = tmp_path / "run", tmp_path / "masks"
    trained = deconvseg(
        "train", discs, "-o", run, "--plan", plan, "--splits", splits, "--device", "cpu",
        "--set", "recipe.learning_rate=0.01", "--set", "recipe.steps_per_epoch=20",
    )  # fmt: skip
    assert trained.code == 0
    assert trained.out.strip() == str(run)
    assert json.loads((run / "plan.json").read_text())["recipe"]["steps_per_epoch"] == 20
    predicted = deconvseg(
        "predict", "-i", discs, "-o", masks, "-m", run, "--splits", splits, "--split", "test", "--json"
    )
    assert predicted.code == 0
    assert len(json.loads(predicted.out)["written"]) == 2
    metrics = masks / "metrics.json"
    evaluated = deconvseg("evaluate", "-g", discs, "-p", masks, "-o", metrics, "--splits", splits, "--split", "test")
    assert evaluated.code == 0
    assert "Dice" in evaluated.out or "DSC" in evaluated.out
    assert {"metrics.json", "summary.json", "metrics.csv"} <= {path.name for path in masks.iterdir()}
    page = deconvseg("report", run, "--metrics", metrics, "-o", tmp_path / "page.html")
    assert page.code == 0
    text = (tmp_path / "page.html").read_text()
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert "masks made by this run" in text
    assert json.loads(metrics.read_text())["origin"]["runs"][0]["name"] == "run"


def test_runs_are_compared_and_masks_have_a_page(deconvseg, trained: Path, discs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = tmp_path / "compare.html"
    compared = deconvseg("report", trained, trained, "-o", page, "--cases", 1, "--json")
    assert compared.code == 0
    assert json.loads(compared.out) == json.loads(page.with_suffix(".json").read_text())
    assert json.loads(compared.out)["cases"] == ["disc4", "disc5"]
    assert deconvseg("report", trained, trained, "-o", page).out.strip() == str(page)
    masks = deconvseg("report", trained / "validation", "--images", discs / "images", "-o", tmp_path / "masks.html")
    assert masks.code == 0
    assert "disc4" in (tmp_path / "masks.html").read_text()
    for wrong in (["--images", discs / "images"], ["--json"]):
        refused = deconvseg("report", trained, *wrong)
        assert (refused.code, wrong[0] in refused.err) == (2, True)


def test_cross_validation_prints_its_table_and_fails_with_a_fold(  # type: ignore[no-untyped-def]
    deconvseg, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, run = tmp_path / "plan.json", tmp_path / "run"
    plan.write_text(tiny_plan().model_dump_json())
    predicting = finishing.predict_cases

    def predict_some(predictor, cases, output, **options):  # type: ignore[no-untyped-def]
        return predicting(predictor, cases[1:] if output.parent.name == "fold_1" else cases, output, **options)

    monkeypatch.setattr(finishing, "predict_cases", predict_some)
    done = deconvseg("crossval", discs, "-o", run, "--plan", plan, "--folds", 2, "--device", "cpu", "--epochs", 1)
    assert done.code == 1
    assert "no prediction has this name" in done.err
    assert "5 cases, out-of-fold predictions" in done.out
    assert "disc " in done.out
    assert "post-processing: " in done.out
    again = deconvseg("crossval", discs, "-o", run, "--resume", "--json")
    assert len(json.loads(again.out)["cases"]) == 5


def test_a_page_about_a_run_that_is_not_finished_leaves_its_manifest_alone(deconvseg, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = Run.create(tmp_path / "run", tiny_plan(), {}, {"train": [], "val": [], "test": []})
    manifest = run.path / "manifest.json"
    before = manifest.read_bytes()
    assert deconvseg("report", run.path).code == 0
    assert (manifest.read_bytes(), run.finished) == (before, False)
    run.record_hashes(finished=True)
    (run.path / "report.html").unlink()
    assert deconvseg("report", run.path).code == 0
    assert run.manifest["files"]["report.html"] == file_sha256(run.path / "report.html")
    assert run.finished


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("{")])
@pytest.mark.parametrize("name", ["plan.json", "manifest.json"])
def test_a_page_about_half_a_run_is_no_failure(deconvseg, tmp_path: Path, name: str, damage) -> None:  # type: ignore[no-untyped-def]
    run = Run.create(tmp_path / "run", tiny_plan(), {}, {"train": [], "val": [], "test": []})
    run.append_metrics({"epoch": 0, "step": 3, "seconds": 1.0, "train_loss": 0.5, "learning_rate": 0.1})
    run.record_hashes(finished=True)
    damage(run.path / name)
    assert deconvseg("report", run.path).code == 0
    assert (run.path / "report.html").is_file()


def test_demo_dataset_passes_its_check(deconvseg, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert deconvseg("data", "demo", tmp_path / "demo", "--cases", 5).code == 0
    checked = deconvseg("data", "check", tmp_path / "demo", "--json")
    assert checked.code == 0
    assert not [p for p in json.loads(checked.out)["problems"] if p["severity"] == "error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{discs}", "-o", "{tmp}/run", "--set", "batchsize=3"], "the plan has no such key"),
        (["train", "{discs}", "-o", "{tmp}/run", "--set", "batch_size=three"], "batch_size"),
        (["train", "{discs}", "-o", "{tmp}/run", "--set", "batch_size"], "give KEY=VALUE"),
        (["train", "{discs}", "-o", "{tmp}/run", "--max-time", "soon"], "90s, 15m or 1.5h"),
        (["train", "{discs}", "-o", "{tmp}/run", "--fold", "first"], "--fold first"),
        (["train", "{discs}", "-o", "{tmp}/run", "--precision", "8"], "--precision '8' is unknown"),
        (["train", "{discs}", "-o", "{tmp}/run", "--recipe", "soup"], "--recipe 'soup' is unknown"),
        (["train", "{discs}", "-o", "{tmp}/run", "--model", "deconvr"], "deconver"),
        (["train", "{discs}", "-o", "{tmp}/run", "--resume"], "not a run folder"),
        (["train", "{tmp}", "-o", "{tmp}/run"], "{tmp}"),
        (["train", "{tmp}/none", "-o", "{tmp}/run"], "none"),
        (["predict", "-i", "{discs}", "-o", "{tmp}/out", "-m", "{tmp}"], "not a run folder"),
        (
            ["evaluate", "-g", "{discs}", "-p", "{discs}/masks", "--unit", "inch"],
            "'inch' is unknown: choose from mm",
        ),
        (["report", "{tmp}"], "{tmp}"),
        (["train", "{discs}", "-o", "{tmp}/run", "--seed", "-1"], "--seed"),
        (
            ["predict", "-i", "{discs}", "-o", "{tmp}/out", "-m", "{tmp}", "--split", "tset"],
            "'tset' is unknown: did you mean 'test'",
        ),
        (["crossval", "{discs}", "-o", "{tmp}/run", "--folds", "1"], "--folds 1: a file of splits"),
        (["crossval", "{discs}", "-o", "{tmp}/run", "--folds", "7"], "6 cases cannot make 7 folds"),
        (["crossval", "{discs}", "-o", "{tmp}/run", "--stratify", "site"], "as --table"),
        (["crossval", "{discs}", "-o", "{tmp}/run", "--resume"], "no cross-validation to resume"),
        (["frobnicate"], "No such command"),
        (["train"], "Missing argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(  # type: ignore[no-untyped-def]
    deconvseg, discs: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    plan = tmp_path / "p" / "plan.json"
    plan.parent.mkdir()
    plan.write_text(tiny_plan().model_dump_json())
    filled = [a.format(discs=discs, tmp=tmp_path) for a in arguments]
    if arguments[0] == "train" and len(arguments) > 4 and arguments[1] == "{discs}" and "--recipe" not in arguments:
        filled += [] if {"--resume", "--model"} & set(arguments) else ["--plan", str(plan)]
    done = deconvseg(*filled)
    assert done.code == 2
    assert message.format(tmp=tmp_path) in " ".join(done.err.split())
    assert "Traceback" not in done.err
    if done.err.startswith("error:"):
        assert len(done.err.strip().splitlines()) == 1


def test_crossval_takes_the_options_of_train() -> None:
    """All but those that are of one run alone, by the same names and the same words."""
    known = {
        name: inspect.signature(command).parameters for name, command in (("train", train), ("crossval", crossval))
    }
    shared = known["train"].keys() & known["crossval"].keys()
    assert known["train"].keys() - shared == {"fold", "nodes"}
    assert {"variant", "max_seconds", "memory", "dims", "devices", "strategy", "plan", "precision"} <= shared
    for name in shared - {"output", "resume"}:
        ours, theirs = (typer_words(known[command][name]) for command in known)
        assert ours == theirs


def typer_words(parameter: inspect.Parameter) -> tuple[object, ...]:
    info = parameter.annotation.__metadata__[0]
    return parameter.default, info.default, info.param_decls, info.help, info.metavar


@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]], ids=["one process", "two"])
def test_a_bad_case_among_good_ones_gives_exit_code_1(  # type: ignore[no-untyped-def]
    deconvseg, trained: Path, discs: Path, tmp_path: Path, jobs: list[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes((discs / "images" / "disc6.png").read_bytes())
    (folder / "bad.png").write_bytes(b"?")
    done = deconvseg("predict", "-i", folder, "-o", tmp_path / "out", "-m", trained, *jobs)
    assert done.code == 1
    assert "bad.png" in done.err
    assert (tmp_path / "out" / "good.png").exists()


def test_a_single_bad_file_is_bad_input(deconvseg, trained: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "bad.png").write_bytes(b"?")
    done = deconvseg("predict", "-i", tmp_path / "bad.png", "-o", tmp_path / "out", "-m", trained)
    assert done.code == 2
    assert "bad.png" in done.err


def test_missing_prediction_is_not_lost(deconvseg, discs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "disc6.png").write_bytes((discs / "masks" / "disc6.png").read_bytes())
    done = deconvseg(
        "evaluate", "-g", discs, "-p", tmp_path / "p", "--splits", discs / "splits.json", "--split", "test"
    )
    assert done.code == 1
    assert "disc7" in done.err


def test_information_is_json_too(deconvseg) -> None:  # type: ignore[no-untyped-def]
    assert (
        json.loads(deconvseg("models", "--json").out)["unet"]["isic"]["variants"]["UNet, linear"]["parameters"]
        == 17_262_977
    )
    assert list(json.loads(deconvseg("models", "nnmamba", "--json").out)) == ["nnmamba"]
    findings = {finding["name"]: finding for finding in json.loads(deconvseg("doctor", "--json").out)}
    assert findings["torch"]["ok"]
    assert deconvseg("--version").out.startswith("deconvseg ")


def test_a_network_s_arguments_are_told(deconvseg) -> None:  # type: ignore[no-untyped-def]
    told = deconvseg("models", "mednext").out
    assert 'size: variant of the paper: "S", "B", "M" or "L".' in told
    assert "(B, out_channels, *S)" in told
    unknown = deconvseg("models", "mednxt")
    assert unknown.code == 2
    assert "did you mean 'mednext'" in unknown.err


def test_help_imports_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys, deconvseg\nfrom deconvseg.cli import main\nsys.argv = ['deconvseg', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'monai', 'lightning', 'scipy', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_plan_command_prints_what_it_would_write(deconvseg, discs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = deconvseg("plan", discs, "--device", "cpu", "--max-time", "5s", "-o", tmp_path / "plan.json")
    assert done.code == 0
    assert json.loads((tmp_path / "plan.json").read_text())["labels"]["values"] == [0, 255]


def test_doctor_says_what_is_missing_and_how_to_get_it(deconvseg, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from deconvseg.cli import diagnosis

    installed = diagnosis.package_version
    monkeypatch.setattr(
        diagnosis, "package_version", lambda name: None if name in ("nibabel", "hypothesis") else installed(name)
    )
    done = deconvseg("doctor")
    assert done.code == 1
    assert "pip install nibabel" in done.out
    assert "hypothesis" in done.out
    assert "pip install 'deconvseg[dev]'" in done.out


def test_doctor_warns_of_releases_that_steal_credentials(deconvseg, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from deconvseg.cli import diagnosis

    installed = diagnosis.package_version
    for version, bad in (("2.6.1", False), ("2.6.2", True), ("2.6.3", True)):
        monkeypatch.setattr(
            diagnosis,
            "package_version",
            lambda name, version=version: version if name == "lightning" else installed(name),
        )
        done = deconvseg("doctor")
        (line,) = (line for line in done.out.splitlines() if line[4:].startswith("lightning "))
        assert ("MALICIOUS" in line) == ("passwords, keys and tokens" in line) == bad
        assert done.code == int(bad)


def test_doctor_says_which_kernels_there_are_or_how_to_get_them(deconvseg, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from deconvseg.cli import diagnosis
    from deconvseg.ops import native

    def lines() -> dict[str, str]:
        out = deconvseg("doctor").out.splitlines()
        return {
            name: line for line in out for name in ("native kernels", "compiler", "triton") if line[4:].startswith(name)
        }

    monkeypatch.setattr(native, "instruction_set", lambda: "avx2")
    monkeypatch.setattr(native, "unavailable", lambda: None)
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = lines()
    assert found["native kernels"].split() == ["ok", "native", "kernels", "avx2"]
    assert found["compiler"].split() == ["ok", "compiler", "none"]

    monkeypatch.setattr(native, "instruction_set", lambda: None)
    monkeypatch.setattr(native, "unavailable", lambda: "not built: run this")
    installed = diagnosis.package_version
    monkeypatch.setattr(diagnosis, "package_version", lambda name: None if name == "triton" else installed(name))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    found = lines()
    assert found["native kernels"].split(maxsplit=3) == ["--", "native", "kernels", "none  → not built: run this"]
    assert found["compiler"].startswith("--")
    assert "pip install triton" in found["triton"]


def test_a_threshold_is_shown_chosen_taken_and_reset(deconvseg, trained: Path, discs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shown = deconvseg("threshold", run)
    assert shown.code == 0
    assert "disc: 2 validation cases" in shown.out
    assert f"{run}: no threshold is chosen" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80 + len(str(run))
    chosen = deconvseg("threshold", run, "--set", "disc=0.3")
    assert "scores better on them than on new cases" in chosen.err
    assert f"{run}: predict uses the threshold disc 0.3 (set by hand)" in chosen.out
    told = json.loads(deconvseg("threshold", run, "--json").out)
    assert told["chosen"]["threshold"] == {"disc": 0.3}
    assert len(told["points"]["structures"][0]["curve"]["sensitivity"]) == 99
    image = discs / "images" / "disc0.png"
    predicted = deconvseg("predict", "-i", image, "-o", tmp_path / "masks", "-m", run, "--json")
    assert f"threshold disc 0.3 (set by hand) of {run}" in predicted.err
    assert json.loads(predicted.out)["threshold"] == {"disc": 0.3}
    assert "the chosen threshold is removed" in deconvseg("threshold", run, "--reset").out
    for flags, text in (
        (("--set", "3"), "--set 3: give a number between 0 and 1"),
        (("--set", "liver=0.3"), "--set: there is no class 'liver'; the classes are disc"),
        (("--best", "iou"), "--best iou: give dice"),
        (("--set", "0.3", "--best", "dice"), "a threshold is chosen by one of --set, --best, --sensitivity and"),
        (("--reset", "--set", "0.3"), "--reset removes the chosen threshold"),
    ):
        refused = deconvseg("threshold", run, *flags)
        assert refused.code == 2
        assert text in refused.err
    assert deconvseg("predict", "-i", image, "-o", tmp_path, "-m", run, "--threshold", "1").code == 2


def test_cards_are_listed_and_shown(deconvseg) -> None:  # type: ignore[no-untyped-def]
    listed = deconvseg("data", "card").out
    assert "1,251 training, 219 validation (without masks)" in listed
    shown = deconvseg("data", "card", "isles22").out
    assert "10.5281/zenodo.7153326" in shown
    assert "none published" in shown
    assert json.loads(deconvseg("data", "card", "btcv", "--json").out)["btcv"]["counts"]["training"] == 30
    wrong = deconvseg("data", "card", "brats")
    assert wrong.code == 2
    assert "did you mean 'brats23'" in wrong.err
