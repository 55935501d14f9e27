import json
import math
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from deconvseg.data import open_dataset, resolve_splits
from deconvseg.errors import InputError, MissingPackageError
from deconvseg.models import create_model, list_models
from deconvseg.planning import Plan, StepCost, check_plan, explain, read_plan, supervise_deeply
from deconvseg.planning import make_plan as make_measured_plan
from plans import tiny_plan

MIB = 2**20
THREE = {"labels": {"values": [0, 1, 2], "names": ["background", "rim", "core"]}}
WHOLE = {"name": "whole", "labels": [1, 2], "paints": 1}


def by_parameters(name: str, config: dict, patch: tuple, batch: int, *, regions: bool) -> StepCost:
    """Make up what a step takes: more with every parameter and voxel, always the same."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in create_model(name, **config).parameters())
    voxels = batch * math.prod(patch)
    return StepCost(
        seconds=1e-9 * voxels * parameters**0.5,
        base=500 * MIB,
        memory=500 * MIB + 16 * parameters + 4000 * voxels,
        inference=500 * MIB + 4 * parameters + 1000 * voxels // batch,
        parameters=parameters,
    )


def make_plan(*args: object, **kwargs: object) -> Plan:
    """Plan without measuring, and with a memory that the machine of the test does not decide."""
    return make_measured_plan(*args, **{"measure": by_parameters, "memory": 8 << 30, "device": "cpu", **kwargs})


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
        ({**THREE, "regions": [WHOLE, {"name": "core", "labels": [2], "paints": 1}]}, "'core' paints 1, none of its"),
        ({**THREE, "regions": [WHOLE, {**WHOLE, "name": "core"}]}, r"regions paint \[1, 1\]: give each an id"),
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
    with pytest.raises(InputError, match="batchsize: is not a key of a plan; batch_size: is missing"):
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


def test_options_of_the_upsampling_are_set_by_path_also_where_it_is_a_name(plan: Plan) -> None:
    named = plan.with_values({"model.config.upsampling": "dtc+linear"})
    changed = named.with_values(
        {"model.config.upsampling.receptive_field": 3, "model.config.upsampling.dtc.init": "zero"}
    )
    assert changed.model.config["upsampling"] == {"kind": "dtc+linear", "receptive_field": 3, "dtc.init": "zero"}
    assert named.with_values({"model.config.upsampling.kind": "dtc"}).model.config["upsampling"] == {"kind": "dtc"}


def test_options_of_the_loss_are_replaced_by_path_too(plan: Plan) -> None:
    focal = plan.with_values({"recipe.loss": {"kind": "focal"}}).with_values({"recipe.loss.gamma": 1})
    assert focal.training_loss().loss.title == "focal loss (gamma 1)"


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
    with pytest.raises(InputError, match="`values`"):
        plan.with_values(values)


def test_made_plan_fits_the_dataset_and_leaves_test_cases_alone(discs: Path, tmp_path: Path) -> None:
    broken = tmp_path / "discs"
    shutil.copytree(discs, broken)
    (broken / "images" / "disc6.png").write_bytes(b"not a picture")
    data = open_dataset(broken)
    plan = make_plan(data, resolve_splits(data, broken / "splits.json", fold=0), seconds=20, device="cpu")
    assert plan.labels.values == (0, 255)
    assert plan.spatial_dims == 2
    network = create_model(plan.model.name, **plan.model.config)
    assert all(p % m == 0 for p, m in zip(plan.patch_size, network.size_multiple, strict=True))
    assert {"spacing", "patch_size", "batch_size", "model", "labels", "recipe.epochs"} <= plan.reasons.keys()
    assert plan.chosen.keys() == plan.reasons.keys()
    assert plan.chosen["batch_size"] == plan.batch_size


def test_plan_in_3d_takes_declared_labels_and_spacing(balls: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0), seconds=20, device="cpu")
    assert plan.labels.values == (0, 3, 7)
    assert plan.labels.names == ("background", "shell", "core")
    assert plan.spacing == (1.0, 1.0, 2.0)
    assert [c.name for c in plan.channels] == ["T1", "T2"]
    assert plan.outputs == 3


def test_a_plan_keeps_the_loss_that_it_was_made_with(balls: Path) -> None:
    data = open_dataset(balls)
    spec = ["dice_ce", {"kind": "cldice", "weight": 0.5}]
    plan = make_plan(data, resolve_splits(data, None, fold=0), loss=spec, seconds=20, device="cpu")
    assert plan.training_loss().loss.title.endswith(" + 0.5 x clDice (3 thinnings) over the batch")
    assert plan == plan.with_values({"recipe.loss": spec})


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


def plan_with_label(dataset: Path, folder: Path, name: str, value: int) -> Plan:
    """Plan for a copy of a dataset that declares one label more."""
    copy = folder / "balls"
    shutil.copytree(dataset, copy)
    declared = json.loads((copy / "dataset.json").read_text())
    declared["labels"][name] = value
    (copy / "dataset.json").write_text(json.dumps(declared))
    data = open_dataset(copy)
    return make_plan(data, resolve_splits(data, None, fold=0), seconds=5, device="cpu")


def test_a_declared_class_without_voxels_is_named(balls: Path, tmp_path: Path) -> None:
    plan = plan_with_label(balls, tmp_path, "tumour", 9)
    assert plan.labels.values == (0, 3, 7, 9)
    assert "no training or validation mask has a voxel of tumour" in plan.warnings
    assert "no training or validation mask has a voxel of tumour" in plan.reasons["labels"]


def test_declared_classes_without_one_voxel_are_refused(balls: Path, tmp_path: Path) -> None:
    empty = tmp_path / "balls"
    shutil.copytree(balls, empty)
    for file in (empty / "labelsTr").iterdir():
        known = nib.load(file)
        nib.save(nib.Nifti1Image(np.zeros(known.shape, np.uint8), known.affine), file)
    data = open_dataset(empty)
    with pytest.raises(InputError, match="every mask is empty; there is no class to learn"):
        make_plan(data, resolve_splits(data, None, fold=0))


def test_dice_is_over_the_batch_where_a_class_is_missing_from_a_case(tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for number in range(6):
        mask = np.zeros((16, 16, 16), np.uint8)
        mask[:4] = 1
        # In half of the cases, where it fills more of them than the other class does.
        mask[8:] = 2 * (number % 2)
        image = np.random.default_rng(number).normal(size=mask.shape).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "imagesTr" / f"{number}_0000.nii.gz")
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "labelsTr" / f"{number}.nii.gz")
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    data = open_dataset(tmp_path)
    plan = make_plan(data, resolve_splits(data, None, fold=0))
    assert plan.recipe.batch_dice
    assert "value 2 is in 3 of 6 cases" in plan.reasons["recipe.batch_dice"]


def test_grey_images_among_rgb_ones_are_recorded(tmp_path: Path) -> None:
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
    assert plan.reasons["channels"] in plan.warnings


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
        ({"model": "ensemble"}, "model 'ensemble' is made of other networks"),
        ({"model": "mednext", "preset": "isles22"}, "preset 'isles22' has no 'mednext': choose from its deconver"),
        (
            {"preset": "btcv"},
            r"preset 'btcv' has no deconver, the default network: name one of nnunet, .* \(`model='nnunet'`\)",
        ),
        (
            {"preset": "isles22", "width": 8},
            r"or change the widths \(`values=\{'model.config.widths': \[8, 16, 32, 64\]\}`\)",
        ),
        (
            {"values": {"network.upsampling": "dtc"}},
            "did you mean 'model.config.upsampling'. known here: model.config.widths, ",
        ),
        ({"model": "nnunett"}, "model 'nnunett' is unknown: did you mean 'nnunet'"),
        ({"dims": 1}, "`dims=1`: choose 2 or 3"),
        ({"memory": 100 * MIB}, "100 MiB of memory do not suffice for the narrowest deconver"),
        ({"preset": "brats"}, "preset 'brats' is unknown: did you mean 'brats23'"),
    ],
)
def test_models_and_presets_that_cannot_be_planned_are_named(balls: Path, arguments: dict, message: str) -> None:
    data = open_dataset(balls)
    with pytest.raises(InputError, match=message):
        make_plan(data, resolve_splits(data, None, fold=0), device="cpu", **arguments)


@pytest.mark.parametrize(("recipe", "activation"), [("default", "softmax"), ("paper", "sigmoid")])
def test_an_ensemble_averages_the_probabilities_that_the_plan_takes(balls: Path, recipe: str, activation: str) -> None:
    data = open_dataset(balls)
    asked = {"preset": "isles26", "model": "ensemble", "recipe": recipe}
    plan = make_plan(data, resolve_splits(data, None, fold=0), **asked)
    assert plan.model.config["activation"] == activation


def test_a_variant_of_a_preset_is_planned(balls: Path) -> None:
    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)
    plan = make_plan(data, parts, preset="isles26", variant="Deconver, 32 channels, 1-2-2-4")
    assert plan.model.config["widths"] == [32, 64, 128, 256]
    with pytest.raises(InputError, match="`variant='1-2'`: a variant belongs to a preset: give `preset` too"):
        make_plan(data, parts, variant="1-2")


def test_papers_preset_with_the_papers_recipe_has_its_epochs(balls: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0), preset="isles26", recipe="paper", device="cpu")
    assert plan.recipe.epochs == 300
    assert (plan.patch_size, plan.batch_size) == ((128, 128, 128), 2)
    assert plan.model.config["out_channels"] == 2


def test_an_ignore_label_is_no_class(balls: Path, tmp_path: Path) -> None:
    plan = plan_with_label(balls, tmp_path, "ignore", 8)
    assert (plan.labels.values, plan.labels.ignore) == ((0, 3, 7), 8)
    assert plan.outputs == 3


@pytest.mark.parametrize(
    ("model", "widths", "heads"), [("deconver", 5, 2), ("unet", 4, 1), ("deconver", 2, 1), ("segresnet", 0, None)]
)
def test_deep_supervision_gives_the_network_heads_where_it_can_have_them(
    model: str, widths: int, heads: int | None
) -> None:
    config = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    if widths:
        config["widths"] = [8 * 2**stage for stage in range(widths)]
    plan = tiny_plan(model={"name": model, "config": config}, recipe={"deep_supervision": True})
    supervised = supervise_deeply(plan)
    assert supervised.model.config.get("deep_supervision_heads") == heads
    assert create_model(model, **supervised.model.config).deep_supervision_heads == (heads or 0)
    key = "model.config.deep_supervision_heads" if heads else "recipe.deep_supervision"
    assert "resolutions" in supervised.reasons[key]
    assert supervised.changed_by_hand == ()
    assert supervise_deeply(supervised) == supervised
    assert supervise_deeply(tiny_plan()) == tiny_plan()


def test_heads_are_no_change_by_hand_but_other_changes_of_the_network_are(balls: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0)).with_values({"recipe.deep_supervision": True})
    assert supervise_deeply(plan).model.config["deep_supervision_heads"] > 0
    assert supervise_deeply(plan).changed_by_hand == ()
    changed = supervise_deeply(plan.with_values({"model.config.norm": "instance"}))
    assert changed.changed_by_hand == ("model",)
    assert changed.reasons["model"].startswith("changed by hand")


def test_deep_supervision_that_the_network_cannot_have_is_refused_before_training() -> None:
    config = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2, "widths": [4, 8], "strides": [1, 16]}
    model = {"name": "unet", "config": config}
    check_plan(tiny_plan(model=model))
    with pytest.raises(InputError, match="deep_supervision_heads=2: 2 stages allow 0 to 1"):
        check_plan(tiny_plan(model=model, recipe={"deep_supervision": True}))


def test_instance_maps_suggest_foreground(tmp_path: Path) -> None:
    from PIL import Image

    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for index in range(3):
        pixels = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100) % 90
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(pixels).save(tmp_path / "labels" / f"{index}.png")
    data = open_dataset(tmp_path)
    with pytest.raises(InputError, match="`foreground=True`"):
        make_plan(data, resolve_splits(data, None, fold=0), device="cpu")


def test_regions_and_softmax_give_the_right_number_of_outputs() -> None:
    regions = [{"name": "disc", "labels": [1], "paints": 1}]
    assert tiny_plan().outputs == 2
    assert tiny_plan(regions=regions).outputs == 1


@pytest.mark.parametrize("model", sorted({*list_models()} - {"ensemble", "slicewise", "nnunet_architecture"}))
@pytest.mark.parametrize("data", ["discs", "balls"])
def test_every_network_can_be_planned(request: pytest.FixtureRequest, data: str, model: str) -> None:
    dataset = open_dataset(request.getfixturevalue(data))
    try:
        plan = make_plan(dataset, resolve_splits(dataset, None, fold=0), model=model, seconds=60)
    except MissingPackageError as missing:
        pytest.skip(str(missing))
    check_plan(plan)
    with torch.device("meta"):
        network = create_model(model, **plan.model.config)
        network.check_size(plan.patch_size)
    assert json.loads(plan.model_dump_json())["model"]["config"] == plan.model.config
    assert plan.predicted is not None
    assert plan.predicted.training_seconds < 1.3 * 60


def test_memory_and_time_decide_what_is_chosen(balls: Path) -> None:
    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)
    rich, poor = (make_plan(data, parts, seconds=1e6, memory=memory) for memory in (8 << 30, 545 * MIB))
    assert rich.model.config["widths"][0] > poor.model.config["widths"][0]
    assert poor.predicted is not None
    assert poor.predicted.memory_bytes <= 545 * MIB
    assert "of memory" in poor.reasons["model"]
    hurried = make_plan(data, parts, seconds=0.5)
    assert hurried.model.config["widths"][0] < rich.model.config["widths"][0]
    assert "none is fast enough" in hurried.reasons["model"]
    assert "where 700 are wanted" in hurried.warnings[0]
    assert not rich.warnings


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_the_batch_is_for_all_processes_and_the_share_of_one_is_measured(balls: Path, processes: int) -> None:
    shares: list[int] = []

    def noting(name: str, config: dict, patch: tuple, batch: int, *, regions: bool) -> StepCost:
        shares.append(batch)
        return by_parameters(name, config, patch, batch, regions=regions)

    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)
    plan = make_plan(data, parts, processes=processes, measure=noting)
    assert plan.batch_size == processes * shares[-1]
    assert f"{shares[-1]} on each of {processes} devices" in plan.reasons["batch_size"]
    assert plan.predicted is not None
    assert (plan.predicted.processes, plan.predicted.memory_limit_bytes) == (processes, (8 << 30) // processes)
    costs = {section.title: section.rows for section in explain(plan)}["What it takes"]
    assert any(f"by each of {processes} processes" in row[2] for row in costs)


def test_patches_get_smaller_before_memory_is_too_small(balls: Path) -> None:
    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)
    usual, small = (make_plan(data, parts, memory=memory) for memory in (8 << 30, 510 * MIB))
    assert math.prod(small.patch_size) < math.prod(usual.patch_size)
    assert "because memory is limited" in small.reasons["patch_size"]


def test_a_preset_that_does_not_fit_is_warned_of_with_figures(balls: Path) -> None:
    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)
    plan = make_plan(data, parts, preset="isles22", recipe="paper", seconds=60, memory=2 << 30)
    assert plan.predicted is not None
    assert not plan.predicted.measured
    classes, slow, large = plan.warnings
    assert "preset isles22 is a paper's for 1 structure" in classes
    assert "the plan's 500 steps of " in slow
    assert "limited to 60 s ends after about 6 of them; allow " in slow
    assert "more than the 2.0 GiB" in large
    # Without a time limit, none is spoken of.
    unlimited = make_plan(data, parts, preset="isles22", recipe="paper", memory=2 << 30).warnings[1]
    assert "the plan's 500 steps of " in unlimited
    assert unlimited.endswith(
        "with loading and validation; use fewer epochs, or give a time limit, if that is too long"
    )
    # By voxels, from a patch that a CPU takes: as if the whole batch had been measured.
    whole = by_parameters(plan.model.name, plan.model.config, plan.patch_size, plan.batch_size, regions=True)
    assert plan.predicted.step_seconds == pytest.approx(whole.seconds, rel=1e-3)
    assert plan.predicted.memory_bytes == pytest.approx(whole.memory, rel=1e-3)


def test_a_case_too_large_for_the_memory_is_warned_of(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deconvseg.planning.drafting.case_bytes", lambda *_: 9 << 30)
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0))
    assert plan.predicted is not None
    assert plan.predicted.memory_bytes == 500 * MIB + (9 << 30)
    assert "more than the 8.0 GiB that it may have: its largest case does" in plan.warnings[-1]


def test_a_value_that_was_changed_does_not_keep_the_planners_reason(balls: Path, tmp_path: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0))
    assert plan.changed_by_hand == ()
    changed = plan.with_values({"batch_size": plan.batch_size + 1})
    assert changed.changed_by_hand == ("batch_size",)
    mark = f"changed by hand; planned was {plan.batch_size}: "
    assert changed.reasons["batch_size"] == mark + plan.reasons["batch_size"]
    assert changed.reasons["spacing"] == plan.reasons["spacing"]
    by_hand = {**plan.model_dump(mode="json"), "batch_size": plan.batch_size + 1}
    assert read_plan(write(tmp_path, by_hand)) == changed
    assert read_plan(write(tmp_path, changed.model_dump(mode="json"))) == changed
    assert changed.with_values({"batch_size": plan.batch_size}) == plan


def test_a_plan_of_another_version_of_the_planner_is_still_read(tmp_path: Path, plan: Plan) -> None:
    tree = plan.model_dump(mode="json", exclude={"predicted", "data", "warnings", "chosen"})
    read = read_plan(write(tmp_path, {**tree, "reasons": {"spacing": "as it was"}}))
    assert read.reasons == {"spacing": "as it was"}
    assert read.changed_by_hand == ()


def test_ct_without_its_statistics_is_refused(tmp_path: Path, plan: Plan) -> None:
    tree = {**plan.model_dump(mode="json"), "channels": [{"name": "CT", "normalisation": "ct"}]}
    with pytest.raises(InputError, match=r"channels\.0: normalisation ct needs mean and std"):
        read_plan(write(tmp_path, tree))


def test_slices_of_a_volume_are_planned_as_patches_one_voxel_thick(balls: Path) -> None:
    data = open_dataset(balls)
    parts = resolve_splits(data, None, fold=0)
    plan = make_plan(data, parts, dims=2)
    check_plan(plan)
    assert plan.spatial_dims == 3
    assert plan.patch_size[2] == 1
    assert {stage[2] for stage in plan.model.config["kernel_size"]} == {1}
    assert {stage[2] for stage in plan.model.config["strides"]} == {1}
    with pytest.raises(InputError, match="model 'swin_unetr' downsamples along every axis"):
        make_plan(data, parts, dims=2, model="swin_unetr")


def test_slices_of_a_volume_are_trained_and_predicted(balls: Path, tmp_path: Path) -> None:
    from deconvseg.training import train

    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0), dims=2, seconds=5)
    config = {**plan.model.config, "widths": [8] * len(plan.model.config["widths"])}
    plan = plan.with_values({"model.config": config, "recipe.steps_per_epoch": 2, "recipe.epochs": 1})
    run = train(balls, tmp_path / "run", plan=plan, device="cpu")
    assert run.metrics[-1]["val_dice"] is not None
    assert len(list(run.validation.glob("*.nii.gz"))) == 1


def test_three_dimensions_of_flat_images_are_refused(discs: Path) -> None:
    data = open_dataset(discs)
    with pytest.raises(InputError, match="`dims=3`: the images are 2D"):
        make_plan(data, resolve_splits(data, None, fold=0), dims=3)


def test_the_explanation_names_every_choice_and_its_reason(balls: Path) -> None:
    data = open_dataset(balls)
    plan = make_plan(data, resolve_splits(data, None, fold=0)).with_values({"batch_size": 7})
    sections = {section.title: section.rows for section in explain(plan)}
    assert list(sections) == ["Data", "Classes", "Choices", "What it takes"]
    assert [row[0] for row in sections["Classes"]] == ["shell", "core"]
    choices = {row[0]: row[1:] for row in sections["Choices"]}
    assert choices["patch"][0] == " × ".join(map(str, plan.patch_size))
    assert choices["batch"][0] == "7"
    assert choices["batch"][1].startswith("changed by hand")
    explained = ("spacing, mm", "patch", "network", "  loss", "  validation")
    assert all(why for name, (_, why) in choices.items() if name in explained)
    assert "before batch_size was changed by hand" in sections["What it takes"][0][2]
    assert all(len(row) == len(section.headings) for section in explain(plan) for row in section.rows)


def test_the_schema_describes_the_plan() -> None:
    schema = Plan.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Plan.model_fields)


def test_a_plan_keeps_the_declared_colours_of_classes_and_has_one_for_each():
    labels = {"values": [0, 1, 2], "names": ["background", "organ", "lesion"]}
    model = tiny_plan().model.model_dump()
    model["config"]["out_channels"] = 3
    plan = tiny_plan(labels=labels, model=model, colours={"lesion": "#F00"})
    assert plan.class_colours == {"organ": "#56b4e9", "lesion": "#ff0000"}
    assert tiny_plan().class_colours == {"disc": "#56b4e9"}
    with pytest.raises(InputError, match="colours.lesion: 'crimson' is not a colour"):
        plan.with_values({"colours": {"lesion": "crimson"}})


def test_merged_values_are_kept_and_plans_without_them_are_what_they_were():
    labels = {"values": [0, 255], "names": ["background", "disc"]}
    merging = tiny_plan(labels={**labels, "merged": {"1": 255}})
    assert merging.labels.merged == {1: 255}
    assert Plan.model_validate_json(merging.model_dump_json(), strict=True) == merging
    assert "merged" not in tiny_plan().model_dump(mode="json")["labels"]
    assert tiny_plan().with_reasons({"labels": "declared"}).changed_by_hand == ()
    with pytest.raises(InputError, match="merged: 255 must be another value than"):
        tiny_plan().with_values({"labels": {**labels, "merged": {"255": 0}}})
