"""Protocols of datasets without a preset: networks, steps, times and folds; and the package's own comparisons."""

from pathlib import Path
from typing import Any

import pytest
import torch

from deconvseg.data import make_demo_dataset, open_dataset
from deconvseg.errors import InputError
from deconvseg.experiments import Protocol, compare, list_comparisons, list_protocols, read_protocol, reproduce
from deconvseg.experiments.protocols.planning import plan_cell
from deconvseg.experiments.protocols.reading import find_network, parse_protocol, preset_of
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.splitting import divide
from deconvseg.models import create_model
from deconvseg.planning import Plan
from deconvseg.progress import SILENT

_SETTING: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 2,
    "spatial_dims": 2,
    "patch_size": [64, 64],
    "batch_size": 4,
    "plan": {"resize": [64, 64], "recipe.learning_rate": 1e-4},
    "networks": {"deconver": {"widths": [8, 16], "kernel_size": 3}, "nnunet": {"widths": [8, 16, 16]}},
}
_TREE: dict[str, Any] = {
    "key": "mine",
    "title": "Mine",
    "datasets": [{"name": "isic", "test": "folds", "test_share": 0.3, "setting": _SETTING}],
    "rows": [
        {"key": "a", "title": "A", "model": "deconver"},
        {"key": "b", "title": "B", "model": "nnunet", "plan": {"recipe.averaging": 0.9, "batch_size": 2}},
    ],
    "columns": [{"dataset": "isic", "metric": "dsc"}],
    "folds": 1,
}
_TIME = {"seconds": 300, "processor": "One", "threads": 2, "steps": {"isic": {"a": 0.31, "b": 700.0}}}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_dataset(tmp_path_factory.mktemp("settings") / "isic", like="isic", cases=6)


def _plan(
    images: Path, row: str, scale: Scale | None = None, values: dict[str, Any] | None = None, **tree: Any
) -> Plan:
    protocol, data, scale = (
        parse_protocol(_TREE | tree, "mine"),
        open_dataset(images),
        Scale() if scale is None else scale,
    )
    dataset = protocol.dataset("isic")
    parts = divide(data, folds=1, seed=0, most=None, tested=True, share=0.3, console=SILENT)
    given = {"scale": scale, "values": values or {}, "device": "cpu", "workers": 0, "console": SILENT}
    return plan_cell(protocol, protocol.row(row), dataset, data, parts, **given)


def test_a_setting_is_the_plan_of_all_rows_and_a_row_may_differ(images: Path) -> None:
    first, second = _plan(images, "a"), _plan(images, "b")
    for plan in (first, second):
        assert (plan.patch_size, plan.resize) == ((64, 64), (64, 64))
        assert plan.recipe.learning_rate == 1e-4
    assert (first.model.name, first.model.config["widths"], first.batch_size) == ("deconver", [8, 16], 4)
    assert (second.model.name, second.batch_size, second.recipe.averaging) == ("nnunet", 2, 0.9)
    assert first.recipe.averaging is None
    assert first.recipe.augmentation == second.recipe.augmentation
    assert _plan(images, "b", values={"batch_size": 3}).batch_size == 3


@pytest.mark.parametrize(("asked", "steps"), [(7, 7), (30, 30), (500, 500), (1013, 1000)])
def test_steps_of_a_dataset_are_those_of_its_trainings(images: Path, asked: int, steps: int) -> None:
    recipe = _plan(images, "a", datasets=[_TREE["datasets"][0] | {"steps": asked}]).recipe
    assert recipe.epochs * recipe.count_steps(4, 4) == steps
    assert recipe.validate_every <= recipe.epochs


def test_equal_time_gives_each_row_the_steps_that_fit(images: Path) -> None:
    protocol = parse_protocol(_TREE | {"time": _TIME}, "mine")
    steps = [protocol.steps_of(row, protocol.datasets[0]) for row in protocol.rows]
    assert steps == [int(300 / 0.31), 1]
    recipe = _plan(images, "a", time=_TIME).recipe
    assert 300 - 20 * 0.31 < recipe.epochs * recipe.count_steps(4, 4) * 0.31 <= 300
    # A rehearsal has as few steps as any other.
    recipe = _plan(images, "a", Scale(share=0.01), time=_TIME).recipe
    assert recipe.epochs * recipe.count_steps(4, 4) == 10


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"time": _TIME | {"steps": {"isic": {"a": 1.0}}}}, "time.steps: row 'b' on 'isic' has no seconds of a step"),
        (
            {"time": _TIME, "datasets": [_TREE["datasets"][0] | {"steps": 5}]},
            "time: dataset 'isic' has steps already; give one of them",
        ),
        ({"datasets": [_TREE["datasets"][0] | {"preset": "isic"}]}, "dataset 'isic': give a preset or a setting"),
        (
            {"datasets": [_TREE["datasets"][0] | {"setting": _SETTING | {"patch_size": [8, 8, 8]}}]},
            "patch_size: give 2 numbers for 2 axes",
        ),
        ({"rows": [{"key": "c", "title": "C", "members": ["a"], "plan": {"batch_size": 2}}]}, "members have their own"),
        ({"rows": [_TREE["rows"][0] | {"plans": {}}]}, "rows.0.plans: is not a key of a protocol: did you mean 'plan'"),
    ],
)
def test_a_protocol_that_contradicts_itself_is_refused(tree: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        parse_protocol(_TREE | tree, "mine.json")
    assert "\n" not in str(caught.value)


def test_one_fold_holds_out_what_a_training_holds_out(images: Path) -> None:
    data = open_dataset(images)
    options: dict[str, Any] = {"folds": 1, "seed": 0, "console": SILENT}
    (part,) = divide(data, most=None, tested=True, share=0.3, **options)
    assert sorted((*part.train, *part.val, *part.test)) == sorted(data.names)
    assert len(part.test) == 2
    assert part.val
    (without,) = divide(data, most=None, tested=False, share=None, **options)
    assert not without.test
    assert sorted((*without.train, *without.val)) == sorted(set(data.names) - set(data.declared_test))
    (few,) = divide(data, most=4, tested=False, share=None, **options)
    assert len((*few.train, *few.val)) == 4
    assert few.train
    assert few.val


def test_comparisons_are_for_compare_and_not_for_reproduce(tmp_path: Path) -> None:
    assert not set(list_comparisons()) & set(list_protocols())
    with pytest.raises(InputError, match="evidence/layer: is in no paper: run 'deconvseg compare evidence/layer'"):
        reproduce("evidence/layer", tmp_path / "table")
    with pytest.raises(InputError, match="hippocampus, isic2018_256: not in .* `datasets`|not in"):
        compare("evidence/layer", tmp_path / "table", data=tmp_path)
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("name", list_comparisons())
def test_every_comparison_is_one_to_make(name: str) -> None:
    protocol = read_protocol(name)
    assert protocol.key == name
    assert Protocol.model_validate_json(protocol.model_dump_json()) == protocol
    assert protocol.reference in [row.key for row in protocol.rows]
    assert protocol.published is None
    whole, small, seen = Scale(), Scale(share=0.01), set()
    for dataset in protocol.datasets:
        preset = preset_of(dataset)
        for row in protocol.rows:
            steps = protocol.steps_of(row, dataset)
            assert steps is not None
            assert steps >= 100
            model, arguments = find_network(row, preset, row.key)
            arguments, patch = small.network(model, arguments), tuple(row.plan.get("patch_size", preset.patch_size))
            if (key := repr((model, sorted(arguments.items()), patch))) in seen:
                continue
            seen.add(key)
            with torch.device("meta"):
                multiple = create_model(model, **arguments).size_multiple
            for scale in (whole, small):
                assert all(size % step == 0 for size, step in zip(scale.size(patch), multiple, strict=True)), row.key
