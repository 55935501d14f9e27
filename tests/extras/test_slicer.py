"""The logic of the module of 3D Slicer, with SimpleITK and NumPy in place of a scene; Slicer itself is not run."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from deconvseg import predict
from deconvseg.data import default_colour
from plans import volume_run

FILE = Path(__file__).parents[2] / "extras" / "slicer" / "DeconvSegmentation.py"
COMMAND = str(Path(sys.executable).with_name("deconvseg"))


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """The file, imported as Slicer does, by its path."""
    spec = importlib.util.spec_from_file_location("DeconvSegmentation", FILE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def write_scan(folder: Path, names: list[Path]) -> sitk.Image:
    """Channels as Slicer writes them: NRRD, oblique, in LPS."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for path in names:
        image = sitk.GetImageFromArray(rng.normal(size=(9, 14, 12)).astype(np.float32))
        image.SetSpacing((1.0, 0.8, 2.5))
        image.SetOrigin((-3.0, 7.0, 11.0))
        image.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
        sitk.WriteImage(image, str(path))
    return image


def test_a_scan_becomes_a_segmentation_with_names_and_colours(module: ModuleType, tmp_path: Path) -> None:
    run = volume_run(tmp_path / "run", colours={"a": "#ff8000"})
    logic, said = module.DeconvSegmentationLogic(COMMAND), []
    names = logic.name_channels(tmp_path / "scans", 1)
    scan = write_scan(tmp_path / "scans", names)
    mask = logic.segment(tmp_path / "scans", tmp_path / "masks", str(run), ["--no-crop"], said.append)
    assert mask.name == "scan.seg.nrrd"
    assert any("1 mask written" in line for line in said)
    found = sitk.ReadImage(str(mask))
    assert found.GetSize() == scan.GetSize()
    np.testing.assert_allclose(found.GetDirection(), scan.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(found.GetOrigin(), scan.GetOrigin(), atol=1e-6)
    first, second = logic.read_segments(mask)
    assert (first.value, first.name) == (5, "a")
    np.testing.assert_allclose(first.colour, (1, 128 / 255, 0), atol=1e-3)
    assert (second.value, second.name) == (300, "b")
    expected = predict(names[0], run, tmp_path / "ours", crop=False).written[0]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(sitk.ReadImage(str(expected))))


@pytest.mark.slow
def test_several_volumes_are_the_channels_of_one_scan(module: ModuleType, tmp_path: Path) -> None:
    config = {"in_channels": 2, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    channels = [{"name": "T1"}, {"name": "T2"}]
    run = volume_run(tmp_path / "run", channels=channels, model={"name": "deconver", "config": config})
    logic = module.DeconvSegmentationLogic(COMMAND)
    names = logic.name_channels(tmp_path / "scans", 2)
    assert [path.name for path in names] == ["scan_0000.nrrd", "scan_0001.nrrd"]
    write_scan(tmp_path / "scans", names)
    mask = logic.segment(tmp_path / "scans", tmp_path / "masks", str(run), tell=lambda line: None)
    assert [segment.name for segment in logic.read_segments(mask)] == ["a", "b"]


def test_classes_without_a_colour_have_those_of_the_reports(module: ModuleType, tmp_path: Path) -> None:
    assert [f"#{colour}" for colour in module.COLOURS] == [default_colour(n) for n in range(len(module.COLOURS))]
    (tmp_path / "mask.seg.nrrd").write_bytes(
        b"NRRD0004\nSegment0_Name:=liver\nSegment0_LabelValue:=2\n\nSegment1_Name:=in the voxels"
    )
    (only,) = module.DeconvSegmentationLogic().read_segments(tmp_path / "mask.seg.nrrd")
    assert (only.value, only.name) == (2, "liver")
    np.testing.assert_allclose(only.colour, (0x56 / 255, 0xB4 / 255, 0xE9 / 255))


@pytest.mark.slow
def test_what_the_command_says_is_the_error(module: ModuleType, tmp_path: Path) -> None:
    logic = module.DeconvSegmentationLogic(COMMAND)
    write_scan(tmp_path / "scans", logic.name_channels(tmp_path / "scans", 1))
    with pytest.raises(module.PredictionError, match="nowhere does not exist"):
        logic.segment(tmp_path / "scans", tmp_path / "masks", str(tmp_path / "nowhere"), tell=lambda line: None)


def test_a_missing_command_is_named(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(module.PredictionError, match="no-such-command is not found; give the path"):
        module.DeconvSegmentationLogic("no-such-command").segment(tmp_path, tmp_path, "RUN")


def test_the_command_does_not_inherit_the_python_of_slicer(module: ModuleType) -> None:
    given = {"PYTHONHOME": "/slicer", "LD_LIBRARY_PATH": "/slicer/lib", "HOME": "/home/reader"}
    assert module.DeconvSegmentationLogic(environment=given).environment == {"HOME": "/home/reader"}
