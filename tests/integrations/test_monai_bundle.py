"""`deconvseg export --format monai-bundle`: MONAI's own verbs check and run the bundle, and its masks are ours."""

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from pydoc import locate
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run, verify_metadata, verify_net_in_out

import deconvseg
from deconvseg.data import read_label_map
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.integrations import export, read_contract
from deconvseg.integrations.monai.configs import plain
from deconvseg.models import Grid, create_model, fit_model, list_models, model_path
from deconvseg.models.registry import _BUILDERS
from deconvseg.runs import Run
from plans import tiny_plan, volume_run

pytest.importorskip("ignite", reason="pytorch-ignite is not installed (extra monai)")
pytest.importorskip("jsonschema", reason="jsonschema is not installed (extra monai)")
#: MONAI's own, from its site (Project-MONAI/project-monai.github.io, Apache-2.0), which a download would fetch.
SCHEMA = Path(__file__).parent / "monai_schema" / "meta_schema_20240725.json"
EVERY = (True, True)
#: Of networks that are made of others, to which nothing is fitted.
PART = {"name": "unet", "config": {"widths": [4, 8]}}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ensemble": {"networks": [PART]},
    "slicewise": {"network": PART, "spatial_dims": 3},
}


@pytest.fixture(scope="module")
def bundle(trained: Path, discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    export(trained, folder, format="monai-bundle", images=discs)
    return folder


@pytest.fixture
def made(bundle: Path, discs: Path, tmp_path: Path) -> Path:
    """The masks and the scores of the test cases by MONAI."""
    files = [str(bundle / "configs" / name) for name in ("inference.json", "evaluate.json")]
    run(config_file=files, bundle_root=str(bundle), dataset_dir=str(discs), output_dir=str(tmp_path), split="test")
    return tmp_path


def test_monai_verifies_the_bundle(bundle: Path) -> None:
    meta, config = (str(bundle / "configs" / name) for name in ("metadata.json", "inference.json"))
    verify_metadata(meta_file=meta, filepath=str(SCHEMA), hash_val=hashlib.md5(SCHEMA.read_bytes()).hexdigest())
    verify_net_in_out(net_id="network_def", meta_file=meta, config_file=config, device="cpu")
    wrong = {**json.loads(Path(meta).read_text()), "network_data_format": {}}
    Path(meta).with_name("wrong.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="'inputs' is a required property"):
        verify_metadata(meta_file=str(Path(meta).with_name("wrong.json")), filepath=str(SCHEMA))


def test_the_masks_and_scores_of_monai_are_ours(made: Path, trained: Path, discs: Path) -> None:
    ours = deconvseg.predict(discs, trained, made / "ours", splits=discs / "splits.json", split="test")
    assert len(ours.written) == 2
    for path in ours.written:
        mask = read_label_map(path).pixels
        assert set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(read_label_map(made / f"{path.stem}_seg.png").pixels, mask)
    scores = deconvseg.evaluate(discs, made / "ours", splits=discs / "splits.json", split="test")
    title, value = (made / "metrics.csv").read_text().strip().split(",")
    assert title == "val_mean_dice"
    assert float(value) == pytest.approx(scores.mean_dice, abs=1e-6)


def test_the_names_that_monai_label_reads_are_there(bundle: Path) -> None:
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    assert {"network_def", "preprocessing", "postprocessing", "inferer", "device", "bundle_root"} <= config.keys()
    described = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    assert list(described["inputs"]) == ["image"]
    assert described["outputs"]["pred"]["channel_def"] == {"0": "background", "255": "disc"}


def test_the_weights_are_a_plain_state_dict(bundle: Path, trained: Path) -> None:
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    expected = Run.open(trained).network("final").state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_a_bundle_predicts_as_its_run(bundle: Path, trained: Path, discs: Path, tmp_path: Path) -> None:
    pairs = [
        deconvseg.predict(discs / "images" / "disc0.png", model, tmp_path / name / "disc0.png")
        for model, name in ((bundle, "bundle"), (trained, "run"))
    ]
    first, second = (read_label_map(done.written[0]).pixels for done in pairs)
    np.testing.assert_array_equal(first, second)


def test_weights_that_are_objects_are_not_unpickled(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    content = pickle.dumps({"weight": Path("object")})
    (tmp_path / "models" / "model.pt").write_bytes(content)
    tree = json.loads((bundle / "contract.json").read_text())
    tree["model"]["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "contract.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=r"model\.pt: these are no weights of its networks: Weights only load failed"):
        deconvseg.inference.open_export(tmp_path)


def test_a_changed_checkpoint_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "contract.json").write_bytes((bundle / "contract.json").read_bytes())
    (tmp_path / "models" / "model.pt").write_bytes(b"other")
    with pytest.raises(InputError, match=r"model\.pt is not the file of contract\.json"):
        read_contract(tmp_path)


@pytest.mark.parametrize("text", ["$__import__('os').abort()", "@device", "%other.json"])
def test_what_monai_would_evaluate_is_no_name(text: str, tmp_path: Path) -> None:
    labels = {"values": [0, 5, 300], "names": ["background", "a", text]}
    folder = volume_run(tmp_path / "run", labels=labels)
    with pytest.raises(InputError, match="MONAI evaluates what begins with"):
        export(folder, tmp_path / "out", format="monai-bundle")
    assert not (tmp_path / "out").exists()
    assert plain("T1 $") == "T1 $"


def test_labels_that_no_picture_holds_are_refused(tmp_path: Path, trained: Path) -> None:
    plan = tiny_plan(labels={"values": [0, 70_000], "names": ["background", "disc"]})
    folder = Run.create(tmp_path / "run", plan, {}, {"train": [], "val": [], "test": []})
    folder.save_weights(Run.open(trained).network("final").state_dict())
    with pytest.raises(InputError, match="the label 70000 does not fit the mask files that MONAI writes"):
        export(folder.path, tmp_path / "out", format="monai-bundle")


def test_a_missing_package_is_named(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ignite", None)
    with pytest.raises(MissingPackageError, match=r"ignite is not installed: pip install 'deconvseg\[monai\]'"):
        export(trained, tmp_path / "out", format="monai-bundle")


def test_a_configuration_constructs_deconver() -> None:
    given = {"_target_": "deconvseg.Deconver", "in_channels": 1, "out_channels": 2, "spatial_dims": 2, "widths": [4, 8]}
    network = ConfigParser({"network_def": given}).get_parsed_content("network_def")
    assert type(network) is deconvseg.Deconver
    assert network.config["widths"] == [4, 8]


def test_the_path_of_every_network_leads_to_it() -> None:
    assert all(locate(model_path(name)) is _BUILDERS[name] for name in list_models())


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_a_configuration_constructs_every_network(name: str) -> None:
    if name.startswith("nnunet_"):
        pytest.importorskip("dynamic_network_architectures", reason="the extra nnunet is not installed")
    config: dict[str, Any] = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    grid = Grid("cpu", sizes=(50.0, 60.0), whole=False, strides=((1, 1), (2, 2)), reaches=(EVERY, EVERY))
    try:
        config.update(ARGUMENTS[name] if name in ARGUMENTS else next(fit_model(name, grid, patch=(64, 64)))[1])
    except InputError as reason:
        pytest.skip(str(reason))
    with torch.device("meta"):
        expected = create_model(name, **config)
        found = ConfigParser({"net": {"_target_": model_path(name), **expected.config}}).get_parsed_content("net")
    assert found.state_dict().keys() == expected.state_dict().keys()


@pytest.mark.slow
def test_the_commands_run_a_mean_of_two_networks_on_volumes(tmp_path: Path, balls: Path) -> None:
    changes: dict[str, Any] = {
        "channels": [{"name": "T1"}, {"name": "T2"}],
        "spacing": [1.5, 1.0, 2.0],
        "labels": {"values": [0, 3, 7], "names": ["background", "shell", "core"]},
        "model": {
            "name": "deconver",
            "config": {"in_channels": 2, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3},
        },
    }
    runs = [volume_run(tmp_path / name, **changes) for name in ("a", "b")]
    torch.manual_seed(1)
    Run.open(runs[1]).save_weights(create_model("deconver", **changes["model"]["config"]).state_dict())
    bundle = tmp_path / "bundle"
    export(runs, bundle, format="monai-bundle", images=balls, threshold={"core": 0.4})
    meta, config = ["--meta_file", "configs/metadata.json"], ["--config_file", "configs/inference.json"]
    both = ["--config_file", "['configs/inference.json', 'configs/evaluate.json']"]
    folders = ["--dataset_dir", str(balls), "--output_dir"]
    verbs = [
        ["verify_metadata", *meta, "--filepath", str(SCHEMA)],
        ["verify_net_in_out", "network_def", *meta, *config],
        ["run", *config, "--logging_file", "configs/logging.conf", *folders, str(tmp_path / "masks")],
        ["run", *both, *folders, str(tmp_path / "scores")],
    ]
    for verb in verbs:
        subprocess.run([sys.executable, "-m", "monai.bundle", *verb], cwd=bundle, check=True, capture_output=True)
    assert (tmp_path / "scores" / "val_mean_dice_raw.csv").is_file()
    done = deconvseg.predict(balls, runs, tmp_path / "ours", threshold={"core": 0.4})
    assert len(done.written) == 5
    for path in done.written:
        ours = read_label_map(path)
        theirs = read_label_map(tmp_path / "masks" / f"{path.name.removesuffix('.nii.gz')}_0000_seg.nii.gz")
        assert len(np.unique(ours.pixels)) == 3
        assert ours.geometry.matches(theirs.geometry)
        np.testing.assert_array_equal(theirs.pixels, ours.pixels)
