"""What folds are to be alike in."""

from pathlib import Path

import pytest

from deconvseg.data import open_dataset
from deconvseg.errors import InputError
from deconvseg.experiments.strata import measure_strata
from deconvseg.training import Silent


def test_a_csv_dataset_is_its_own_table_by_its_own_names(tmp_path: Path) -> None:
    rows = "".join(f"{name}_0000.png,{name}_0001.png,{name}.png,{site}\n" for name, site in ("ax", "by"))
    path, table = tmp_path / "data.csv", tmp_path / "sites.csv"
    path.write_text(f"image_0,image_1,label,site\n{rows}")
    table.write_text("case,site\na,north\nb,south\n")
    data = open_dataset(path)

    def measure(chosen: Path | None) -> object:
        given = None if chosen is None else str(chosen)
        return measure_strata(data, stratify="site", table=given, root=str(path), console=Silent())

    assert measure(None) == measure(path) == {"a": "x", "b": "y"}
    assert measure(table) == {"a": "north", "b": "south"}


def test_without_a_column_folds_are_alike_in_foreground_volume(balls: Path) -> None:
    data = open_dataset(balls).select(["ball0", "ball3"])
    found = measure_strata(data, stratify=None, table=None, root=str(balls), console=Silent())
    # Voxels of 1 x 1 x 2 mm.
    assert found == {case.name: 2.0 * (data.load_label(case).pixels > 0).sum() for case in data.cases}
    with pytest.raises(InputError, match="as `table`"):
        measure_strata(data, stratify="site", table=None, root=str(balls), console=Silent())
