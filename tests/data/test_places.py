"""Names of files in what is shared."""

from pathlib import Path

import pytest

from deconvseg.data import find_beside, name_beside


def test_names_lead_back_to_the_file_and_move_with_it(tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    for folder in (run, data):
        folder.mkdir()
    assert name_beside(data / "a.png", run) == "../data/a.png"
    assert name_beside(run / "masks" / "a.png", run) == "masks/a.png"
    for file in (data / "a.png", run / "masks" / "a.png"):
        assert find_beside(name_beside(file, run), run) == file
    assert find_beside(str(data / "a.png"), run) == data / "a.png"
    assert find_beside("../data/a.png", Path(tmp_path.rename(tmp_path.with_name("moved"))) / "run").parts[-3] == "moved"


def test_a_link_keeps_its_name_and_a_linked_folder_leads_back_too(tmp_path: Path) -> None:
    (tmp_path / "deep" / "run").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "deep" / "run")
    (tmp_path / "a.png").write_text("a")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    name = name_beside(tmp_path / "link.png", tmp_path / "run")
    assert name == "../../link.png"
    assert find_beside(name, tmp_path / "run") == tmp_path / "link.png"
    assert find_beside(name, tmp_path / "deep" / "run") == tmp_path / "link.png"


def test_no_name_tells_whose_home_a_file_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    name = name_beside(home / "data" / "a.png", tmp_path / "scratch")
    assert name == "~/data/a.png"
    assert find_beside(name, tmp_path / "scratch") == home / "data" / "a.png"
    assert name_beside(home / "data" / "a.png", home / "run") == "../data/a.png"
