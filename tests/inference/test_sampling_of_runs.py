"""Where a run samples an image: what its own network does there, in the whole image or a window around the mask."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import nn

from deconvseg import load_network, predict
from deconvseg.cli import main
from deconvseg.data import preprocess_image, read_image, read_label_map
from deconvseg.errors import InputError
from deconvseg.inference import map_sampling
from deconvseg.models import create_model
from deconvseg.nn import DTC, DySample
from deconvseg.ops.deformable_upsample.reference import positions
from deconvseg.runs import Run
from plans import tiny_plan, volume_run


def _shake(run: Path) -> Path:
    """Give every layer of offsets weights that move the positions."""
    opened = Run.open(run)
    network = create_model(opened.plan.model.name, **opened.plan.model.config)
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, DTC | DySample):
            nn.init.normal_(module.coordinates.weight, std=0.3)
    opened.save_weights(network.state_dict())
    return run


def _config(dims: int, upsampling: object, outputs: int = 2) -> dict[str, object]:
    sizes = {"in_channels": 1, "out_channels": outputs, "spatial_dims": dims, "widths": [4, 8, 8]}
    return {"name": "deconver", "config": {**sizes, "kernel_size": 3, "upsampling": upsampling}}


@pytest.fixture(scope="module", params=["dtc+linear", "dysample"])
def flat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flat") / "run"
    Run.create(folder, tiny_plan(model=_config(2, request.param)), {}, {"train": [], "val": [], "test": []})
    torch.manual_seed(0)
    return _shake(folder)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _shake(volume_run(tmp_path_factory.mktemp("deep") / "run", model=_config(3, "dtc+transposed", 3)))


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).normal(size=(14, 18, 20)).astype(np.float32)
    pixels[3:9, 4:10, 12:18] += 4
    path = tmp_path_factory.mktemp("volumes") / "scan.nii.gz"
    # The axes of the file run to the left, to the back and to the feet.
    nib.save(nib.Nifti1Image(pixels, np.diag([-1.0, -1.0, -1.0, 1.0])), path)
    return path


def _picture(path: Path, height: int, width: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    PillowImage.fromarray(pixels).save(path)
    return path


def _watched(network: nn.Module, pixels: torch.Tensor) -> dict[str, np.ndarray]:
    """Run a network on (C, *S) and return the positions of its learned upsamplings by path."""
    found = {}
    for path, module in network.named_modules():
        if isinstance(module, DTC | DySample):

            def keep(module: nn.Module, args: tuple[torch.Tensor, ...], path: str = path) -> None:
                predicted = module.predict(args[0])
                offsets, weights = predicted if isinstance(predicted, tuple) else (predicted, None)
                where = positions(offsets, weights, args[0].shape[2:], module.scale, module.receptive_field)
                found[path] = torch.stack(where, dim=1).numpy()

            module.register_forward_pre_hook(keep)
    with torch.no_grad():
        network(pixels[None])
    return found


def test_a_picture_is_seen_whole_and_the_positions_are_those_of_the_network(flat: Path, tmp_path: Path) -> None:
    path = _picture(tmp_path / "image.png", 40, 48)
    seen = preprocess_image(read_image(path), (1.0, 1.0), Run.open(flat).plan.normalisations).pixels
    expected = _watched(load_network(flat, "final", device="cpu"), torch.from_numpy(seen))
    for stage, layer in enumerate(expected, start=1):
        drawn = map_sampling(flat, path, stage=stage)
        assert drawn.layer == layer
        np.testing.assert_allclose(drawn.positions, expected[layer], atol=1e-5)
    assert map_sampling(flat, path).layer == list(expected)[-1]
    assert drawn.displacement.max() > 0.01
    np.testing.assert_array_equal(drawn.image, read_image(path).pixels)
    predict(path, flat, tmp_path / "masks", device="cpu")
    np.testing.assert_array_equal(drawn.mask, read_label_map(tmp_path / "masks" / "image.png").pixels > 0)


def test_a_picture_of_another_size_is_padded_on_both_sides(flat: Path, tmp_path: Path) -> None:
    path = _picture(tmp_path / "image.png", 38, 48)
    drawn = map_sampling(flat, path)
    assert drawn.image.shape == (1, 40, 48)
    np.testing.assert_array_equal(drawn.image[:, 1:-1], read_image(path).pixels)
    assert not drawn.image[:, [0, -1]].any()
    seen = preprocess_image(read_image(path), (1.0, 1.0), Run.open(flat).plan.normalisations).pixels
    padded = torch.nn.functional.pad(torch.from_numpy(seen), (0, 0, 1, 1))
    expected = _watched(load_network(flat, "final", device="cpu"), padded)
    np.testing.assert_allclose(drawn.positions, expected[drawn.layer], atol=1e-5)


def test_a_volume_is_seen_in_a_window_around_the_mask(deep: Path, volume: Path, tmp_path: Path) -> None:
    predict(volume, deep, tmp_path / "masks", device="cpu")
    mask = read_label_map(tmp_path / "masks" / "scan.nii.gz").canonical().pixels > 0
    whole = preprocess_image(read_image(volume), (1.0,) * 3, Run.open(deep).plan.normalisations).pixels
    own = read_image(volume).canonical().pixels
    for slice in (None, 4, 19):
        drawn = map_sampling(deep, volume, slice=slice)
        assert drawn.image.shape == (1, 8, 8, 8)
        level = int(drawn.title.rpartition(" ")[2])
        assert slice in (None, level)
        counts = np.count_nonzero(mask, axis=(0, 1))
        assert slice is not None or counts[level] == counts.max()
        corner = [start for start in np.ndindex(7, 11, 13) if np.array_equal(own[_box(start)], drawn.image)]
        assert len(corner) == 1
        assert corner[0][2] + drawn.slice == level
        np.testing.assert_array_equal(drawn.mask, mask[_box(corner[0])[1:]])
        expected = _watched(load_network(deep, "final", device="cpu"), torch.from_numpy(whole[_box(corner[0])]))
        np.testing.assert_allclose(drawn.positions, expected[drawn.layer], atol=1e-5)


def _box(start: tuple[int, ...]) -> tuple[slice, ...]:
    return (slice(None), *(slice(first, first + 8) for first in start))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"slice": 3}, r"`slice=3`: .*image.png is a 2D image, which has none"),
        ({"stage": 3}, r"`stage=3`: the model has learned upsamplings at 2 stages, 1 the lowest resolution \(decoder"),
        ({"weights": "last"}, "weights 'last' is unknown"),
        ({"case": "other"}, "has no cases other"),
    ],
)
def test_what_a_picture_does_not_have_is_refused(
    flat: Path, tmp_path: Path, options: dict[str, object], told: str
) -> None:
    path = _picture(tmp_path / "image.png", 40, 48)
    with pytest.raises(InputError, match=told):
        map_sampling(flat, path, **options)  # type: ignore[arg-type]


def test_the_recipe_chooses_the_weights(flat: Path, tmp_path: Path) -> None:
    """As in a prediction, without the option."""
    best = Run.open(shutil.copytree(flat, tmp_path / "run"))
    best.save_weights({key: value * 2 for key, value in best.load_weights().items()}, "weights_best")
    chosen = json.loads((best.path / "plan.json").read_text())
    chosen["recipe"]["weights"] = "best"
    (best.path / "plan.json").write_text(json.dumps(chosen))
    path = _picture(tmp_path / "image.png", 40, 48)
    found = [map_sampling(best.path, path, weights=weights).positions for weights in (None, "best", "final")]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_a_slice_outside_the_volume_and_several_images_are_refused(deep: Path, volume: Path, trained: Path) -> None:
    with pytest.raises(InputError, match=r"`slice=20`: .*scan.nii.gz has the slices 0 to 19"):
        map_sampling(deep, volume, slice=20)
    two = volume.parent / "two"
    two.mkdir()
    for name in ("a.png", "b.png"):
        _picture(two / name, 40, 48)
    with pytest.raises(InputError, match=r"two: 2 images; give one \(`case`, or its file\)"):
        map_sampling(trained, two)
    with pytest.raises(InputError, match="no upsampling with learned positions"):
        map_sampling(trained, two, case="b")


def test_the_command_writes_the_picture_and_names_the_layer(
    flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _picture(tmp_path / "image.png", 40, 48)

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["deconvseg", "sampling", "-m", str(flat), "-i", str(path), *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    assert run("-o", str(tmp_path / "pictures" / "seen.png"), "--stage", "1") == 0
    assert capsys.readouterr().out.startswith("decoder.0.upsampling")
    with PillowImage.open(tmp_path / "pictures" / "seen.png") as written:
        assert written.width > 4 * written.height / 2
    assert run("-o", str(tmp_path / "seen.jpg")) == 2
    assert "give a name that ends in .png, .pdf or .svg" in capsys.readouterr().err


def test_a_network_with_other_axes_is_refused(volume: Path, tmp_path: Path) -> None:
    config = _config(3, "dtc+transposed", 3)
    run = volume_run(tmp_path / "run", model=config, axes={"orientation": "stored", "order": [2, 1, 0]})
    with pytest.raises(InputError, match=r"sees volumes with the axes .*\[?\(?2, 1, 0.* of canonical axes only"):
        map_sampling(run, volume)
