"""The examples of the docstrings run as they stand, and what users call has one.

An example imports all that it uses. It runs in a folder of its own, in which it finds what ``place`` lists.
"""

import doctest
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

from plans import tiny_plan
from public_face import PublicName, distinct_names, page_of, public_modules

#: Registries that examples add to, which are restored after each.
REGISTRIES = (
    "deconvseg.losses.registry._LOSSES",
    "deconvseg.models.registry._BUILDERS",
    "deconvseg.nn.upsampling.registry._KINDS",
    "deconvseg.planning.fitting._FITTINGS",
    "deconvseg.runs.pretrained._PRETRAINED",
)

#: Headings of a page of the reference whose names need no example.
NO_EXAMPLES = ("What they return", "For the package itself")

#: Lines compare without their white space; an ellipsis stands for anything.
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples_of(name: PublicName) -> list[doctest.DocTest]:
    """The examples of a function, or of a class and its methods."""
    if not (inspect.isclass(name.value) or inspect.isfunction(name.value)):
        return []
    found = doctest.DocTestFinder(exclude_empty=True).find(name.value, name.path, module=False, globs={})
    return [test for test in found if test.examples]


def names_without_examples(module: str) -> set[str]:
    """What the reference says of a module to be received, or to serve other modules."""
    text = page_of(module).read_text(encoding="utf-8")
    parts = [part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(NO_EXAMPLES)]
    return {name for part in parts for name in re.findall(r"^(?:::: [\w.]+\.|\[`)(\w+)", part, re.MULTILINE)}


@pytest.fixture(scope="session")
def parts(discs: Path, balls: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What examples find in their folder, by its name there."""
    from deconvseg.inference import predict

    folder = tmp_path_factory.mktemp("parts")
    plan = tiny_plan(recipe={"epochs": 2, "steps_per_epoch": 2, "validate_every": 1})
    (folder / "plan.json").write_text(plan.model_dump_json(), encoding="utf-8")
    predict(discs / "images", trained, folder / "MASKS", device="cpu")
    return {
        "DATASET": discs,
        "SCANS": discs / "images",
        "TRUTH": discs / "masks",
        "VOLUMES": balls,
        "RUN": trained,
        "MASKS": folder / "MASKS",
        "plan.json": folder / "plan.json",
        "splits.json": discs / "splits.json",
        "image.png": discs / "images" / "disc0.png",
        "scan.nii.gz": balls / "imagesTr" / "ball0_0000.nii.gz",
        "truth.nii.gz": balls / "labelsTr" / "ball0.nii.gz",
    }


@pytest.fixture
def place(parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for an example.

    ``DATASET`` is a 2D dataset (8 grey PNG images of a disc, labels 0 and 255), ``SCANS`` and ``TRUTH`` its images and
    masks, ``RUN`` a run trained on it, ``MASKS`` the run's masks of it, ``VOLUMES`` a 3D dataset in nnU-Net's layout
    (5 cases, 2 channels, labels 0, 3, 7), ``scan.nii.gz`` a channel of its first case and ``truth.nii.gz`` its mask.
    ``plan.json`` is a plan for ``DATASET`` that trains in a second.
    """
    for name, target in parts.items():
        (tmp_path / name).symlink_to(target)
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, dict(pkgutil.resolve_name(registry)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [pytest.param(name, id=name.path) for name in distinct_names() if examples_of(name)])
def test_an_example_gives_what_it_shows(name: PublicName, place: Path) -> None:
    for test in examples_of(name):
        said: list[str] = []
        result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
        assert not result.failed, "".join(said)


@pytest.mark.parametrize("module", public_modules())
def test_what_users_call_has_an_example(module: str) -> None:
    excused = names_without_examples(module)
    own = [name for name in distinct_names() if name.module == module]
    without = {name.name for name in own if name.called and not examples_of(name)}
    assert without <= excused, f"{module}: write an `Example:` for {sorted(without - excused)}"
