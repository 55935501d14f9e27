"""The model of a reproduced table: JSON both ways, and what it refuses."""

import json

import pytest

from deconvseg.errors import InputError
from deconvseg.reporting import TableResult, read_results, write_results
from deconvseg.reporting.results import ResultCell
from result_tables import make_result


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = make_result()
    files = write_results(result, tmp_path / "new" / "folder")
    assert files[0] == tmp_path / "new" / "folder" / "result.json"
    assert read_results(files[0]) == read_results(tmp_path / "new" / "folder") == result
    assert result.cell("deconver", "fives/dsc").published.value == 92.72
    assert result.cell("deconver", "other") is None
    assert result.datasets == ("GlaS", "FIVES")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(colour="red"), "colour: Extra inputs"),
        (lambda t: t.update(title=3), "title: Input should be a valid string"),
        (lambda t: t["columns"].append(t["columns"][0]), "two columns have the key 'glas/dsc'"),
        (lambda t: t["rows"].append(t["rows"][0]), "two rows have the key 'nnunet'"),
        (lambda t: t["rows"][0]["cells"][0].update(column="x"), "'nnunet' has a cell of 'x', which is no column"),
        (lambda t: t["rows"][0]["cells"].append(t["rows"][0]["cells"][0]), "'nnunet' has two cells of a column"),
        (lambda t: t.update(reference="x"), "the reference 'x' is no row"),
        (lambda t: t["rows"][0]["cells"][0].update(status="maybe"), "rows.0.cells.0.status: Input should be 'done'"),
        (lambda t: t["rows"][0]["cells"][0].update(folds=[]), "glas/dsc is done but has no scores of folds"),
        (lambda t: t["rows"][1]["cells"][0].update(reason=""), "the cell of glas/dsc is failed and has no reason"),
        (lambda t: t.update(version=2), "version: Input should be 1"),
    ],
)  # fmt: skip
def test_another_tree_is_refused_by_its_place(tmp_path, change, message):
    tree = json.loads(json.dumps(make_result().to_json()))
    change(tree)
    file = tmp_path / "result.json"
    file.write_text(json.dumps(tree))
    with pytest.raises(InputError) as error:
        read_results(file)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_score_is_a_finite_number_or_none():
    with pytest.raises(ValueError, match="finite"):
        ResultCell(column="x", status="done", folds=({"fold": 0, "value": float("nan")},))
    assert TableResult.parse(make_result().to_json(), "x").rows[0].cells[0].folds[0].value is not None
