"""The series of a network's channels, chosen on the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from deconvseg.cli import main
from deconvseg.data import list_readers
from deconvseg.errors import InputError
from deconvseg.inference import predict
from dicom_series import GeneratedSeries, save_series
from plans import volume_run

pytestmark = pytest.mark.skipif("dicom" not in list_readers(), reason="no reader of DICOM is installed")
RULES = [{"name": name, "dicom": {"SeriesDescription": name}} for name in ("T1", "FLAIR")]


def two_channels(folder: Path) -> Path:
    config = {"in_channels": 2, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    return volume_run(folder, channels=RULES, model={"name": "deconver", "config": config})


def study(folder: Path, number: int = 1) -> dict[str, GeneratedSeries]:
    """Write a study of two series with grids of their own."""
    made = {}
    for name, slices, step in (("T1", 8, 1.0), ("FLAIR", 6, 1.4)):
        volume = np.random.default_rng(slices).normal(100, 40, (slices, 12, 10)).cumsum(1)
        made[name] = save_series(
            folder / name, volume, spacing=(step, 1, 1), Modality="MR", SeriesDescription=name,
            study_uid=f"1.2.{number}", frame_uid=f"1.2.{number}.9",
        )  # fmt: skip
    return made


def run_command(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: object) -> tuple[int, Any]:
    monkeypatch.setattr(sys, "argv", ["deconvseg", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr()


def test_series_are_given_to_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    made, run = study(tmp_path / "study"), two_channels(tmp_path / "run")
    # Without the pick the rules of the plan would give T1 and FLAIR the other way round.
    picked = ("--channel", f"T1={made['FLAIR'].uid}", "--channel", f"flair={made['T1'].uid}")
    command = ("predict", "-i", tmp_path / "study", "-m", run, "--to", "nifti", "--device", "cpu", "--json")
    code, said = run_command(monkeypatch, capsys, *command, "-o", tmp_path / "picked", *picked)
    assert code == 0
    first = made["FLAIR"].files
    assert f"{min(made['T1'].files)} has another grid than {min(first)}: resampled linearly onto that" in said.err
    written = json.loads(said.out)["written"]
    assert nibabel.load(written[0]).shape == (10, 12, len(first))
    code, said = run_command(monkeypatch, capsys, *command, "-o", tmp_path / "ruled")
    assert (code, nibabel.load(json.loads(said.out)["written"][0]).shape) == (0, (10, 12, 8))


def test_a_network_of_one_channel_takes_the_series_of_its_channel(tmp_path: Path) -> None:
    made, run = study(tmp_path / "study"), volume_run(tmp_path / "run", channels=RULES[:1])
    options: dict[str, Any] = {"device": "cpu", "to": "nifti"}
    (file,) = predict(tmp_path / "study", run, tmp_path / "a", channel={"T1": made["FLAIR"].uid}, **options).written
    assert nibabel.load(file).shape[2] == 6
    (file,) = predict(tmp_path / "study", run, tmp_path / "b", **options).written
    assert nibabel.load(file).shape[2] == 8


def test_a_choice_without_effect_is_refused_and_rules_are_no_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    made, run = study(tmp_path / "study")["T1"], volume_run(tmp_path / "run", channels=RULES[:1])
    for folder in ("plain", "dataset/images", "dataset/masks"):
        (tmp_path / folder).mkdir(parents=True)
        voxels = np.zeros((10, 12, 8), np.uint8)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / folder / "a.nii.gz")
    for images in (tmp_path / "plain", tmp_path / "plain/a.nii.gz", tmp_path / "dataset", made.files[0]):
        command = ("predict", "-i", images, "-o", tmp_path / "no", "-m", run, "--channel", f"T1={made.uid}")
        code, said = run_command(monkeypatch, capsys, *command)
        assert (code, f"--channel chooses among the DICOM series of a folder of studies, and {images}" in said.err) == (
            2,
            True,
        )
        masks = tmp_path / f"masks_{images.name}"
        assert predict(images, run, masks, device="cpu", to="nifti").written
    with pytest.raises(InputError, match="`series` chooses among the DICOM series of a folder"):
        predict(tmp_path / "plain", run, tmp_path / "no", series="T1")
