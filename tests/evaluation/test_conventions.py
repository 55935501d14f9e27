"""The table of conventions: ours are those that the documentation says they are."""

import runpy
import warnings
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "metric_conventions.py"


@pytest.mark.filterwarnings("ignore")
def test_ours_are_monais_hd95_and_the_nsd_of_surface_distance():
    script = runpy.run_path(str(SCRIPT))
    pairs = dict(script["make_pairs"]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = {name: {key: script["measure"](key, pair) for key in script["COLUMNS"]} for name, pair in pairs.items()}
    for row in rows.values():
        assert row["HD95"] == row["MONAI"]
        assert row["ASSD"] == row["MONAI ASSD"]
        assert row["NSD"] == row["surface-distance NSD"]
    # What the document says differs does.
    assert any(row["HD95"] != row["surface-distance"] for row in rows.values())
    assert any(row["NSD"] != row["MONAI NSD"] for row in rows.values())
    document = (SCRIPT.parents[1] / "docs" / "explanation" / "evaluation.md").read_text(encoding="utf-8")
    for name, row in rows.items():
        (line,) = (line for line in document.splitlines() if line.startswith(f"| {name} |"))
        assert [cell.strip() for cell in line.split("|")[2:4]] == [row["HD95"], row["MONAI"]]
