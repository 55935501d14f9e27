"""A reader with the contract alone makes the masks of `predict`: NumPy on one side, the package on the other."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deconvseg.catalog
from deconvseg.data import Geometry, Image, LabelMap, Region
from deconvseg.errors import InputError
from deconvseg.inference import Postprocessing, Predictor, apply, make_step
from deconvseg.integrations import Contract, read_contract
from deconvseg.integrations.onnx import run_onnx
from deconvseg.planning import Plan
from variants import NESTED, OBLIQUE, VARIANTS, contract_of, networks_of, plan_of, scan


def masks(plan: Plan, image: Image, count: int = 1, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The masks of the package, and of the script, which sees the contract as JSON alone."""
    networks = networks_of(plan, count)
    predictor = Predictor([(network, plan) for network in networks], **options)
    contract = json.loads(contract_of(predictor, count).model_dump_json())

    def run(windows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits: np.ndarray = torch.cat([each(torch.from_numpy(windows)) for each in networks], 1).numpy()
        return logits

    affine = image.geometry.affine if plan.spatial_dims == 3 else None
    return predictor.segment(image, note=lambda text: None).pixels, run_onnx.segment(
        image.pixels, affine, contract, run
    )


def assert_equal(made: tuple[np.ndarray, np.ndarray], values: int = 3) -> None:
    ours, theirs = made
    assert len(np.unique(ours)) >= values
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_volume_gets_the_mask_of_predict(name: str) -> None:
    changes, count, options = VARIANTS[name]
    image = Image(scan((14, 19, 11)), Geometry(OBLIQUE))
    assert_equal(masks(plan_of(3, **changes), image, count, **options))


@pytest.mark.parametrize("name", ["usual", "crop margin", "normalised first", "mirrored", "regions of two"])
def test_a_picture_gets_the_mask_of_predict(name: str) -> None:
    changes, count, options = VARIANTS[name]
    changes = {key: value for key, value in changes.items() if key not in ("spacing", "patch_size", "resize")}
    image = Image(scan((31, 26)), Geometry.identity(2))
    assert_equal(masks(plan_of(2, **changes), image, count, **options))


@pytest.mark.parametrize("count", [1, 2])
def test_two_classes_with_a_threshold_are_decided_by_their_margin(count: int) -> None:
    plan = plan_of(3, labels={"values": [0, 255], "names": ["background", "disc"]})
    image = Image(scan((14, 19, 11)), Geometry(OBLIQUE))
    assert_equal(masks(plan, image, count, threshold=0.3), 2)


@pytest.mark.parametrize("crop", [False, True])
def test_an_image_of_zeros_gets_the_mask_of_predict(crop: bool) -> None:
    plan = plan_of(3, crop_to_nonzero=crop, crop_margin=1)
    image = Image(np.zeros((2, 9, 8, 10), np.float32), Geometry(OBLIQUE))
    ours, theirs = masks(plan, image)
    np.testing.assert_array_equal(ours, theirs)


def test_post_processing_is_part_of_the_mask() -> None:
    plan = plan_of(3, regions=NESTED)
    steps = tuple(make_step("keep_largest", part, plan.structures) for part in plan.structures)
    noise = np.random.default_rng(0).normal(size=(2, 14, 19, 11)).astype(np.float32)
    image = Image(noise, Geometry(OBLIQUE))
    plain, _ = masks(plan, image, threshold=0.6)
    made = masks(plan, image, threshold=0.6, postprocessing=Postprocessing(steps=steps))
    assert (made[0] != plain).any()
    assert_equal(made)


STRUCTURES = [Region("whole", (1, 2, 5), 1), Region("core", (2, 5), 2), Region("other", (3,), 3)]


@given(
    st.sampled_from([(6, 9), (5, 6, 4), (1, 7, 3)]),
    st.lists(
        st.tuples(st.sampled_from(["keep_largest", "remove_small", "fill_holes"]), st.sampled_from(STRUCTURES)),
        min_size=1,
        max_size=4,
    ),
    st.floats(0.2, 0.9),
    st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_the_script_post_processes_as_the_package(
    shape: tuple[int, ...], chosen: list[tuple[Any, Region]], empty: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.choice([0, 1, 2, 3, 5], size=shape, p=[empty, *[(1 - empty) / 4] * 4])
    steps = tuple(
        make_step(name, structure, STRUCTURES, minimum_volume=4.5 if name == "remove_small" else None)
        for name, structure in chosen
    )
    geometry = Geometry(np.diag([1.0, 1.5, 0.7, 1.0]) if len(shape) == 3 else np.eye(3))
    expected = apply(Postprocessing(steps=steps), LabelMap(pixels.copy(), geometry)).pixels
    tree = [json.loads(step.model_dump_json()) for step in steps]
    run_onnx.postprocess(pixels, tree, geometry.spacing)
    np.testing.assert_array_equal(pixels, expected)


def test_the_published_schema_is_that_of_the_contract() -> None:
    file = resources.files(deconvseg.catalog).joinpath("contract.schema.json")
    assert json.loads(file.read_text(encoding="utf-8")) == Contract.model_json_schema()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A contract beside its model, which has other bytes than the contract says."""
    plan = plan_of(2)
    contract_of(Predictor([(networks_of(plan, 1)[0], plan)]), 1).write(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"a model")
    return tmp_path


def test_a_changed_model_is_refused(written: Path) -> None:
    with pytest.raises(InputError, match="model.onnx is not the file of contract.json"):
        read_contract(written)
    (written / "model.onnx").unlink()
    with pytest.raises(InputError, match="model.onnx is missing"):
        read_contract(written)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("surplus", 1, "surplus: is not a key of a contract"),
        ("version", 2, "version: "),
        ("decision", {"kind": "eval"}, "decision.kind: "),
        ("model", {"file": "../model.onnx"}, "model.file: "),
    ],
)
def test_a_wrong_contract_is_refused_in_one_line(written: Path, key: str, value: Any, told: str) -> None:
    file = written / "contract.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree[key] = {**tree[key], **value} if isinstance(value, dict) else value
    file.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_contract(file)
    assert f"contract.json: {told}" in str(error.value)
    assert "\n" not in str(error.value)
