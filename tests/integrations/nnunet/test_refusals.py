"""What is wrong, and how it is told: packages, versions, folders, datasets, networks, results, checkpoints."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deconvseg.cli import main
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations.nnunet import installed as installation
from deconvseg.integrations.nnunet import nnunet_environment, plan_for_nnunet, upgrade_nnunet
from deconvseg.integrations.nnunet.drafting import Drafting, Stages

Version = Callable[[str | None], None]


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Version:
    return lambda found: monkeypatch.setattr(installation, "package_version", lambda name: found)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def test_a_missing_package_is_named_with_what_to_install(version: Version) -> None:
    version(None)
    for call in (lambda: plan_for_nnunet(4), nnunet_environment):
        with pytest.raises(MissingPackageError, match=r"needs nnunetv2, .* pip install 'deconvseg\[nnunetv2\]'"):
            call()


def test_an_older_nnunet_takes_plans_but_no_trainers(version: Version, folders: Path) -> None:
    version("2.6.4")
    with pytest.raises(
        InputError, match=r"needs nnunetv2 2\.8 or later, and 2\.6\.4 is installed: .* plans for it work"
    ):
        nnunet_environment()
    # The version suffices: what is missing is the dataset.
    with pytest.raises(InputError, match=r"`dataset=4`: no dataset has this number or name in .*: there are none"):
        plan_for_nnunet(4)
    version("2.2")
    with pytest.raises(InputError, match=r"a plan for nnU-Net needs nnunetv2 2\.3\.1 or later, and 2\.2 is installed"):
        plan_for_nnunet(4)


def test_folders_and_datasets(version: Version, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version("2.8.1")
    dataset = folders / "nnUNet_raw" / "Dataset004_Hippocampus"
    dataset.mkdir()
    (dataset / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="did you mean 'Dataset004_Hippocampus'"):
        plan_for_nnunet("Dataset004_Hipocampus")
    for given in (4, "Dataset004_Hippocampus"):
        with pytest.raises(InputError, match="has no dataset_fingerprint.json yet: run nnUNetv2_extract_fingerprint"):
            plan_for_nnunet(given)
    monkeypatch.setenv("nnUNet_preprocessed", str(folders / "elsewhere"))
    with pytest.raises(InputError, match=r"nnUNet_preprocessed=.*elsewhere: there is no such folder"):
        plan_for_nnunet(4)
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(InputError, match="nnUNet_raw is not set: export it"):
        plan_for_nnunet(4)


def test_networks_that_cannot_be_planned(version: Version) -> None:
    version("2.8.1")
    with pytest.raises(InputError, match="is unknown: did you mean 'deconver'"):
        plan_for_nnunet(4, model="deconvr")
    with pytest.raises(InputError, match=r"`width=16`: PlainConvUNet has nnU-Net's own widths"):
        plan_for_nnunet(4, model="PlainConvUNet", width=16)
    with pytest.raises(InputError, match=r"`upsampling='dtc'`: model 'mednext' has none to choose; .*deconver"):
        plan_for_nnunet(4, model="mednext", upsampling="dtc")
    stages = Stages(((1, 1), (2, 2)), ((3, 3), (3, 3)))
    with pytest.raises(InputError, match=r"model 'ensemble' is made of other networks"):
        Drafting("ensemble", None, None).drafts(stages, (16, 16), {})


def test_the_command_line_names_its_flags(
    version: Version, folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version("2.8.1")
    monkeypatch.setattr("sys.argv", ["deconvseg", "nnunet", "plan", "-d", "7"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--dataset 7: no dataset has this number or name" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("plans", ["../../y", "/y", "a/b", "..", ""])
def test_a_name_of_plans_has_no_folder(plans: str, version: Version, folders: Path) -> None:
    version("2.8.1")
    for call in (lambda: plan_for_nnunet(4, plans=plans), lambda: upgrade_nnunet("any", "out", plans=plans)):
        with pytest.raises(InputError, match="plans.*a name without a folder, such as deconvsegPlans"):
            call()


def test_a_dataset_says_how_many_cases_it_has(version: Version, folders: Path) -> None:
    version("2.8.1")
    for name, file in (("nnUNet_raw", "dataset.json"), ("nnUNet_preprocessed", "dataset_fingerprint.json")):
        (folders / name / "Dataset004_Made").mkdir()
        (folders / name / "Dataset004_Made" / file).write_text("{}")
    with pytest.raises(InputError, match=r"dataset\.json: has no 'numTraining'"):
        plan_for_nnunet(4)
