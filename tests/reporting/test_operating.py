"""The report's sections on thresholds and doubt."""

import json
import shutil
from pathlib import Path

import pytest

from deconvseg.evaluation import OperatingPoints, read_operating_points
from deconvseg.evaluation.threshold import choose_threshold
from deconvseg.reporting import write_report
from deconvseg.reporting.operating import draw_operating_points, threshold_sections


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def points_of(run: Path) -> OperatingPoints:
    points = read_operating_points(run)
    assert points is not None
    return points


def test_a_page_shows_the_points_and_what_was_chosen(run: Path) -> None:
    choose_threshold(run, 0.25)
    page = write_report(run).read_text()
    points = points_of(run)
    assert "Chosen for <code>predict</code>: 0.25 (set by hand)." in page
    curve = points.structures[0].curve
    row = page[page.index("<th>0.25</th>") :].partition("</tr>")[0]
    for cell in (curve.dice[24], curve.sensitivity[24], curve.precision[24]):
        assert f"<td>{cell:.3f}</td>" in row
    assert "chosen" in row
    assert 'id="doubt-1"' in page
    for name, score in points.doubts.items():
        assert f"<th>{name}</th><td>{score:.3f}</td>" in page


def test_lines_of_the_figure_are_the_columns_and_marks(run: Path) -> None:
    points = points_of(run)
    (structure,) = points.structures
    figure = draw_operating_points(points, structure, 0.3)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["Dice (mean over cases)"].get_ydata()) == list(structure.curve.dice)
    assert list(lines["sensitivity (all voxels)"].get_xdata()) == list(points.thresholds)
    assert set(lines["chosen 0.3"].get_xdata()) == {0.3}
    assert "default 0.5" in lines
    assert len(figure.axes) == 1
    many = structure.model_copy(update={"cases_with_truth": 0})
    assert many.many_lesions
    several = draw_operating_points(points, many, None)
    assert {line.get_label() for line in several.axes[1].lines} >= {"lesions found", "precision of lesions"}


def test_a_run_of_an_earlier_version_has_a_page_without_them(run: Path) -> None:
    (run / "operating_points.json").unlink()
    records = run / "validation" / "predictions.jsonl"
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    without = [{key: line[key] for key in line if key not in ("doubt", "threshold")} for line in lines]
    records.write_text("".join(json.dumps(line) + "\n" for line in without))
    page = write_report(run).read_text()
    assert 'id="thresholds"' not in page
    assert 'id="doubt-1"' not in page


@pytest.mark.parametrize("name", ["operating_points.json", "threshold.json"])
def test_a_damaged_file_is_said_on_the_page(run: Path, name: str) -> None:
    (run / name).write_text("{")
    (section,) = threshold_sections(run)
    assert name in section.content["problem"]
    assert name in write_report(run).read_text()


def test_damaged_records_have_no_doubt(run: Path) -> None:
    records = run / "validation" / "predictions.jsonl"
    lines = records.read_text().splitlines()
    entry = json.loads(lines[0])
    entry["doubt"]["score"] = "<script>"
    records.write_text("\n".join(["{", "[1]", json.dumps(entry), lines[1]]))
    page = write_report(run).read_text()
    assert page.count('<table class="numbers sortable">') >= 1
    assert "All 1 case, the most doubtful first" in page


def test_the_last_record_of_a_mask_says_its_doubt(run: Path) -> None:
    records = run / "validation" / "predictions.jsonl"
    lines = records.read_text().splitlines()
    # As an earlier version records a mask that it predicts again.
    without = {key: value for key, value in json.loads(lines[0]).items() if key != "doubt"}
    records.write_text("\n".join([*lines, json.dumps(without)]) + "\n")
    assert "All 1 case, the most doubtful first" in write_report(run).read_text()


def test_masks_of_a_bids_derivative_have_their_doubt(run: Path) -> None:
    folder = run / "validation"
    (folder / "sub-01" / "anat").mkdir(parents=True)
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for each in metrics["cases"]:
        name = Path(each["prediction_file"]).name
        (folder / name).rename(folder / "sub-01" / "anat" / name)
        each["prediction_file"] = str(Path(each["prediction_file"]).with_name("sub-01") / "anat" / name)
    for line in lines:
        line["mask"] = f"sub-01/anat/{line['mask']}"
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "All 2 cases, the most doubtful first" in write_report(run).read_text()
