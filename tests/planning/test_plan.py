import json
from pathlib import Path

import pytest

from deconvseg.data import open_dataset, resolve_splits
from deconvseg.errors import InputError
from deconvseg.models import create_model
from deconvseg.planning import Plan, check_plan, make_plan, read_plan
from plans import tiny_plan


def write(folder: Path, tree: object) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps(tree))
    return path


def test_a_plan_survives_its_file(tmp_path: Path, plan: Plan) -> None:
    assert read_plan(write(tmp_path, plan.model_dump(mode="json"))) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "colour"),
        ({"batch_size": "2"}, "batch_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"patch_size": [32]}, "patch_size needs 2 values"),
        ({"recipe": {"learning_rate": "fast"}}, "recipe.learning_rate"),
        ({"recipe": {"squared_dice": "false"}}, "recipe.squared_dice"),
        ({"version": 2}, "version"),
        ({"labels": {"values": [0], "names": ["background"]}}, "at least a background and one class"),
        ({"regions": [{"name": "r", "labels": [2], "paints": 1}]}, "labels are ids from 1 to 1"),
    ],
)
def test_a_wrong_plan_names_file_and_key(tmp_path: Path, plan: Plan, change: dict, message: str) -> None:
    path = write(tmp_path, {**plan.model_dump(mode="json"), **change})
    with pytest.raises(InputError, match=message) as error:
        read_plan(path)
    assert "plan.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mistyped_key_is_named_before_the_one_that_is_missing(tmp_path: Path, plan: Plan) -> None:
    tree = plan.model_dump(mode="json")
    tree["batchsize"] = tree.pop("batch_size")
    with pytest.raises(InputError, match="batchsize: is no key of a plan; batch_size: is missing"):
        read_plan(write(tmp_path, tree))


def test_plan_that_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_plan(path)


def test_values_are_replaced_by_dotted_path(plan: Plan) -> None:
    changed = plan.with_values({"recipe.augmentation.flip": 0.25, "batch_size": 3, "model.config.ratio": 2})
    assert changed.recipe.augmentation.flip == 0.25
    assert changed.batch_size == 3
    assert changed.model.config["ratio"] == 2
    assert plan.batch_size == 2


@pytest.mark.parametrize(
    "values",
    [
        {"recipe.lr": 1e-3},
        {"batchsize": 3},
        {"batch_size": "three"},
        {"recipe.squared_dice": "false"},
        {"a.b.c": 1},
    ],
)
def test_values_of_unknown_key_or_wrong_type_are_refused(plan: Plan, values: dict) -> None:
    with pytest.raises(InputError, match="--set"):
        plan.with_values(values)


def test_made_plan_fits_the_dataset_and_leaves_test_cases_alone(discs: Path, tmp_path: Path) -> None:
    broken = tmp_path / "discs"
    import shutil

    shutil.copytree(discs, broken)
    (broken / "images" / "disc6.png").write_bytes(b"not a picture")
    data = open_dataset(broken)
    plan = make_plan(data, resolve_splits(data, broken / "splits.json", fold=0), seconds=20, device="cpu")
    assert plan.labels.values == (0, 255)
    assert plan.spatial_dims == 2
    network = create_model(plan.model.name, **plan.model.config)
    assert all(p % m == 0 for p, m in zip(plan.patch_size, network.size_multiple, strict=True))
    assert {"spacing", "patch_size", "model", "recipe"} <= plan.reasons.keys()


def test_plan_in_3d_takes_declared_labels_and_spacing(balls: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0), seconds=20, device="cpu")
    assert plan.labels.values == (0, 3, 7)
    assert plan.labels.names == ("background", "shell", "core")
    assert plan.spacing == (1.0, 1.0, 2.0)
    assert [c.name for c in plan.channels] == ["T1", "T2"]
    assert plan.outputs == 3


def test_paper_recipe_has_a_sigmoid_per_class_and_the_papers_numbers(balls: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0), recipe="paper", seconds=20, device="cpu")
    assert plan.regions is not None
    assert [(r.name, r.labels, r.paints) for r in plan.regions] == [("shell", (1,), 1), ("core", (2,), 2)]
    assert (plan.recipe.learning_rate, plan.recipe.weight_decay, plan.recipe.epochs) == (1e-4, 1e-5, 500)


def test_preset_of_other_dimensions_is_refused(discs: Path) -> None:
    data = open_dataset(discs)
    with pytest.raises(InputError, match="preset isles22 is a 3D"):
        make_plan(data, resolve_splits(data, None, fold=0), preset="isles22", device="cpu")


def test_a_declared_class_without_voxels_is_named(balls: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "balls"
    shutil.copytree(balls, copy)
    declared = json.loads((copy / "dataset.json").read_text())
    declared["labels"]["tumour"] = 9
    (copy / "dataset.json").write_text(json.dumps(declared))
    data = open_dataset(copy)
    plan = make_plan(data, resolve_splits(data, None, fold=0), seconds=5, device="cpu")
    assert plan.labels.values == (0, 3, 7, 9)
    assert plan.reasons["labels"] == "warning: no training or validation mask has a voxel of tumour"


def test_grey_images_among_rgb_ones_are_recorded(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for index in range(4):
        shape = (16, 16) if index == 1 else (16, 16, 3)
        Image.fromarray(np.full(shape, 50 * index, np.uint8)).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(np.eye(16, dtype=np.uint8)).save(tmp_path / "masks" / f"{index}.png")
    data = open_dataset(tmp_path)
    plan = make_plan(data, resolve_splits(data, None, fold=0), seconds=5, device="cpu")
    assert len(plan.channels) == 3
    assert plan.reasons["channels"] == "1 grey images are expanded to RGB"


@pytest.mark.parametrize("model", ["nnunet", "segresnet", "unetr", "swin_unetr"])
def test_a_preset_plans_every_network_of_its_paper(balls: Path, model: str) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0), preset="isles22", model=model, device="cpu")
    assert plan.model.name == model
    assert plan.patch_size == (64, 64, 64)
    assert plan.model.config["in_channels"] == len(plan.channels)
    check_plan(plan)
    assert json.loads(json.dumps(plan.model.config)) == plan.model.config


def test_a_network_of_one_size_is_refused_with_another_patch(balls: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0), preset="isles22", model="unetr", device="cpu")
    with pytest.raises(InputError, match=r"patch_size is \[32, 64, 64\], but this network is built for \[64, 64, 64\]"):
        check_plan(plan.model_copy(update={"patch_size": (32, 64, 64)}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "segresnet"}, "model 'segresnet' has no strides and widths to be fitted"),
        ({"model": "mednext", "preset": "isles22"}, "preset 'isles22' has no 'mednext': choose from its deconver"),
        ({"model": "nnunett"}, "model 'nnunett' is unknown: did you mean 'nnunet'"),
        ({"preset": "brats"}, "preset 'brats' is unknown: did you mean 'brats23'"),
    ],
)
def test_models_and_presets_that_cannot_be_planned_are_named(balls: Path, arguments: dict, message: str) -> None:
    data = open_dataset(balls)
    with pytest.raises(InputError, match=message):
        make_plan(data, resolve_splits(data, None, fold=0), device="cpu", **arguments)


def test_papers_preset_with_the_papers_recipe_has_its_epochs(balls: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0), preset="brats23", recipe="paper", device="cpu")
    assert plan.recipe.epochs == 300
    assert (plan.patch_size, plan.batch_size) == ((128, 128, 128), 2)
    assert plan.model.config["out_channels"] == 2


def test_an_ignore_label_is_refused_not_learnt(balls: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "balls"
    shutil.copytree(balls, copy)
    declared = json.loads((copy / "dataset.json").read_text())
    declared["labels"]["ignore"] = 8
    (copy / "dataset.json").write_text(json.dumps(declared))
    data = open_dataset(copy)
    with pytest.raises(InputError, match="label 8 is declared to be ignored"):
        make_plan(data, resolve_splits(data, None, fold=0), device="cpu")


def test_instance_maps_suggest_foreground(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for index in range(3):
        pixels = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100) % 90
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(pixels).save(tmp_path / "labels" / f"{index}.png")
    data = open_dataset(tmp_path)
    with pytest.raises(InputError, match="--foreground"):
        make_plan(data, resolve_splits(data, None, fold=0), device="cpu")


def test_regions_and_softmax_give_the_right_number_of_outputs() -> None:
    regions = [{"name": "disc", "labels": [1], "paints": 1}]
    assert tiny_plan().outputs == 2
    assert tiny_plan(regions=regions).outputs == 1
