"""The page of the experiments is made from their records."""

import importlib.util
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

from deconvseg.experiments import list_comparisons, read_protocol
from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.records import define
from deconvseg.experiments.protocols.scaling import Scale

_DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evidence", _DOCS / "evidence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _record(folder: Path, row: str, scores: list[list[float]]) -> None:
    """Write records of a row of the layer experiment on the hippocampus: the Dice of each case by seed."""
    protocol = read_protocol("evidence/layer")
    places = {"root": "", "splits": "", "output": "", "scale": asdict(Scale()), "values": {}}
    for seed, values in enumerate(scores):
        cell = Cell(
            protocol=protocol.model_dump(mode="json"),
            row=row,
            dataset="hippocampus",
            seed=seed,
            weights=protocol.weights,
            **places,
        )
        with (folder / "hippocampus-cells.csv").open("a") as file:
            file.write(f"{row},{seed},0,900,686451,66.9,360,Some CPU,1,2.13.0,0.1.0,abc,{define(cell)}\n")
        with (folder / "hippocampus-cases.csv").open("a") as file:
            file.writelines(f"{row},{seed},0,case{number},{value},2.5\n" for number, value in enumerate(values))


def test_figures_of_the_page_are_those_of_the_records(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    assert not list(page.experiments())
    folder = tmp_path / "layer"
    folder.mkdir()
    heads = "steps,parameters,kflops,seconds,processor,threads,torch,version,commit,definition"
    (folder / "hippocampus-cells.csv").write_text(f"row,seed,fold,{heads}\n")
    (folder / "hippocampus-cases.csv").write_text("row,seed,fold,case,dsc,hd95\n")
    base = [80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0]
    _record(folder, "ndc", [[value + shift for value in base] for shift in (-1, 0, 1)])
    _record(folder, "none", [[value + 2 + shift for value in base] for shift in (-2, 0, 2)])
    _record(folder, "depthwise", [base])
    (folder / "reading.md").write_text("What a person says.\n")
    text = page.render(list(page.experiments()))
    assert "| NDC, as it is | 686,451 | 66.9 | 900 | 50.00 | 1.00 |" in text
    assert "| 7 | reference | – | – |" in text
    # A constant difference of seven cases: p is 2 / 2^7, and there is one other finished row.
    assert "| No update | 686,451 | 66.9 | 900 | 52.00 | 2.00 |" in text
    assert "| +2.00 (+2.00 to +2.00) | 0.016 | 0.016 |" in text
    assert "| Depthwise, equal cost | 686,451 | 66.9 | 900 | seeds 1, 2 are not recorded |" in text
    assert "What a person says." in text
    assert "7 trainings, 0.7 core-hours" in text
    assert "Some CPU, 1 thread" in text
    assert "commits abc" in text
    assert "Networks in equal time" not in text


def test_the_page_asks_a_question_for_each_comparison(page: ModuleType) -> None:
    assert {f"evidence/{name}" for name in page.QUESTIONS} == set(list_comparisons())


def test_the_published_page_is_that_of_the_records(page: ModuleType) -> None:
    found = list(page.experiments())
    assert page.PAGE.is_file() == bool(found)
    assert not found or page.PAGE.read_text(encoding="utf-8") == page.render(found)
